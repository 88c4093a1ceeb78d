"""What a replica reads of others' targets again and again equals a full read, and is much less."""

from __future__ import annotations

import asyncio
import random

import pytest
from msgspec.structs import replace

from exporter.ledger.stored import StoredLedger
from exporter.store.postgres import PostgresStore
from testkit.postgres import PostgresServer
from testkit.tcp_proxy import tcp_proxy
from testkit.world import SECOND
from tests.fake_api import PollerHarness
from tests.store.conftest import PostgresBooks
from tests.store.support import SCOPE

pytestmark = pytest.mark.program

KEEP = 7_200_000


def view(store: PostgresStore, now: int) -> StoredLedger:
    seen = store.read_committed("t", SCOPE, now, KEEP)
    return replace(seen, minutes=tuple(sorted(seen.minutes)))


def anything(rng: random.Random, harness: PollerHarness, open_jobs: list[str]) -> None:
    """Jobs come, also late ones, and end, as different kinds; time goes on, sometimes for hours."""
    for _ in range(rng.randrange(6)):
        created = harness.clock.ms - rng.choice((0, 3, 50)) * SECOND
        service = rng.choice(("TTS_LLM", "TTS_COMMON"))
        open_jobs.append(harness.api.create(created, tts_service_enum=service))
    rng.shuffle(open_jobs)
    for _ in range(min(len(open_jobs), rng.randrange(6))):
        harness.api.finish(open_jobs.pop(), rng.choice(("SUCCEED", "FAILED")), fail_msg="boom")
    if not rng.randrange(8):
        harness.clock.ms += rng.choice((5, 90, 300)) * 60 * SECOND


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_what_changed_makes_what_is_there(postgres_books: PostgresBooks, seed: int) -> None:
    """After any commits, also by another holder and with other buckets, where all is read again."""
    rng = random.Random(seed)
    holder, follower, other = (postgres_books.open() for _ in range(3))
    harness = PollerHarness(holder)
    open_jobs: list[str] = []
    compared = 0
    for _ in range(60):
        anything(rng, harness, open_jobs)
        asyncio.run(harness.poll())
        if not rng.randrange(15):
            holder, other = other, holder
            buckets = rng.choice(((10, 100), (10, 100, 1000)))
            harness = PollerHarness(holder, harness.api, text_length_buckets=buckets)
        if rng.randrange(3):
            with_all = PostgresStore(postgres_books.url)
            assert view(follower, harness.clock.ms) == view(with_all, harness.clock.ms)
            with_all.close()
            compared += 1
    assert compared > 20
    assert view(follower, harness.clock.ms).totals


def test_only_what_changed_is_read(postgres_books: PostgresBooks, postgres: PostgresServer) -> None:
    """And the open jobs. One job more: a fifth of the bytes of the first read, at most."""
    harness = PollerHarness(postgres_books.open())
    asyncio.run(harness.poll())
    for _ in range(110):
        made = [harness.api.create(tts_service_enum=service) for service in ("TTS_LLM", "TTS_COMMON") * 2]
        for job_id, state in zip(made, ("SUCCEED", "SUCCEED", "FAILED", "FAILED"), strict=True):
            harness.api.finish(job_id, state, fail_msg="boom")
        harness.clock.ms += 60 * SECOND
        asyncio.run(harness.poll())
    with tcp_proxy(postgres.port) as network:
        follower = PostgresStore(postgres.tcp_url(postgres_books.database, port=network.port))
        sizes = []
        for _ in range(3):
            before = network.received
            seen = follower.read_committed("t", SCOPE, harness.clock.ms, KEEP)
            sizes.append(network.received - before)
            harness.api.create()
            asyncio.run(harness.poll())
        follower.close()
    assert seen.minutes
    assert max(sizes[1:]) < sizes[0] / 5, sizes
