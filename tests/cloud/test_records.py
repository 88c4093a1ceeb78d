"""Bytes of a list answer -> records: tolerant of fields, strict about what is a list."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.cloud.times import TimeFormat, format_time, parse_http_date
from exporter.config import zone
from exporter.errors import ApiError
from exporter.ledger.record import Page, Record

FULL: dict[str, Any] = {
    "job_id": "0d1c0b0a-0001",
    "websocket_job_id": "ws-1",
    "asset_id": "voice-1",
    "tts_service_enum": "TTS_LLM",
    "text_length": 120,
    "create_time": "2023-11-14T22:13:20Z",
    "audio_format": "WAV",
    "need_timestamp": False,
    "gen_srt": True,
    "job_type": "ASYNC_JOB",
    "job_state": "FAILED",
    "fail_msg": "文本过长",
    "files": [{"audio_file_url": "https://obs.example/?Signature=secret"}],
}
RECORD = Record(
    "0d1c0b0a-0001", 1_700_000_000_000, "FAILED", "ASYNC_JOB", "TTS_LLM", 120, "文本过长", "voice-1", "ws-1"
)


def decode(body: object, time_zone: str = "UTC") -> Page:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Decoder(time_zone).decode(sent, redact=MessageRedactor())


def one(**fields: object) -> Record:
    """The record of FULL with some fields replaced, beside a good neighbour that must not suffer."""
    page = decode({"count": 2, "data": [{**FULL, **fields}, FULL]})
    assert page.records[1] == RECORD
    assert page.count == 2
    return page.records[0]


def test_a_documented_record() -> None:
    """Every documented field arrives; ``files`` with its signed links does not."""
    assert one() == RECORD
    assert "secret" not in repr(decode({"count": 1, "data": [FULL]}))


def test_an_empty_record_survives() -> None:
    """A record of which every field is missing is a record."""
    page = decode({"count": 1, "data": [{}]})
    assert page.records == (Record(None, None, "unknown", "unknown", "unknown"),)


WRONG: list[object] = [None, True, 1.5, [], {}, {"a": [1]}, "\x00"]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("field", [name for name in FULL if name != "files"])
def test_a_field_of_a_wrong_type_costs_only_itself(field: str, value: object) -> None:
    """Whatever stands in one field, the others and the neighbours are read."""
    record = one(**{field: value})
    untouched = [name for name in Record.__struct_fields__ if name not in (field, "malformed")]
    assert [getattr(record, name) for name in untouched] == [getattr(RECORD, name) for name in untouched]


@pytest.mark.parametrize(
    ("value", "job_id"),
    [
        ("a", "a"),
        (17, "17"),
        (10**30, str(10**30)),
        ("", None),
        (None, None),
        (True, None),
        (1.5, None),
        (["a"], None),
        ("x" * 256, "x" * 256),
        ("x" * 257, None),
        ("a\x00b", None),
        ("任务", "任务"),
    ],
    ids=repr,
)
def test_job_id(value: object, job_id: str | None) -> None:
    """Text and whole numbers are ids; what cannot be one is as if it were missing."""
    assert one(job_id=value).job_id == job_id


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("PRELOAD", "PRELOAD"),
        ("NEW-kind_2.0", "NEW-kind_2.0"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "other"),
        ("two words", "other"),
        ("new\nline", "other"),
        ("类型", "other"),
        ("A\n", "other"),
        ("", "unknown"),
        (None, "unknown"),
        (7, "unknown"),
    ],
    ids=repr,
)
def test_labels_are_bounded(value: object, label: str) -> None:
    """Unknown values of an enum pass when they are fit for a label."""
    assert one(job_type=value).job_type == label
    assert one(tts_service_enum=value).tts_service_enum == label


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("WAITING", "WAITING"),
        ("SUCCEED", "SUCCEED"),
        ("succeed", "unknown"),
        ("DONE", "unknown"),
        (3, "unknown"),
    ],
    ids=repr,
)
def test_states_are_a_closed_set(value: object, state: str) -> None:
    """Only the four documented states are known."""
    assert one(job_state=value).job_state == state


@pytest.mark.parametrize(
    ("value", "length"),
    [(0, 0), (10000, 10000), (-1, None), (2**31, None), ("120", None), (12.5, None), (None, None)],
    ids=repr,
)
def test_text_length(value: object, length: int | None) -> None:
    """A length that is no whole number, negative or absurd would poison a sum: it is absent."""
    assert one(text_length=value).text_length == length


NOON = 1_700_000_000_000


@pytest.mark.parametrize(
    ("value", "time_zone", "expected"),
    [
        ("2023-11-14T22:13:20Z", "UTC", NOON),
        ("2023-11-14T22:13:20Z", "+08:00", NOON),
        ("2023-11-15T06:13:20+08:00", "UTC", NOON),
        ("2023-11-15T06:13:20+0800", "UTC", NOON),
        ("2023-11-15 06:13:20 +08:00", "UTC", NOON),
        ("2023-11-14T22:13:20.123Z", "UTC", NOON + 123),
        ("2023-11-14T22:13:20,123456789Z", "UTC", NOON + 123),
        ("2023-11-14t22:13:20z", "UTC", NOON),
        ("2023-11-14 22:13:20", "UTC", NOON),
        (" 2023-11-14 22:13:20 ", "UTC", NOON),
        ("2023-11-15 06:13:20", "+08:00", NOON),
        ("2023-11-15T06:13:20", "Asia/Shanghai", NOON),
        (1700000000, "UTC", NOON),
        (1700000000123, "UTC", NOON + 123),
        (1700000000.5, "UTC", NOON + 500),
        ("1700000000", "+08:00", NOON),
        ("1700000000123", "UTC", NOON + 123),
        ("", "UTC", None),
        ("yesterday", "UTC", None),
        ("2023-11-14", "UTC", None),
        ("20231114T221320Z", "UTC", None),
        ("2023-13-14T22:13:20Z", "UTC", None),
        ("2023-11-14T25:13:20Z", "UTC", None),
        ("0001-01-01T00:00:00+14:00", "UTC", None),
        ("٢٠٢٣-11-14T22:13:20Z", "UTC", None),
        (0, "UTC", None),
        (-5, "UTC", None),
        (10**17, "UTC", None),
        (True, "UTC", None),
        ([], "UTC", None),
    ],
    ids=repr,
)
def test_create_time(value: object, time_zone: str, expected: int | None) -> None:
    """Every time format of docs/api.md is read; anything else is an absent time, not a lost record."""
    page = decode({"count": 1, "data": [{"job_id": "a", "create_time": value}]}, time_zone)
    assert (page.records[0].job_id, page.records[0].create_time) == ("a", expected)


def test_the_same_text_in_two_zones_is_two_times() -> None:
    """What is remembered of a text holds in its zone only: targets may differ in theirs."""
    listed = {"count": 1, "data": [{"job_id": "a", "create_time": "2023-11-15 06:13:20"}]}
    times = [decode(listed, name).records[0].create_time for name in ("UTC", "+08:00", "UTC")]
    assert times == [NOON + 8 * 3_600_000, NOON, NOON + 8 * 3_600_000]


def test_fail_msg_is_cut_and_cleaned() -> None:
    """Free text is bounded, and free of what a database refuses."""
    assert one(fail_msg="x" * 5000).fail_msg == "x" * 4096
    assert one(fail_msg="a\x00b").fail_msg == "a\ufffdb"


@pytest.mark.parametrize("other", [{}, {"job_id": []}], ids=["well-formed", "loosely"])
def test_a_secret_echoed_in_fail_msg_is_redacted(other: dict[str, object]) -> None:
    """Whether or not the rest of its record is as documented."""
    body = json.dumps({"count": 1, "data": [{"fail_msg": "bad token Secret123456", **other}]}).encode()
    page = Decoder("UTC").decode(body, redact=MessageRedactor(["Secret123456"]))
    assert page.records[0].fail_msg == "bad token ***"


def test_a_cut_of_fail_msg_leaves_no_part_of_a_secret() -> None:
    """Of a very long one the beginning is kept."""
    body = json.dumps({"count": 1, "data": [{"fail_msg": "x" * 4090 + "Secret123456"}]}).encode()
    page = Decoder("UTC").decode(body, redact=MessageRedactor(["Secret123456"]))
    assert page.records[0].fail_msg == "x" * 4090


def test_an_error_beside_malformed_jobs_is_an_error() -> None:
    """One job of a wrong type does not make a page of an error."""
    with pytest.raises(ApiError):
        decode({"error_code": "TTS.1", "count": 1, "data": [{"job_id": []}]})


@pytest.mark.parametrize("element", ["null", "1", '"text"', "[]", "[[{}]]", "true"])
def test_an_element_that_is_no_record(element: str) -> None:
    """Such an element is kept as malformed, equal ones alike, and its neighbours are read."""
    body = f'{{"count":3,"data":[{element},{json.dumps(FULL)},{element}]}}'.encode()
    first, good, second = decode(body).records
    assert first == second
    assert len(first.malformed) == 32
    assert first.job_id is None
    assert good == RECORD


def test_different_malformed_elements_differ() -> None:
    """Two different wrong elements are told apart."""
    first, second = decode(b'{"count":2,"data":[1,2]}').records
    assert first.key != second.key


ODD: dict[str, tuple[bytes, object]] = {
    "half a surrogate pair": (rb'"\ud83d"', r"\ud83d"),
    "the other half": (rb'"a\ude00b"', r"a\ude00b"),
    "a whole pair beside it": (rb'"\ud83d\ude00 \ud83d"', "\U0001f600 \\ud83d"),
    "control characters": (b'"a\x01b\n\tc\x7f"', "a\x01b\n\tc\x7f"),
    "a NUL": (b'"a\x00b"', "a\ufffdb"),
    "no UTF-8": (b'"\xe6\x96"', r"\xe6\x96"),
    "half a pair as UTF-8": (b'"\xed\xa0\xbd"', r"\xed\xa0\xbd"),
    "an unknown escape": (rb'"C:\work\x"', r"C:\work\x"),
    "a short escape": (rb'"\u12"', r"\u12"),
    "NaN": (b"NaN", ""),
    "-Infinity": (b"-Infinity", ""),
    "a number of 5,000 digits": (b"9" * 5000, ""),
    "a number beyond all": (b"1e999999", ""),
    "a number with a plus": (b"+1", ""),
    "a number with zeros before it": (b"007", ""),
    "a word of Python's": (b"None", ""),
    "a deep list": (b"[" * 100_000 + b"]" * 100_000, ""),
    "a deep object": (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, ""),
    "quotes within quotes": (b'"said "no" to it"', ""),
    "a comma after the last": (b"[1,2,]", ""),
    "nothing": (b"", ""),
}


@pytest.mark.parametrize(("sent", "shown"), ODD.values(), ids=list(ODD))
@pytest.mark.parametrize("field", ["fail_msg", "files"])
def test_what_no_decoder_accepts_costs_its_field(sent: bytes, shown: str, field: str) -> None:
    """Whether or not the field is read, its record and its neighbours are; its text can be stored."""
    job = {**FULL, field: "HERE"}
    body = json.dumps({"count": 2, "data": [job, FULL]}, ensure_ascii=False).encode().replace(b'"HERE"', sent)
    page = decode(body)
    assert page.count == 2
    assert page.records[1] == RECORD
    expected = RECORD if field == "files" else msgspec.structs.replace(RECORD, fail_msg=shown)
    assert page.records[0] == expected
    page.records[0].fail_msg.encode()


@pytest.mark.parametrize(("sent", "shown"), ODD.values(), ids=list(ODD))
def test_what_no_decoder_accepts_as_an_id(sent: bytes, shown: str) -> None:
    """Different ids stay different; what can be none is none."""
    ids = [record.job_id for record in decode(b'{"data":[{"job_id":' + sent + b'},{"job_id":"x"}]}').records]
    assert ids[1] == "x"
    assert ids[0] == (None if "\ufffd" in shown or not shown else shown)


@pytest.mark.parametrize(
    "element",
    [b"NaN", b"{]", b'{"a" "b"}', rb'"\ud83d"', b"[" * 5000 + b"]" * 5000, b"None"],
    ids=["NaN", "wrong bracket", "no colon", "half a pair", "deep", "word"],
)
def test_an_element_that_is_no_json(element: bytes) -> None:
    """Its neighbours are read, and it is one element."""
    first, second = decode(
        b'{"count":2,"data":[' + element + b"," + json.dumps(FULL).encode() + b"]}"
    ).records
    assert first.job_id is None
    assert second == RECORD


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"count":1,"data":[{"job_id":"a"}]}',
        b'{"count":NaN,"data":[{"job_id":"a"}]}',
        b'{"count":1,"data":[{"job_id":"a"},],}',
        b'{"data":7,"data":[{"job_id":"a","x":NaN}],"more":"\x01"}',
        rb'{"\ud83d":0,"data":[{"job_id":"a"}]}',
        rb'{"d\u0061ta":[{"job_id":"a","x":"\ud83d"}]}',
    ],
    ids=["byte order mark", "count", "commas", "data twice", "name", "name with escapes"],
)
def test_odd_things_around_the_records(body: bytes) -> None:
    """What stands beside the list costs no record."""
    assert [record.job_id for record in decode(body).records] == ["a"]


UNPAIRED: dict[str, bytes] = {
    "a backslash before the closing quote": rb'"x":"C:\"',
    "a quote within": b'"x":"5" long"',
    "an odd quote in a list": b'"x":["","]',
    "a string that does not end": b'"x":"a',
    "a lone quote": b'"',
}


def page_of(odd: bytes, every: int, rest: bytes = b"") -> Page:
    """A page of 100 jobs, some of which end with ``odd``."""
    jobs = [
        b'{"job_id":"%d","text_length":7,"job_state":"SUCCEED"' % number
        + (b"," + odd if number % every == 0 else b"")
        + b"}"
        for number in range(100)
    ]
    return decode(b'{"count":100,"data":[' + b" ,\n".join(jobs) + b"]" + rest + b"}")


def hundred() -> tuple[Record, ...]:
    return tuple(Record(str(n), None, "SUCCEED", "unknown", "unknown", 7) for n in range(100))


@pytest.mark.parametrize("rest", [b"", b',"more":"\x01"'], ids=["alone", "more-after"])
@pytest.mark.parametrize("every", [1, 2, 7, 99])
@pytest.mark.parametrize("odd", UNPAIRED.values(), ids=list(UNPAIRED))
def test_quotes_that_do_not_pair_up_cost_no_record(odd: bytes, every: int, rest: bytes) -> None:
    """However many records of a page are so: each record is one, with what stands before the odd place."""
    assert page_of(odd, every, rest) == Page(hundred(), 100)


@pytest.mark.slow
@pytest.mark.parametrize("odd", [rb'"x":"\ud83d"', b'"x":"5" long"'], ids=["half a pair", "a quote within"])
@pytest.mark.parametrize(
    "harmless",
    [b"1," * 60_000, b'"a",' * 60_000, b'{"a":[]},' * 15_000],
    ids=["numbers", "texts", "objects"],
)
def test_a_long_list_beside_an_odd_record_costs_nothing(harmless: bytes, odd: bytes) -> None:
    """What one record holds in plenty does not count for the page."""
    assert page_of(odd + b',"y":[' + harmless + b"1]", 60) == Page(hundred(), 100)


def test_what_stands_in_a_text_begins_no_record() -> None:
    """On a page in which quotes do not pair up: there the quotes have backslashes."""
    said = json.dumps('"},{"job_id":"phantom","job_state":"FAILED"},{"job_id":"b').encode()
    body = b'{"count":2,"data":[{"job_id":"a","fail_msg":' + said + b'},{"job_id":"b","x":"5" long"}]}'
    assert [record.job_id for record in decode(body).records] == ["a", "b"]


@pytest.mark.parametrize(
    "element", [b'[{"job_id":"a"}]', b'"{\\"job_id\\":1}"', b'{"job_id":"5" long"}'], ids=repr
)
def test_what_shows_no_id_of_its_own_is_malformed(element: bytes) -> None:
    """Where nothing else can be made of it, either."""
    first, second = decode(b'{"data":[' + element + b',{"job_id":"b","x":NaN}]}').records
    assert (first.job_id, bool(first.malformed), second.job_id) == (None, True, "b")


def test_an_error_beside_unpaired_quotes_is_an_error() -> None:
    """As beside any other list."""
    with pytest.raises(ApiError):
        decode(b'{"error_code":"APIG.0308","error_msg":"slow","data":[{"job_id":"a","x":"5" long"}]}')


@pytest.mark.parametrize("end", [b"", b"]", b"]}}", b"]}]", b"]}x", b'"]}', b']}"', b'\\"]}'], ids=repr)
def test_a_cut_or_mangled_page_is_no_page(end: bytes) -> None:
    """However tolerant of records: half a list is not the list."""
    with pytest.raises(ApiError, match="JSON"):
        decode(b'{"count":2,"data":[{"job_id":"a","x":NaN},{"job_id":"b"}' + end)


def test_an_odd_page_can_hide_no_error() -> None:
    """An error object is one, whatever cannot be decoded beside it."""
    with pytest.raises(ApiError) as caught:
        decode(rb'{"error_code":"APIG.0308","error_msg":"slow \ud83d","data":[{"x":NaN}]}')
    assert caught.value.code == "APIG.0308"


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"[" + b",".join([b"{}"] * 501) + b"]",
        b"[" + b",".join([b'{"job_id":"a","x":NaN}'] * 501) + b"]",
        b"[" + b",".join([b"{}"] * 1_300_000) + b"]",
        b"[" + b",".join([b"1"] * 2_000_000) + b"]",
    ],
    ids=["some", "some odd ones", "a million empty ones", "two million numbers"],
)
def test_a_page_of_too_many_records_is_refused(data: bytes) -> None:
    """Before they are built: a few kilobytes on the wire can hold a million."""
    body = b'{"count":1,"data":' + data + b"}"
    tracemalloc.start()
    try:
        with pytest.raises(ApiError, match="far larger than the 100 records") as caught:
            decode(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(caught.value.kind) == "too_large"
    assert peak < 3 * len(body) + (1 << 20)


def test_a_page_of_500_records_is_read() -> None:
    """An API may send more than the hundred that were asked for."""
    assert len(decode({"count": 500, "data": [FULL] * 500}).records) == 500


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"count": 0, "data": []}, 0),
        ({"count": 0}, 0),
        ({"count": 0, "data": None}, 0),
        ({"data": []}, None),
        ({"count": "many", "data": []}, None),
        ({"count": -1, "data": []}, None),
        ({"count": 2.5, "data": []}, None),
        ({"count": None, "data": []}, None),
        ({"count": 7, "data": []}, 7),
        ({"count": 0, "data": [], "error_code": "", "error_msg": "", "error": None}, 0),
        ({"count": 0, "data": [], "request_id": "r", "code": "0", "message": "ok", "new": {"x": [1]}}, 0),
    ],
    ids=repr,
)
def test_pages_without_jobs(body: object, count: int | None) -> None:
    """An empty list is no error, whatever stands beside it."""
    assert decode(body) == Page((), count)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    elements=st.lists(
        JSON | st.dictionaries(st.sampled_from(sorted(FULL)), JSON, max_size=8) | st.just(FULL), max_size=5
    ),
    count=JSON,
)
def test_no_element_costs_its_page(elements: list[object], count: object) -> None:
    """Whatever JSON stands in the list, there is one record an element, and good ones are untouched."""
    page = decode({"count": count, "data": elements})
    assert len(page.records) == len(elements)
    for element, record in zip(elements, page.records, strict=True):
        assert bool(record.malformed) == (not isinstance(element, dict))
        if element == FULL:
            assert record == RECORD
        json.dumps(str(record)).encode()


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_page_or_an_api_error(body: bytes) -> None:
    """No body raises anything but an ApiError."""
    with contextlib.suppress(ApiError):
        assert isinstance(Decoder("UTC").decode(body, redact=MessageRedactor()), Page)


LAST = 253_402_300_799_000
"""The last second of the year 9999: a ``Date`` may name it, and windows reach beyond."""


@pytest.mark.parametrize(
    ("ms", "style", "since", "until"),
    [
        (NOON, "rfc3339", "2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"),
        (NOON + 1, "rfc3339", "2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"),
        (NOON + 1, "unix", "1700000000", "1700000001"),
        (NOON + 1, "unix_ms", "1700000000001", "1700000000001"),
        (LAST + 1, "rfc3339", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        (LAST + 360_000, "rfc3339", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        (LAST + 360_000, "unix", "253402300799", "253402300799"),
    ],
)
def test_bounds_are_widened_to_what_can_be_said(ms: int, style: TimeFormat, since: str, until: str) -> None:
    """A bound finer than the format moves outward, so that no record falls between two windows."""
    assert (format_time(ms, style, up=False), format_time(ms, style, up=True)) == (since, until)


@pytest.mark.parametrize("name", ["Mars/Base", "+25:99", "../../etc/passwd", ""])
def test_unknown_zones_are_refused(name: str) -> None:
    """A zone that does not exist is a ValueError that names it."""
    with pytest.raises(ValueError, match="neither UTC"):
        zone(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 784111777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("now", None),
        ("", None),
        (None, None),
        ("x" * 1000, None),
    ],
    ids=repr,
)
def test_http_dates(text: str | None, expected: float | None) -> None:
    """A date header is Unix seconds or nothing."""
    assert parse_http_date(text) == expected
