"""Which messages are found in what people have: lines, records, whole answers, files of other systems."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.commands.failure_messages import MessageFile
from exporter.errors import ExporterError

RECORDS = [
    {"job_id": "a", "job_state": "FAILED", "fail_msg": "timeout"},
    {"job_id": "b", "job_state": "SUCCEED", "fail_msg": ""},
    {"job_id": "c", "job_state": "FAILED", "fail_msg": "语音 not found"},
    {"job_id": "d", "job_state": "FAILED"},
]
FAILED = ["timeout", "语音 not found", ""]
PAGE = {"count": 4, "data": RECORDS}
SHAPES = {
    "records": "\n".join(map(json.dumps, RECORDS)),
    "array": json.dumps(RECORDS),
    "answer": json.dumps(PAGE),
    "answers": "\n".join([json.dumps({"data": RECORDS[:2]}), json.dumps({"data": RECORDS[2:]})]),
    "indented answer": json.dumps(PAGE, indent=2),
    "indented array": json.dumps(RECORDS, indent=4),
    "indented records": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "unescaped": json.dumps(PAGE, ensure_ascii=False, indent=1),
}


def read(content: bytes) -> tuple[list[str], list[str]]:
    """The messages, and what is doubtful."""
    file = MessageFile(BytesIO(content), "x")
    return list(file), file.doubts


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "mark"])
@pytest.mark.parametrize("shape", SHAPES)
def test_records_are_found_in_every_shape(shape: str, mark: bytes) -> None:
    """As ``curl`` saves them, as ``jq`` writes them, with a byte order mark before them."""
    assert read(mark + SHAPES[shape].encode()) == (FAILED, [])


def test_what_only_begins_like_json_is_text() -> None:
    """A log's brackets are none; where a line looks like a record and is none, that is said."""
    content = b'[ERROR] a\n{"error":"b"}\n{broken\nc\n'
    messages, doubts = read(content)
    assert messages == ["[ERROR] a", '{"error":"b"}', "{broken", "c"]
    assert doubts == ["x: lines that begin like JSON, and are no records: 2; they count as messages"]


def test_blanks_before_json_are_none_of_it() -> None:
    """An empty line is a failure without a message, as anywhere."""
    content = b'\n  {"job_id":"a","fail_msg":"timeout"}\n\t{"job_id":"b","job_state":"SUCCEED"}\n  text\n'
    assert read(content) == (["", "timeout", "  text"], [])
    assert read(b"\n" + SHAPES["indented answer"].encode()) == (["", *FAILED], [])


def test_json_texts_are_messages() -> None:
    """What ``jq '.data[].fail_msg'`` writes; a text that only begins with a quotation mark stays as it is."""
    content = b'"zork 5 fell"\nnull\n"voice" not found\nnull pointer\n'
    assert read(content) == (["zork 5 fell", "", '"voice" not found', "null pointer"], [])


def test_json_that_is_no_record_is_said_to_be_left_out() -> None:
    """The answer of an API that refused, or of another one."""
    assert read(b'{\n "error_code": "APIG.0301"\n}\n') == (
        [],
        ["x: JSON that is no record of the API: 1 left out"],
    )


@pytest.mark.parametrize("rest", [b"", b'\n"count": 2,\n"data": [\n{"job_id": "a"'])
def test_indented_json_that_is_cut_off_is_refused(rest: bytes) -> None:
    """Each of its lines would be a message."""
    whole = json.dumps(PAGE, indent=2).encode()
    with pytest.raises(ExporterError, match="it may be cut off"):
        read(whole[:-20] if not rest else b"{" + rest)


def test_a_long_answer_on_one_line_is_read() -> None:
    """Some thousand records are more than a megabyte."""
    long = [{"job_id": f"{number:040}", "fail_msg": "timeout"} for number in range(20_000)]
    assert read(json.dumps(long).encode() + b"\n") == (["timeout"] * 20_000, [])


def test_half_a_surrogate_pair_is_no_text() -> None:
    """JSON can spell it, and rules could not be written for it."""
    assert read(b'{"job_id":"a","fail_msg":"\\ud800 half"}\n') == (["? half"], [])


def test_other_encodings_are_not_believed() -> None:
    """GBK is said to be no UTF-8; UTF-16, where each second byte is empty, is refused."""
    messages, doubts = read("任务超时\n".encode("gbk") + b"timeout\n")
    assert messages[1] == "timeout"
    assert doubts == ["x: lines that are not UTF-8: 1; rules for them would match nothing"]
    with pytest.raises(ExporterError, match="x is UTF-16: make it UTF-8 first"):
        read("timeout\n".encode("utf-16"))


def test_a_cut_character_is_no_doubt() -> None:
    """Only the first 4,096 characters of a long message are looked at."""
    messages, doubts = read(("語" * 20_000 + "\nb\n").encode())
    assert messages == ["語" * 4096, "b"]
    assert doubts == []


@given(st.binary(max_size=200))
def test_any_bytes_are_some_messages(content: bytes) -> None:
    """Nothing makes it fail but UTF-16, and each line is a message where none is a record."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    messages, _ = read(content)
    if b"{" not in content and b"[" not in content:
        expected = content.removeprefix(b"\xef\xbb\xbf").count(b"\n")
        assert len(messages) in (expected, expected + 1)


@given(st.lists(st.text(max_size=30).filter(lambda text: not set(text) & set("\n{[")), max_size=8))
def test_text_of_several_lines_that_is_no_json_is_read_by_lines(lines: list[str]) -> None:
    """Also where the first one begins like JSON: nothing that follows is lost."""
    content = "".join(f"{line}\n" for line in ["{not json", *lines])
    messages, _ = read(content.encode("utf-8", "replace"))
    assert len(messages) == 1 + len(lines)
