"""What is remembered of failed requests."""

from __future__ import annotations

from exporter.exposition.api_stats import KEPT_REQUESTS, ApiTarget
from tests.exposition.views import api_error


def test_last_failures_are_kept_with_what_support_asks_for() -> None:
    """Time, code and request id of each."""
    clock = iter((100.0, 200.0))
    target = ApiTarget("t", 0.0, lambda: next(clock))
    target.error(api_error("list_jobs", "server", None, status=503, request_id="first", message="try later"))
    target.error(api_error("get_job", "auth", "APIG.0308", status=401, request_id="second"))
    newest, oldest = target.view().failed_requests
    assert (newest.time, newest.operation, newest.http_status, newest.error_code, newest.request_id) == (
        200.0,
        "get_job",
        401,
        "APIG.0308",
        "second",
    )
    assert (oldest.time, oldest.kind, oldest.error_code, oldest.message) == (100.0, "server", "", "try later")


def test_failures_and_their_texts_are_bounded() -> None:
    """However many and however long: they come from outside."""
    target = ApiTarget("t", 0.0, lambda: 1.0)
    for _ in range(KEPT_REQUESTS + 5):
        target.error(api_error("list_jobs", "server", "c" * 9999, request_id="r" * 9999, message="m" * 9999))
    failures = target.view().failed_requests
    assert len(failures) == KEPT_REQUESTS
    assert max(len(failures[0].error_code), len(failures[0].request_id), len(failures[0].message)) <= 500


def test_what_is_so_now_is_said_by_the_replica_that_polls() -> None:
    """A replica that had refused credentials does not go on to say so when another one polls the target."""
    target = ApiTarget("t", 0.0, lambda: 1.0)
    target.request("list_jobs", "401", 0.1)
    target.rate_limit(5.0)
    target.credentials_rejected(True)
    target.access_denied(True)
    target.credentials_expiry(9.0)
    target.polling(False)
    left = target.view()
    assert (left.rate_limit, left.credentials_rejected, left.access_denied, left.credentials_expiry) == (
        None,
        False,
        False,
        None,
    )
    assert left.requests == {("list_jobs", "401"): 1}, "what it counted stays"
    target.polling(True)
    assert (target.view().rate_limit, target.view().credentials_rejected) == (5.0, True)
