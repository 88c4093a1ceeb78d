"""Log lines: one line each, escaped, bounded, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import log
from exporter.errors import StoreError
from exporter.log import lines

SECRET = 's3cr3t/"quoted"+密码'
STYLES: tuple[log.LogFormat, ...] = ("logfmt", "json")
HEAD = r"ts=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=%s logger=test "


class Log:
    """A logger of its own and what it wrote."""

    def __init__(self, level: log.LogLevel = "info", style: log.LogFormat = "logfmt") -> None:
        self.logger = logging.Logger("test")
        self.redactor = log.Redactor()
        self._stream = io.StringIO()
        with libraries_restored():
            log.configure(level, style, self._stream, redactor=self.redactor, root=self.logger)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def line(self) -> str:
        """What follows the head of the only line."""
        match = re.fullmatch(HEAD % "(?:debug|info|warn|error)" + "(.*)\n", self.text)
        assert match is not None, self.text
        return match[1]


def raised(error: Exception) -> Exception:
    """The same with a traceback."""
    with pytest.raises(type(error)):
        raise error
    return error


@contextmanager
def libraries_restored() -> Iterator[None]:
    """Leaves the process's own loggers as they were."""
    loggers = [logging.getLogger(name) for name in ("", *lines.QUIET_LOGGERS)]
    before = [(logger.level, logger.handlers[:], logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, (level, handlers, propagate) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers
            logger.propagate = propagate


def test_logfmt_line() -> None:
    """A message and its fields are one line of pairs, quoted where needed, in the order given."""
    out = Log()
    log.info(
        out.logger, "poll complete", target="生产", requests=3, seconds=0.25, ok=True, none=None, a="b c"
    )
    assert out.line == ('msg="poll complete" target="生产" requests=3 seconds=0.25 ok=true none=null a="b c"')


def test_json_line() -> None:
    """The same as one JSON object, with numbers as numbers."""
    out = Log(style="json")
    log.warn(out.logger, "poll complete", target="生产", requests=3, ok=True, none=None, rate=float("inf"))
    values = json.loads(out.text)
    assert out.text.count("\n") == 1
    assert values.pop("ts").endswith("Z")
    assert values == {
        "level": "warn", "logger": "test", "msg": "poll complete", "target": "生产", "requests": 3,
        "ok": True, "none": None, "rate": "inf",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param("a\nlevel=error msg=x", r'"a\nlevel=error msg=x"', id="newline"),
        pytest.param("a=b", '"a=b"', id="equals sign"),
        pytest.param('say "hi"', r'"say \"hi\""', id="quotes"),
        pytest.param("\x1b[31mred\x00", r'"\u001b[31mred\u0000"', id="terminal"),
        pytest.param("a\u202eb\u2028c\x85d\ud800", r'"a\u202eb\u2028c\u0085d\ud800"', id="unicode controls"),
        pytest.param("", '""', id="empty"),
        pytest.param("https://h:1/p?q", "https://h:1/p?q", id="plain"),
        pytest.param("x" * 1001, "x" * 999, id="bounded"),
    ],
)
def test_untrusted_value(value: str, shown: str) -> None:
    """No value can end its line, begin another field, steer a terminal or grow without bound."""
    out = Log()
    log.info(out.logger, "m", value=value)
    assert out.line.startswith(f"msg=m value={shown}" if len(value) < 1000 else f'msg=m value="{shown}…"')
    assert out.text.encode()


@pytest.mark.parametrize("style", STYLES)
@given(message=st.text(), value=st.text())
def test_always_one_line(style: log.LogFormat, message: str, value: str) -> None:
    """Whatever is logged, one call writes one printable line, and JSON stays JSON."""
    out = Log(style=style)
    out.logger.info(message.replace("%", "%%"), extra={"fields": {value or "k": value}})
    assert out.text.endswith("\n")
    assert out.text[:-1].isprintable()
    if style == "json":
        assert json.loads(out.text)["msg"] is not None


@pytest.mark.parametrize("style", STYLES)
def test_secrets_are_redacted(style: log.LogFormat) -> None:
    """A registered secret shows nowhere: fields, messages, errors, tracebacks, other spellings."""
    out = Log("debug", style)
    out.redactor.add(SECRET)
    out.redactor.add("s3cr3t")
    log.info(out.logger, f"sent {SECRET}", value=SECRET, url=f"https://h/{quote(SECRET, safe='')}")
    log.info(out.logger, "nested", mapping={"key": [SECRET]}, text=json.dumps(SECRET))
    out.logger.info("from a library: %s", SECRET)
    error = raised(ValueError(SECRET))
    log.error(out.logger, "failed", error=error)
    out.logger.error("failed", exc_info=error)
    assert "***" in out.text
    for part in ("s3cr3t", "quoted", "密码"):
        assert part not in out.text


def test_a_secret_added_later_is_redacted() -> None:
    """A renewed token is redacted from the moment it is known."""
    out = Log()
    out.redactor.add("")
    log.info(out.logger, "m", value="token-1")
    out.redactor.add("token-1")
    log.info(out.logger, "m", value="token-1")
    assert [line.rpartition("=")[2] for line in out.text.splitlines()] == ["token-1", "***"]


def test_no_traceback_at_info() -> None:
    """A defect is one line that says what and where; the traceback is for level debug."""
    out = Log()
    out.logger.error("defect", exc_info=raised(KeyError("x")))
    assert re.fullmatch(r'msg=defect error="KeyError: \'x\'" at=test_lines\.py:\d+', out.line)


def test_exception_as_field() -> None:
    """An error of ours is its one line; a foreign one also says where it came from."""
    out = Log()
    log.error(out.logger, "cannot store", error=StoreError("disk full: make room"))
    assert out.line == 'msg="cannot store" error="disk full: make room"'
    out = Log()
    log.error(out.logger, "defect", error=raised(OSError()))
    assert re.fullmatch(r"msg=defect error=OSError at=test_lines\.py:\d+", out.line)


def test_traceback_at_debug() -> None:
    """At debug the traceback is a field of the same line."""
    out = Log("debug")
    log.error(out.logger, "defect", error=raised(KeyError("x")))
    assert r'trace="Traceback (most recent call last):\n' in out.line


@pytest.mark.parametrize(
    ("level", "levels"),
    [
        ("debug", "debug info warn error"),
        ("info", "info warn error"),
        ("warn", "warn error"),
        ("error", "error"),
    ],
)
def test_levels(level: log.LogLevel, levels: str) -> None:
    """Each level shows itself and what is above."""
    out = Log(level)
    for write in (log.debug, log.info, log.warn, log.error):
        write(out.logger, "m")
    assert re.findall("level=([a-z]+)", out.text) == levels.split()


@pytest.mark.parametrize("name", ["httpx", "httpcore", "uvicorn", "uvicorn.access", "uvicorn.error"])
def test_libraries_are_quiet(name: str) -> None:
    """Libraries that narrate each request are heard from warning on, in our format."""
    stream = io.StringIO()
    with libraries_restored():
        log.configure("debug", "logfmt", stream, redactor=log.Redactor())
        logging.getLogger(name).info("GET /?job_id=1")
        assert stream.getvalue() == ""
        logging.getLogger(name).warning("odd")
    assert stream.getvalue().endswith(f" level=warn logger={name} msg=odd\n")


def test_configure_again_replaces() -> None:
    """A second configuration does not double the lines."""
    first, second = io.StringIO(), io.StringIO()
    with libraries_restored():
        log.configure("info", "logfmt", first, redactor=log.Redactor())
        log.configure("info", "json", second, redactor=log.Redactor())
        log.info(logging.getLogger("test"), "once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_renewed_secrets_are_redacted_and_bounded() -> None:
    """Those of a year of temporary keys are not kept; the latest and the lasting ones always are."""
    redactor = log.Redactor()
    redactor.add("lasting-secret")
    for n in range(1000):
        redactor.add_renewed(f"temporary-{n}-key")
        redactor.add_renewed("in-use-all-the-time")
    text = "lasting-secret temporary-999-key temporary-900-key in-use-all-the-time"
    assert redactor.redact(text) == "*** *** *** ***"
    kept = [n for n in range(1000) if redactor.redact(f"temporary-{n}-key") == "***"]
    assert len(kept) <= 200
