"""What one replica makes of a lease table: what it takes, leaves and reads. The store is a stand-in."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import cast

import pytest

from exporter.cloud.shared_limits import SharedLimits
from exporter.errors import StoreError, StoreLockedError, StoreUnavailableError
from exporter.ledger.snapshot import TargetView
from exporter.runtime.replica import Replica
from exporter.store import LeaseTable, LedgerRepository, SharedStore
from testkit.world import IDENTITY

NAMES = ("t", "u", "v", "w")


class StoredLeases:
    """The store's part that is about leases."""

    replica = "me"

    def __init__(self) -> None:
        self.holders: dict[str, str] = {}
        self.versions = dict.fromkeys(NAMES, 1)
        self.replicas = {"me", "other"}
        self.able = frozenset(NAMES)
        self.error: StoreError | None = None

    def renew(self, names: list[str], seconds: float) -> LeaseTable:
        if self.error is not None:
            raise self.error
        able = dict.fromkeys(self.replicas, self.able)
        return LeaseTable(able, dict(self.holders), dict(self.versions))

    def release(self, names: set[str]) -> None:
        if self.error is not None:
            raise self.error
        for name in names:
            del self.holders[name]

    def resign(self) -> None:
        if self.error is not None:
            raise self.error


class StoredTarget:
    """A repository whose target may be held by another process, whatever the table said."""

    def __init__(self, leases: StoredLeases, name: str) -> None:
        self.leases = leases
        self.name = name

    async def load(self, wall_now: int) -> None:
        if self.leases.holders.get(self.name, "me") in self.leases.replicas - {"me"}:
            raise StoreLockedError("held by another replica")
        self.leases.holders[self.name] = "me"

    async def follow(self, store: object, wall_now: int) -> TargetView:
        return IDENTITY

    def snapshot(self, now: int | None) -> TargetView:
        return IDENTITY


class TakingTurns:
    def __init__(self) -> None:
        self.now = 100.0
        self.leases = StoredLeases()
        self.replica = Replica(cast(SharedStore, self.leases), 15.0, monotonic=lambda: self.now)

    def round(self) -> tuple[set[str], set[str], list[str]]:
        """Renew: what is lost, what others shall have, and what is opened then."""

        async def act() -> tuple[set[str], set[str], list[str]]:
            self.now += 1.0
            table = await self.replica.renew(NAMES)
            lost, surplus = self.replica.to_leave(table)
            self.replica.forget(lost | surplus)
            await self.replica.release(surplus)
            opened = self.replica.to_open(table, NAMES)
            self.now += 1.0
            for name in opened:
                await self.replica.open(name, cast(LedgerRepository, StoredTarget(self.leases, name)))
            return lost, surplus, opened

        return asyncio.run(act())


def test_a_replica_takes_its_part_and_reads_the_rest() -> None:
    stage = TakingTurns()
    stage.leases.holders = {"t": "other", "u": "other"}
    assert stage.round() == (set(), set(), list(NAMES))
    assert stage.replica.held == {"v", "w"}
    assert stage.round() == (set(), set(), [])
    stage.leases.versions |= {"t": 2, "v": 2}
    assert stage.round() == (set(), set(), ["t"])


def test_targets_of_one_that_is_gone_are_taken() -> None:
    stage = TakingTurns()
    stage.leases.holders = {"t": "other", "u": "other"}
    stage.round()
    stage.leases.replicas = {"me"}
    assert stage.round() == (set(), set(), ["t", "u"])
    assert stage.replica.held == set(NAMES)


def test_a_replica_that_joins_gets_half() -> None:
    """Released first: it takes them after that."""
    stage = TakingTurns()
    stage.leases.replicas = {"me"}
    stage.round()
    stage.leases.replicas = {"me", "other"}
    _, surplus, opened = stage.round()
    assert len(surplus) == 2
    assert set(opened) == surplus  # to be read from now on, as another one will commit
    assert stage.replica.held == set(NAMES) - surplus


def test_a_release_that_failed_is_made_again() -> None:
    """Else nobody would poll the target: it is held by a replica that lives, and has enough others."""
    stage = TakingTurns()
    stage.leases.replicas = {"me"}
    stage.round()
    stage.leases.replicas = {"me", "other"}
    table = asyncio.run(stage.replica.renew(NAMES))
    stage.now += 1.0
    table = asyncio.run(stage.replica.renew(NAMES))
    _, surplus = stage.replica.to_leave(table)
    stage.leases.error = StoreError("the database restarts")
    stage.replica.forget(surplus)
    asyncio.run(stage.replica.release(surplus))
    stage.leases.error = None
    assert stage.round()[1] == surplus
    assert set(stage.leases.holders) == set(NAMES) - surplus


def test_what_another_one_took_is_left() -> None:
    """After a pause that was longer than the lease."""
    stage = TakingTurns()
    stage.leases.holders = {"t": "other", "u": "other"}
    stage.round()
    stage.leases.holders["v"] = "other"
    lost, _, opened = stage.round()
    assert (lost, stage.replica.held) == ({"v"}, {"w"})
    assert "v" in opened


def test_what_was_taken_since_is_not_lost() -> None:
    """A ledger takes long to load: the table was asked for before."""
    stage = TakingTurns()
    stage.leases.replicas = {"me"}
    stage.round()
    before = LeaseTable({"me": frozenset(NAMES)}, {}, {})
    stage.now += 1.0
    assert stage.replica.to_leave(before) == (set(), set())
    asyncio.run(stage.replica.renew(NAMES))
    assert stage.replica.to_leave(before) == (set(NAMES), set())


