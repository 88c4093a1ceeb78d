"""Every secret that a request carries is known to the log's redactor before it is sent."""

from __future__ import annotations

from pathlib import Path

import httpx

from exporter import log
from exporter.cloud.shared_limits import SharedLimits
from exporter.config import AkskAuth, Secret
from exporter.ledger.record import JobsQuery
from tests.cloud.harness import Events, client_of, jobs, run, target


def test_secrets_from_files_and_their_successors_are_redacted(tmp_path: Path) -> None:
    """Also while the very first request is still under way; after a rotation old and new."""
    redactor, seen = log.Redactor(), []
    path = tmp_path / "sk"
    path.write_text("first-secret-key\n")

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(redactor.redact("access-key first-secret-key second-secret-key"))
        return jobs("a")

    async def scenario() -> None:
        client = client_of(
            target(auth=AkskAuth(Secret("access-key"), path)),
            events=Events(),
            shared=SharedLimits(claims=None),
            environ={},
            transport=httpx.MockTransport(answer),
            redactor=redactor,
        )
        await client.list_jobs(JobsQuery(), deadline=float("inf"))
        path.write_text("second-secret-key\n")
        await client.list_jobs(JobsQuery(), deadline=float("inf"))
        await client.aclose()

    run(scenario())
    assert seen == ["*** *** second-secret-key", "*** *** ***"]


def test_a_text_is_not_cut_before_its_secrets_are_redacted() -> None:
    """A token is longer than the piece of an odd answer that a message shows."""
    from exporter.cloud.http.errors import bad_page
    from exporter.cloud.redact import MessageRedactor

    token = "MIIS" + "0123456789abcdef" * 100
    assert "MIIS" not in str(bad_page(b"odd words " + token.encode(), MessageRedactor([token])))
