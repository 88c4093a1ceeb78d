"""``--save``: the answers as JSON lines, fit for a bug report, and for ``simulate --from``.

What is written is chosen field by field. Ids are hashed with a key that is made for the file and then lost.
Messages become templates, without any id that was seen; links and unknown fields are left out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any, Final

import msgspec

from exporter import __version__
from exporter.cloud import HttpAnswer, parse_http_date
from exporter.commands.doctor.asking import Pairs, Unanswered
from exporter.failures import template

FORMAT: Final = 1
_IDS: Final = ("job_id", "asset_id", "websocket_job_id")
_LABELS: Final = ("job_state", "job_type", "tts_service_enum")
_NUMBERS: Final = ("text_length",)
_TIMES: Final = ("create_since", "create_until")
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
"""What names a kind of job, as documented values do, and no person or thing."""
_TIME: Final = re.compile(r"[0-9TZ:+. -]{1,40}")
_CODE: Final = re.compile(r"((?:MSS|APIGW?)\.[0-9]{4,9})(?![0-9])")
_SHORTEST: Final = 8
_UNBROKEN: Final = r"[^\s\"'<>()（）,，;；]"
_DATE: Final = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}(?:[T ][0-9]{1,2}:[0-9:.]+(?:Z|[+-][0-9:]{4,6})?)?"
_PRIVATE: Final = tuple(
    (placeholder, re.compile(pattern))
    for placeholder, pattern in (
        ("<id>", r"[0-9A-Fa-f]{8}(?:[-_][0-9A-Fa-f]{4}){3}[-_][0-9A-Fa-f]{12}"),  # a UUID
        ("<time>", _DATE),
        (
            "<address>",
            r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?|(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}",
        ),
        ("<mail>", rf"{_UNBROKEN}+@{_UNBROKEN}+"),
        ("<url>", rf"[A-Za-z][A-Za-z0-9+.-]*://{_UNBROKEN}+"),
        ("<path>", rf"{_UNBROKEN}*(?:[/\\]|\?{_UNBROKEN}*=){_UNBROKEN}*\w{_UNBROKEN}*"),
        ("<name>", r"(?:[\w-]+\.)+[A-Za-z][A-Za-z0-9]{1,5}(?![\w-]|\.\w)"),  # of a host or a file
        # Ids, keys, certificates: letters and digits mixed, capitals inside a word, or longer than a word.
        ("<id>", r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8,}|[A-Za-z0-9+/=]{24,}"),
        ("<id>", r"(?=[A-Za-z]*[A-Z]{2})(?=[A-Za-z]*[a-z][A-Z])[A-Za-z]{8,}"),
        # Parts that are joined: two or more with digits, or four or more of four characters.
        ("<id>", r"(?:[A-Za-z]+[-_])?(?:[A-Za-z]*[0-9][A-Za-z0-9]*[-_])+[A-Za-z]*[0-9][A-Za-z0-9]*"),
        ("<id>", r"(?<![A-Za-z0-9])(?:[A-Za-z]+-)?(?:[A-Za-z0-9]{4}-){3,}[A-Za-z0-9]{4}(?![A-Za-z0-9])"),
        ("<id>", r"[A-Z]{16,}"),
        ("<number>", r"[0-9]{5,}"),
    )
)
"""What may name a person, a place or a thing, whatever the service writes into its messages."""


class AnswerFile:
    """Collects questions and answers; call it with each."""

    def __init__(self, region: str) -> None:
        self._key = secrets.token_bytes(32)
        self._region = region
        self._began: float | None = None
        self._lines: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        """Seen so far, whatever they look like; not those so short that they may be a word or a number."""

    def __call__(self, path: str, asked: Pairs, named_user: bool, answer: HttpAnswer | Unanswered) -> None:
        line: dict[str, Any] = {"path": path, "query": self._query(asked), "user": named_user}
        if isinstance(answer, Unanswered):
            self._lines.append({**line, "status": answer.status, "text": self.message(answer.text)})
            return
        date = parse_http_date(answer.headers.get("date"))
        self._began = self._began or date
        content = msgspec.json.decode(answer.body, type=dict[str, Any])
        body = self._list(content) if path == "tts-jobs" else self._configs(content)
        self._lines.append({**line, "status": answer.status, "body": body})

    def content(self, now: float) -> bytes:
        """The file. ``now`` stands for the API's time where no answer had one."""
        head = {
            "format": FORMAT,
            "program": f"metastudio-tts-exporter {__version__}",
            "region": self._region,
            "began": int(self._began or now),
        }
        return b"".join(msgspec.json.encode(line) + b"\n" for line in (head, *self._lines))

    def _query(self, asked: Pairs) -> dict[str, object]:
        """Numbers and times as they are; a filter's value is an id or a label."""
        query: dict[str, object] = {}
        for name, value in asked:
            if isinstance(value, str) and name not in _TIMES:
                query[name] = self._hash(value) if name in _IDS else self._label(value)
            else:
                query[name] = value
        return query

    def _list(self, content: dict[str, Any]) -> dict[str, Any]:
        body: dict[str, Any] = {}
        if isinstance(content.get("count"), int):
            body["count"] = content["count"]
        elements = content.get("data")
        body["data"] = [self._record(it) for it in elements if isinstance(it, dict)] if elements else []
        return body

    def _record(self, element: dict[str, Any]) -> dict[str, Any]:
        record: dict[str, Any] = {name: self._hash(str(element[name])) for name in _IDS if element.get(name)}
        record |= {name: self._label(element[name]) for name in _LABELS if isinstance(element.get(name), str)}
        record |= {name: element[name] for name in _NUMBERS if isinstance(element.get(name), int)}
        created, message = element.get("create_time"), element.get("fail_msg")
        if isinstance(created, int | float) or (isinstance(created, str) and _TIME.fullmatch(created)):
            record["create_time"] = created
        if isinstance(message, str):
            record["fail_msg"] = self.message(message)
        return record

    @staticmethod
    def _configs(content: dict[str, Any]) -> dict[str, Any]:
        control = content.get("sub_account_control_config")
        on = control.get("separately_controlled") if isinstance(control, dict) else None
        return {"sub_account_control_config": {"separately_controlled": on if isinstance(on, bool) else None}}

    def _hash(self, text: str) -> str:
        if len(text) >= _SHORTEST:
            self._ids.add(text)
        digest = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
        return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"

    def _label(self, value: str) -> str:
        return value if _LABEL.fullmatch(value) else f"OTHER_{self._hash(value)[:8].upper()}"

    def message(self, text: str) -> str:
        """A template, but codes of errors stay: they are no ids, and classes go by them."""
        for known in sorted(self._ids, key=len, reverse=True):
            text = text.replace(known, "<id>")
        parts = (part if _CODE.fullmatch(part) else _without_names(part) for part in _CODE.split(text))
        return " ".join(part for part in parts if part)


def _without_names(text: str) -> str:
    for placeholder, private in _PRIVATE:
        text = private.sub(placeholder, text)
    return template(text)