def test_a_target_that_was_taken_at_the_same_time_is_read() -> None:
    """The database decides, and nothing fails."""
    stage = TakingTurns()
    table = asyncio.run(stage.replica.renew(NAMES))
    (mine, *_) = sorted(stage.replica.own(table, NAMES))
    stage.leases.holders[mine] = "other"
    asyncio.run(stage.replica.open(mine, cast(LedgerRepository, StoredTarget(stage.leases, mine))))
    assert stage.replica.held == set()


def test_a_lease_ends_by_the_clock_of_the_process() -> None:
    """It counts from before the renewal was asked for."""
    stage = TakingTurns()
    assert stage.replica.seconds_left == 0
    asyncio.run(stage.replica.renew(NAMES))
    assert stage.replica.seconds_left == 15.0
    stage.now += 16.0
    assert stage.replica.seconds_left == 0


def test_a_problem_is_logged_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """That nothing answers is said by the store, for all targets."""
    replica = TakingTurns().replica
    with caplog.at_level(logging.ERROR):
        for error in (StoreError("a"), StoreError("a"), None, StoreError("a"), StoreUnavailableError("b")):
            replica.note_problem(error, "t")
    assert len(caplog.records) == 2


def test_that_a_problem_is_over_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Where a line said that there is one: also when nothing answered in between."""
    replica = TakingTurns().replica
    with caplog.at_level(logging.INFO):
        for error in (None, StoreUnavailableError("b"), None, StoreError("a"), StoreUnavailableError("b")):
            replica.note_problem(error)
            replica.note_problem(error, "t")
        caplog.clear()
        for _ in range(2):
            replica.note_problem(None)
            replica.note_problem(None, "t")
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "the leases are renewed again"),
        ("INFO", "the target can be taken or read again"),
    ]


def test_a_start_that_leased_nothing_says_nothing_of_leases(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for them; why it failed is another line. Later a release that fails is a warning."""
    turns = TakingTurns()
    turns.leases.error = StoreError("permission denied")
    with caplog.at_level(logging.INFO):
        with pytest.raises(StoreError):
            turns.round()
        asyncio.run(turns.replica.resign())
        assert caplog.records == []
        turns.leases.error = None
        turns.round()
        turns.leases.error = StoreError("permission denied")
        asyncio.run(turns.replica.resign())
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def fields_of(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    """Of the only line."""
    (line,) = caplog.records
    caplog.clear()
    return {"message": line.message, **line.__dict__["fields"]}


def test_a_start_with_many_targets_is_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    stage, names = TakingTurns(), [f"t{number:03}" for number in range(200)]
    stage.leases.able = frozenset(names)
    stage.leases.replicas, stage.leases.versions = {"me"}, {}

    async def start() -> None:
        await stage.replica.renew(names)
        for name in names:
            await stage.replica.open(name, cast(LedgerRepository, StoredTarget(stage.leases, name)))

    with caplog.at_level(logging.INFO):
        asyncio.run(start())
        stage.replica.log_taken(start=True)
        line = fields_of(caplog)
        stage.replica.log_taken()
    assert caplog.records == []
    assert line["count"] == 200
    assert str(line["first_time"]).startswith("t000 t001 ")
    assert str(line["first_time"]).endswith("t019 and 180 more")


def test_what_is_lost_is_logged_with_its_new_holder(caplog: pytest.LogCaptureFixture) -> None:
    """Or that nobody has it yet, where only the lease is over."""
    stage = TakingTurns()
    stage.round()
    stage.leases.holders["v"] = "other"
    lost, *_ = stage.round()
    with caplog.at_level(logging.INFO):
        stage.replica.log_lost(lost)
        said = {"replica": "me", "count": 1, "targets": "v"}
        assert fields_of(caplog) == {"message": "targets lost", **said, "to": "other"}
        stage.now += 16.0
        stage.replica.log_lost(lost)
        assert fields_of(caplog) == {
            "message": "the lease is over: polling ends until it is renewed", **said
        }  # fmt: skip
        stage.replica.log_lost(set())
    assert caplog.records == []


def test_replicas_divide_what_one_may_send() -> None:
    """The rate of the credentials is that of all processes together, divided by the targets that each polls:
    one of three, whatever their number, has the whole where the credentials are those of one target.
    """
    shared = SharedLimits(claims=None)
    limiter = shared.limiter("key", "t", 6.0)
    shared.divide(3, {"t"})
    assert limiter.rate == 6.0
    assert shared.limiter("key", "u", 3.0).rate == 1.5
    other = shared.limiter("other key", "v", 6.0)
    shared.divide(3, {"t", "v"})
    assert (limiter.rate, other.rate) == (1.5, 6.0)
    shared.divide(3, {"t", "u"})
    assert (limiter.rate, shared.part("key")) == (3.0, 1.0)
    shared.keep(frozenset({"t", "v"}))
    assert limiter.rate == 6.0


@pytest.mark.parametrize("seed", range(5))
def test_replicas_together_never_have_more_than_the_whole(seed: int) -> None:
    """Whoever holds which targets, in any order in which they leave and take them; idle ones send nothing."""
    rng, names = random.Random(seed), [f"t{number}" for number in range(7)]
    replicas = [SharedLimits(claims=None) for _ in range(3)]
    holders: dict[str, int] = {}
    for name in names:
        for shared in replicas:
            shared.limiter("key", name, 7.0)
    for _ in range(100):
        name = rng.choice(names)
        before = holders.pop(name, None)
        if before is not None:
            replicas[before].divide(3, {taken for taken, holder in holders.items() if holder == before})
        else:
            taker = rng.randrange(3)
            holders[name] = taker
            replicas[taker].divide(3, {taken for taken, holder in holders.items() if holder == taker})
        polling = set(holders.values())
        assert sum(replicas[replica].limiters["key"].rate for replica in polling) <= 7.0 + 1e-9
