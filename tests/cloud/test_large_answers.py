"""Answers of more than 4 MiB: refused, but a single record shows what stands at its begin."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import AsyncIterator

import httpx
import pytest

from exporter.cloud.http.exchange import MAX_LIST_BYTES
from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.errors import ApiError
from exporter.ledger.record import JobsQuery, Page
from tests.cloud.harness import ClientHarness, run

JOB = {"job_id": "a", "job_state": "SUCCEED", "text_length": 7}
LONG = "h" * (MAX_LIST_BYTES + 1)


def listed(body: bytes, way: str, limit: int) -> Page:
    """What the client makes of a body with or without its length in front, or compressed."""
    headers = {}
    if way == "gzip":
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    if way == "announced":
        headers = {"Content-Length": str(len(body))}
    pieces = [body[start : start + 50_000] for start in range(0, len(body), 50_000)]

    async def stream() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    harness = ClientHarness(lambda request: httpx.Response(200, content=stream(), headers=headers))
    return run(harness.list_jobs(JobsQuery(limit=limit)))


@pytest.mark.parametrize(("size", "thread"), [(100_000, "MainThread"), (300_000, "large answer")])
def test_a_large_answer_is_decoded_in_a_thread(
    size: int, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like no page can take a second: scrapes do not wait for it."""
    threads = []
    decode = Decoder.decode

    def note(self: Decoder, body: bytes, *, redact: MessageRedactor) -> Page:
        threads.append(threading.current_thread().name)
        return decode(self, body, redact=redact)

    monkeypatch.setattr(Decoder, "decode", note)
    body = json.dumps({"count": 1, "data": [{**JOB, "x": "h" * size}]}).encode()
    assert listed(body, "announced", 100).records[0].job_id == "a"
    assert threads == [thread]


WAYS = pytest.mark.parametrize("way", ["announced", "endless", "gzip"])


@WAYS
def test_a_single_record_is_read_from_its_begin(way: str) -> None:
    """It is known by its id, and has what stands before the end of the first 60 KiB."""
    body = json.dumps({"count": 1, "data": [{**JOB, "x": LONG, "job_type": "AUDITION"}]}).encode()
    (record,) = listed(body, way, 1).records
    assert (record.job_id, record.job_state, record.text_length) == ("a", "SUCCEED", 7)
    assert record.job_type == "unknown"


@WAYS
def test_a_single_record_not_begun_by_its_id_is_malformed(way: str) -> None:
    """Whatever is before it: the same record looks the same beside another count."""
    first, second = (
        listed(json.dumps({"count": count, "data": [{"x": LONG, **JOB}]}).encode(), way, 1).records[0]
        for count in (1, 12)
    )
    assert first.malformed
    assert first == second


@WAYS
def test_a_page_that_is_too_large_is_refused(way: str) -> None:
    """Where more than one record was asked for, smaller pages show which it is."""
    body = json.dumps({"count": 1, "data": [{**JOB, "x": LONG}]}).encode()
    with pytest.raises(ApiError, match="larger than 4 MiB") as caught:
        listed(body, way, 2)
    assert str(caught.value.kind) == "too_large"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"count": 20_000, "data": [JOB] * 200_000}).encode(),
        LONG.encode(),
        b"<html>" + LONG.encode(),
        json.dumps([{**JOB, "x": LONG}]).encode(),
        json.dumps({"error": {"x": LONG}}).encode(),
    ],
    ids=["many records", "text", "HTML", "an array", "an object"],
)
def test_what_is_not_one_large_record_is_refused(body: bytes) -> None:
    """Also where one record was asked for: an API that ignores ``limit`` would look like one."""
    with pytest.raises(ApiError) as caught:
        listed(body, "endless", 1)
    assert str(caught.value.kind) == "too_large"
