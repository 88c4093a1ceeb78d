"""The list request itself: its URL, its headers, its signature, and what the official SDK thinks of it."""

from __future__ import annotations

from typing import Any, Literal

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from exporter import __version__
from exporter.config import Filters
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import AK, ENDPOINT, PROJECT, SK, ClientHarness, jobs, run

NOON = 1_700_000_000_000
FILTERS = Filters(job_type="ASYNC_JOB", tts_service_enum="TTS_LLM", business_type="A&B é+")


def _sent(query: JobsQuery, **options: Any) -> httpx.Request:
    harness = ClientHarness(lambda request: jobs("a"), **options)
    run(harness.list_jobs(query))
    return harness.requests[0]


@pytest.mark.parametrize(
    ("query", "options", "text"),
    [
        (JobsQuery(), {}, "limit=100&offset=0"),
        (JobsQuery(limit=7, offset=20), {}, "limit=7&offset=20"),
        (
            JobsQuery(since=NOON, until=NOON + 500),
            {},
            "create_since=2023-11-14T22%3A13%3A20Z&create_until=2023-11-14T22%3A13%3A21Z&limit=100&offset=0",
        ),
        (
            JobsQuery(since=NOON, until=NOON + 500),
            {"time_format": "unix_ms"},
            "create_since=1700000000000&create_until=1700000000500&limit=100&offset=0",
        ),
        (JobsQuery(since=NOON, until=NOON), {"time_filters": False}, "limit=100&offset=0"),
        (JobsQuery(job_id="a b/+任"), {}, "job_id=a%20b%2F%2B%E4%BB%BB&limit=100&offset=0"),
        (
            JobsQuery(),
            {"filters": FILTERS},
            "business_type=A%26B%20%C3%A9%2B&job_type=ASYNC_JOB&limit=100&offset=0&tts_service_enum=TTS_LLM",
        ),
        (JobsQuery(job_type="AUDITION"), {}, "job_type=AUDITION&limit=100&offset=0"),
    ],
    ids=["plain", "page", "times", "times_ms", "no_time_filters", "job_id", "filters", "narrowed"],
)
def test_the_url_that_is_sent(query: JobsQuery, options: dict[str, object], text: str) -> None:
    """The query is the canonical one, byte for byte, with a blank as %20 and a plus as %2B."""
    assert str(_sent(query, **options).url) == f"{ENDPOINT}/v1/{PROJECT}/ttsc/tts-jobs?{text}"


def test_the_headers_that_are_sent() -> None:
    """The exporter names itself and its project, and signs only what no proxy changes."""
    headers = _sent(JobsQuery(), app_user_id="user-0001").headers
    assert headers["User-Agent"] == f"metastudio-tts-exporter/{__version__}"
    assert headers["X-Project-Id"] == PROJECT
    assert headers["X-Sdk-Date"] == "20251119T080000Z"
    assert headers["X-App-UserId"] == "user-0001"
    assert "SignedHeaders=host;x-app-userid;x-project-id;x-sdk-date," in headers["Authorization"]


@pytest.mark.parametrize(
    "endpoint", [ENDPOINT, f"{ENDPOINT}:443", f"{ENDPOINT}:8443", "http://127.0.0.1:10080"]
)
@pytest.mark.parametrize("user", ["user-0001", "用户"])
def test_the_sdk_would_sign_the_same(endpoint: str, user: str) -> None:
    """The SDK's signer, given the request as it left us, computes the same Authorization."""
    query = JobsQuery(since=NOON, until=NOON + 500, job_id="a b/+任")
    request = _sent(query, endpoint=endpoint, app_user_id=user, filters=FILTERS)
    names = request.headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    judged = Signer(BasicCredentials(AK, SK)).sign(
        SdkRequest(
            method=request.method,
            schema=request.url.scheme,
            host=request.headers["Host"],
            resource_path=request.url.path,
            query_params=list(request.url.params.multi_items()),
            header_params={name: request.headers[name] for name in names},
        )
    )
    assert request.headers["Authorization"] == judged.header_params["Authorization"]


@pytest.mark.parametrize(("job_id", "operation"), [(None, "list_jobs"), ("a", "get_job")])
def test_operations_are_distinguished(job_id: str | None, operation: Literal["list_jobs", "get_job"]) -> None:
    """A list by job_id is reported as a lookup."""
    harness = ClientHarness(lambda request: jobs("a"))
    run(harness.list_jobs(JobsQuery(job_id=job_id)))
    assert harness.events.requests == [(operation, "200")]


def test_permanent_keys_have_no_end() -> None:
    """For keys that do not end, the expiry is reported as absent."""
    harness = ClientHarness(lambda request: jobs("a"))
    harness.events.expiry = 1.0
    run(harness.list_jobs())
    assert harness.events.expiry is None
    assert harness.events.rejected is False
