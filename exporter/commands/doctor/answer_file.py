"""``--save``: the answers as JSON lines, fit for a bug report, and for ``simulate --from``.

What is written is chosen field by field. Ids are hashed with a key that is made for the file and then lost.
Messages become templates (``free_text``), without any id that stands in any of the answers; links and unknown
fields are left out.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from exporter import __version__
from exporter.cloud import HttpAnswer, parse_http_date
from exporter.commands.doctor.asking import Pairs, Unanswered
from exporter.commands.doctor.free_text import any_of, named_values, without_names

FORMAT: Final = 1
_IDS: Final = ("job_id", "asset_id", "websocket_job_id")
_LABELS: Final = ("job_state", "job_type", "tts_service_enum")
_NUMBERS: Final = ("text_length",)
_TIMES: Final = ("create_since", "create_until")
_LABEL: Final = re.compile(r"[A-Z][A-Z0-9_]{0,39}")
"""What names a kind of job, as documented values do, and no person or thing."""
_TIME: Final = re.compile(r"[0-9TZ:+. -]{1,40}")


class AnswerFile:
    """Collects questions and answers; call it with each."""

    def __init__(self, region: str, known: Iterable[str] = ()) -> None:
        """``known``: ids and names that no answer has to show."""
        self._key = secrets.token_bytes(32)
        self._region = region
        self._began: float | None = None
        self._lines: list[dict[str, Any]] = []
        self._known = set(known)
        """Ids and names, seen so far."""

    def __call__(self, path: str, asked: Pairs, named_user: bool, answer: HttpAnswer | Unanswered) -> None:
        line: dict[str, Any] = {"path": path, "query": self._query(asked), "user": named_user}
        if isinstance(answer, Unanswered):
            self._lines.append({**line, "status": answer.status, "text": answer.text})
            return
        date = parse_http_date(answer.headers.get("date"))
        self._began = self._began or date
        content = msgspec.json.decode(answer.body, type=dict[str, Any])
        self._known.update(named_values(content))
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
        known = any_of(self._known)  # all of them: a message may name a job that a later answer shows
        lines = (_without_names(line, known) for line in self._lines)
        return b"".join(msgspec.json.encode(line) + b"\n" for line in (head, *lines))

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
            record["fail_msg"] = message
        return record

    @staticmethod
    def _configs(content: dict[str, Any]) -> dict[str, Any]:
        control = content.get("sub_account_control_config")
        on = control.get("separately_controlled") if isinstance(control, dict) else None
        return {"sub_account_control_config": {"separately_controlled": on if isinstance(on, bool) else None}}

    def _hash(self, text: str) -> str:
        self._known.add(text)
        digest = hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hex()
        return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"

    def _label(self, value: str) -> str:
        return value if _LABEL.fullmatch(value) else f"OTHER_{self._hash(value)[:8].upper()}"

    def message(self, text: str) -> str:
        """What is written of a message, with what is known so far."""
        return without_names(text, any_of(self._known))


def _without_names(line: dict[str, Any], known: re.Pattern[str] | None) -> dict[str, Any]:
    """The line with templates in place of messages, which are kept as they came until all ids are known."""
    if "text" in line:
        return {**line, "text": without_names(line["text"], known)}
    body = line["body"]
    if "data" in body:
        body = {**body, "data": [_with_template(record, known) for record in body["data"]]}
    return {**line, "body": body}


def _with_template(record: dict[str, Any], known: re.Pattern[str] | None) -> dict[str, Any]:
    message = record.get("fail_msg")
    return record if message is None else {**record, "fail_msg": without_names(message, known)}
