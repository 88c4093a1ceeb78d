"""Mangled pages, times, failure messages and configurations: no crash, no unbounded work.

Work is counted in bytes of memory, not in seconds: two shared cores are no stopwatch.
"""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import parse_expiry, parse_http_date, parse_time
from exporter.config import Config, load_config, zone
from exporter.errors import ApiError, ConfigError
from exporter.failures import BUILTIN_RULES, NO_MESSAGE, UNCLASSIFIED, Classifier, template
from exporter.ledger.record import FINAL_STATES, OPEN_STATES, Page
from testkit.processes import ROOT

# --- pages ------------------------------------------------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.sampled_from(("SUCCEED", "2021-01-10T08:43:17Z", "9" * 300, "\x00", "😀" * 9, "1610268197"))
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FIELDS = (
    "job_id", "create_time", "job_state", "job_type", "tts_service_enum", "text_length", "fail_msg",
    "asset_id", "websocket_job_id", "files", "unheard_of",
)  # fmt: skip
RECORDS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8) | JSON
PAGES = st.fixed_dictionaries(
    {}, optional={"count": JSON, "data": st.lists(RECORDS, max_size=6) | JSON, "error_code": JSON}
)
GOOD = json.dumps({"count": 1, "data": [{"job_id": "a", "create_time": "2021-01-10T08:43:17Z"}]}).encode()
CUTS = st.tuples(st.integers(0, 400), st.integers(0, 30), st.binary(max_size=12))
DECODER = Decoder("Asia/Shanghai")


def decode(body: bytes) -> Page | None:
    """The page, or ``None`` for an ApiError; anything else is a defect."""
    try:
        page = DECODER.decode(body, redact=MessageRedactor())
    except ApiError as error:
        told = str(error)
    else:
        check_page(page)
        return page
    assert len(told) < 2000
    assert told.isprintable()
    return None


def check_page(page: Page) -> None:
    for record in page.records:
        assert record.job_state in (*OPEN_STATES, *FINAL_STATES)
        assert len(record.job_type) <= 64
        assert len(record.tts_service_enum) <= 64
        assert record.job_id is None or 0 < len(record.job_id) <= 256
        assert record.text_length is None or 0 <= record.text_length < 2**31
        assert record.create_time is None or abs(record.create_time) < 2**53
        assert len(record.fail_msg) <= 4096
        assert record.key


@pytest.mark.slow
@given(PAGES, st.lists(CUTS, max_size=3))
@settings(max_examples=300)
def test_a_page_of_any_shape_is_decoded_or_refused(page: Any, cuts: list[tuple[int, int, bytes]]) -> None:
    """Right JSON of the wrong shape, and the same with bytes torn out or put in."""
    body = json.dumps(page).encode()
    decode(body)
    for place, length, instead in cuts:
        body = body[:place] + instead + body[place + length :]
    decode(body)


@given(st.binary(max_size=200))
@example(b"[" * 100_000)
@example(b'{"data":' * 50_000)
@example(b'{"data":[' + b"{}," * 20_000 + b"{}]}")
@example(b'{"count":' + b"9" * 100_000 + b',"data":[]}')
@example(b'{"data":[{"create_time":1e999}]}')
@example(GOOD[:-3] + b"\xff\xfe" + GOOD[-3:])
def test_bytes_of_any_kind_are_decoded_or_refused(body: bytes) -> None:
    """Nesting, huge numbers and half characters are no way to end the program."""
    decode(body)


def test_decoding_takes_memory_in_proportion_to_the_page() -> None:
    """Twice the bytes, about twice the memory: nothing multiplies."""

    def peak(records: int) -> int:
        body = json.dumps({"data": [{"job_id": f"{n}", "files": [{"x": "y" * 50}]} for n in range(records)]})
        tracemalloc.start()
        decode(body.encode())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    assert peak(4000) < 3 * peak(2000)


# --- times ------------------------------------------------------------------------------------------------

DIGITS = st.text("0123456789-:TtZz+. /", max_size=40)


@given(DIGITS | st.text(max_size=60) | st.integers() | st.floats() | st.none())
@example("9999-12-31T23:59:59.999999999999+23:59")
@example("0001-01-01T00:00:00-23:59")
@example("1" * 100_000)
@example(float("nan"))
@example(float("inf"))
@example(10**400)
@example("٢٠٢١-٠١-١٠T٠٨:٤٣:١٧Z")
def test_a_time_in_any_format_is_read_or_unreadable(value: Any) -> None:
    """No crash, and never a number that the store could not hold."""
    for read in parse_time(value, zone("America/New_York")):
        assert read is None or abs(read) < 2**53
    if isinstance(value, str):
        parse_expiry(value)
        parse_http_date(value)


# --- failure messages ---------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    (
        "text ",
        "too long ",
        "exceed",
        "文本",
        "过长",
        "voice ",
        "not found",
        "(",
        "a" * 50,
        " " * 30,
        "\n",
        "\x00",
    )
)
CLASSIFIER = Classifier((*BUILTIN_RULES, ("own", r"(a|aa)+$"), ("other", r"(.*a){12}")))


@given(st.text(max_size=200) | st.lists(WORDS, max_size=120).map("".join))
@example("text" + " x" * 2000)
@example("a" * 4000 + "!")
@example("\ud800")
def test_any_failure_message_has_a_class_and_a_template(text: str) -> None:
    """Untrusted text on patterns that would take years with backtracking."""
    known = {*CLASSIFIER.classes, UNCLASSIFIED, NO_MESSAGE}
    assert CLASSIFIER.classify(text) in known
    assert len(template(text)) <= max(400, 4 * len(text))


# --- configurations -----------------------------------------------------------------------------------------

EXAMPLE = (ROOT / "exporter.yaml").read_text(encoding="utf-8")
TOKENS = st.sampled_from(
    ("\n", "  ", "- ", ": ", "{", "}", "[", "]", "&a ", "*a ", "<<: *a", "!!python/object:os.system ", "|",
     ">", "'", '"', "#", "\t", "%", "@", "null", "1e999", "0x10", ".inf", "-1", "targets:", "poll:", "auth:",
     "\x85")
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 60), TOKENS | st.text(max_size=10)), max_size=6
)


def configure(data: bytes) -> Config | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exporter.yaml"
        path.write_bytes(data)
        try:
            return load_config(path, environ={})
        except ConfigError as error:
            problems = error.problems
    assert 0 < len(problems) <= len(data) + 1
    assert all("\n" not in str(problem) for problem in problems)
    return None


@given(EDITS)
def test_a_mangled_configuration_is_read_or_refused(edits: list[tuple[int, int, str]]) -> None:
    """Every problem a line; never another exception, never anything executed."""
    text = EXAMPLE
    for place, length, instead in edits:
        text = text[:place] + instead + text[place + length :]
    configure(text.encode("utf-8", "surrogatepass"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 400, id="nested-lists"),
        pytest.param("{a: " * 400, id="nested-mappings"),
        pytest.param("- " * 400, id="nested-dashes"),
        pytest.param("a: &a [x]\n" + "\n".join(f"b{n}: &b{n} [*a, *a]" for n in range(300)), id="aliases"),
        pytest.param("targets: [" + "{name: a}, " * 500 + "]", id="five-hundred-targets"),
        pytest.param("poll: {interval: " + "9" * 50_000 + "s}", id="long-number"),
    ],
)
def test_a_configuration_made_to_cost_much_costs_little(text: str) -> None:
    """A typing error must not eat the memory of the machine."""
    tracemalloc.start()
    try:
        assert configure(text.encode()) is None
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
