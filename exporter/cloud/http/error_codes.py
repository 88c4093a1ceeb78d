"""What an HTTP status and the cloud's own code and text mean: docs/api.md, section 4, as one table.

Pure data and one function. The HTTP status decides first, because MetaStudio's numbers have had
different meanings; ``APIG.`` and ``APIGW.`` are the same, leading zeros do not count.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, NamedTuple

from exporter.errors import ErrorKind

_CODE: Final = re.compile(r"(MSS|APIGW?|IAM)\.(\d{1,12})", re.IGNORECASE)

_REJECTED: Final = frozenset((400, 401, 403))
_REFUSED: Final = frozenset((401, 403))
_THROTTLED: Final = "throttled: lower rate_limit, or see who else calls this API"


class Remedy(Enum):
    """What one more attempt would need."""

    NONE = auto()
    NEW_CREDENTIAL = auto()
    """A new token or new temporary keys."""


class ErrorMeaning(NamedTuple):
    """What one refusal means, and what the operator can do about it."""

    kind: ErrorKind
    retryable: bool
    remedy: Remedy
    advice: str
    denied: bool
    """The credentials are good, but have no permission for what was asked."""


class _Rule(NamedTuple):
    """Applies when the code is one of ``codes`` or ``text`` is found, and the status fits."""

    advice: str
    kind: ErrorKind
    codes: str = ""
    text: str = ""
    statuses: frozenset[int] = frozenset()
    """Empty: any. An error inside an answer with status 200 fits every rule."""
    remedy: Remedy = Remedy.NONE
    retryable: bool = False
    denied: bool | None = None
    """``None``: by the status, as 403 is about permissions."""


_RULES: Final = (
    _Rule(
        "the access key is locked for 5 minutes after bad signatures: find who uses wrong keys",
        ErrorKind.AUTH,
        text=r"reach(ed)? the limit",
        statuses=_REFUSED,
        denied=False,
    ),
    _Rule(
        "clock or temporary keys expired: check NTP on this machine",
        ErrorKind.AUTH,
        text=r"signature.{0,60}expire|expired?.{0,20}signature|x-sdk-date|timestamp.{0,40}(expire|skew)",
        statuses=_REJECTED,
        remedy=Remedy.NEW_CREDENTIAL,
        denied=False,
    ),
    _Rule(
        "the token ended or is of another region: a new one is needed",
        ErrorKind.AUTH,
        codes="APIG.307 IAM.66 IAM.67 MSS.10008 MSS.20050023",
        text=r"token.{0,20}(expire|must be updated|is invalid)|invalid token|decrypt token fail",
        statuses=_REJECTED,
        remedy=Remedy.NEW_CREDENTIAL,
        denied=False,
    ),
    _Rule(
        "the token check failed inside the service",
        ErrorKind.SERVER,
        codes="MSS.21014 MSS.21016",
        remedy=Remedy.NEW_CREDENTIAL,
        retryable=True,
    ),
    _Rule(
        "no such access key, or it is disabled: check access_key",
        ErrorKind.AUTH,
        text=r"\bak\b.{0,60}not exist|get secretkey failed",
        statuses=_REFUSED,
        denied=False,
    ),
    _Rule(
        "check access key and secret key, and that the account is not in arrears",
        ErrorKind.AUTH,
        text=r"aksk signature fail",
        statuses=_REFUSED,
        denied=False,
    ),
    _Rule(
        "the project is not available: check project_id and arrears",
        ErrorKind.AUTH,
        codes="APIG.310",
        denied=True,
    ),
    _Rule(
        "this machine's address is not allowed: ask for an IP allow-list entry",
        ErrorKind.AUTH,
        codes="APIG.401 APIG.402 APIG.405",
        statuses=_REFUSED,
        denied=True,
    ),
    _Rule(
        "give the IAM user the permission MetaStudio ReadOnlyAccess",
        ErrorKind.AUTH,
        codes="APIG.302 APIG.304 APIG.306 APIG.802 IAM.2 IAM.3",
        statuses=_REFUSED,
        denied=True,
    ),
    _Rule(
        "check the credentials",
        ErrorKind.AUTH,
        codes="APIG.301 APIG.303 APIG.305 IAM.1",
        statuses=_REFUSED,
        denied=False,
    ),
    _Rule("check the credentials", ErrorKind.AUTH, codes="MSS.4", statuses=_REJECTED),
    _Rule(
        _THROTTLED,
        ErrorKind.THROTTLED,
        codes="APIG.308 IAM.12 MSS.47010004",
        retryable=True,
    ),
    _Rule("check region and endpoint", ErrorKind.CLIENT, codes="APIG.101 MSS.10003 MSS.10004"),
    _Rule("project_id does not belong to these credentials", ErrorKind.CLIENT, codes="MSS.10009"),
    _Rule(
        "the account must be topped up or the service switched on",
        ErrorKind.CLIENT,
        codes="MSS.20050039 MSS.20050053",
        text=r"arrears|欠费|insufficient.{0,12}balance",
        statuses=frozenset((400, 402, 403)),
    ),
    _Rule("", ErrorKind.CLIENT, codes="APIG.602 APIG.607", statuses=frozenset((400,))),
    _Rule("", ErrorKind.CLIENT, codes="APIG.501 APIG.502"),
    _Rule(
        "",
        ErrorKind.SERVER,
        codes="APIG.103 APIG.104 APIG.105 APIG.106 APIG.107",
        statuses=frozenset((400, 404, 500)),
        retryable=True,
    ),
)
"""First match wins."""

_INSIDE_200: Final = (
    ("MSS.1 MSS.2", ErrorKind.SERVER, True),
    ("MSS.3 MSS.10000002 MSS.10000003 APIG.602 APIG.607", ErrorKind.CLIENT, False),
    (" ".join(f"APIG.{n}" for n in (201, 202, 203, 601, *range(605, 614))), ErrorKind.SERVER, True),
)

_ADVICE: Final = {
    401: "check the credentials",
    403: "check the permissions of these credentials",
    404: "check region, endpoint and project_id",
    429: _THROTTLED,
    407: "the proxy wants a login: check HTTPS_PROXY",
}


def meaning_of(status: int, code: str, text: str) -> ErrorMeaning:
    """The meaning of one refusal; an unknown code is judged by its status alone."""
    number = normal(code)
    for rule, pattern, codes in _COMPILED:
        fits = not rule.statuses or status in rule.statuses or status == 200
        if fits and (number in codes or (pattern is not None and pattern.search(text))):
            denied = status == 403 if rule.denied is None else rule.denied
            return ErrorMeaning(rule.kind, rule.retryable, rule.remedy, rule.advice, denied)
    if status == 200:
        return _inside_200(number)
    kind, retryable = _by_status(status)
    return ErrorMeaning(kind, retryable, Remedy.NONE, _ADVICE.get(status, ""), denied=status == 403)


def normal(code: str) -> str:
    """``APIGW.0308`` -> ``APIG.308``; ``MSS.000000003`` -> ``MSS.3``; anything else unchanged."""
    match = _CODE.fullmatch(code)
    if not match:
        return code
    family = match[1].upper()
    return f"{'APIG' if family.startswith('APIG') else family}.{int(match[2])}"


def _by_status(status: int) -> tuple[ErrorKind, bool]:
    if status == 429:
        return ErrorKind.THROTTLED, True
    if status in _REFUSED:
        return ErrorKind.AUTH, False
    if status == 408:
        return ErrorKind.TIMEOUT, True
    if 300 <= status < 400:
        return ErrorKind.REDIRECT, False
    if 400 <= status < 500:
        return ErrorKind.CLIENT, False
    if status >= 500:
        return ErrorKind.SERVER, status not in (501, 505)
    return ErrorKind.DECODE, True


def _inside_200(number: str) -> ErrorMeaning:
    for codes, kind, retryable in _INSIDE_200:
        if number in codes.split():
            return ErrorMeaning(kind, retryable, Remedy.NONE, "", denied=False)
    return ErrorMeaning(ErrorKind.DECODE, True, Remedy.NONE, "", denied=False)


_COMPILED: Final = tuple(
    (rule, re.compile(rule.text, re.IGNORECASE) if rule.text else None, frozenset(rule.codes.split()))
    for rule in _RULES
)
