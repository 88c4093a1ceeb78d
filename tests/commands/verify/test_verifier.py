"""A real ledger in a real store, listed again: equal, or different for a known cause.

The rules R1 and R6 stand in docs/counting.md.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

from exporter.commands.past import IncompleteError, Past, PastJobs, read_past, spell_time
from exporter.commands.verify.command import Verifier, comparable
from exporter.commands.verify.compare import Cause, Difference
from exporter.config import Config, FailMsgClass
from exporter.errors import ExporterError, StoreError
from exporter.ledger import Anomaly, JobsQuery, id_number, totals
from exporter.ledger.changes import Changes
from exporter.ledger.totals import TotalKey
from exporter.simulator.auth import ACCESS_KEY
from exporter.store import SqlitePast
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.processes import bare_environ, get, simulator, wait_for, write_config
from testkit.world import MINUTE, SECOND, TARGET
from tests.fake_api import PollerHarness, outage
from tests.store.support import SCOPE, polls

pytestmark = pytest.mark.program

CONFIG = Config(
    fail_msg_classes=(FailMsgClass("boom", "boom"), FailMsgClass("bang", "bang")),
    builtin_fail_msg_classes=False,
)


OVERLAP = 5 * MINUTE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "books.db")
    yield store
    store.close()


@pytest.fixture
def harness(store: SqliteStore) -> PollerHarness:
    """Some hundred jobs that have ended, and a few that have not; all of it settled."""
    harness = PollerHarness(store)
    polls(harness)
    asyncio.run(harness.poll(60))
    return harness


def verify(
    harness: PollerHarness,
    path: Path,
    config: Config = CONFIG,
    more_totals: Mapping[TotalKey, int] = MappingProxyType({}),
) -> Verifier:
    """``more_totals``: what the store says in addition."""
    verifier = new_verifier(harness, path, config, more_totals)
    asyncio.run(verifier.run(PastJobs(harness.api, TARGET), lambda _: None))
    return verifier


def new_verifier(
    harness: PollerHarness,
    path: Path,
    config: Config = CONFIG,
    more_totals: Mapping[TotalKey, int] = MappingProxyType({}),
    since: int = 0,
) -> Verifier:
    stored = SqlitePast(path, "t", SCOPE, None)
    stored.ledger.totals.update(more_totals)
    past, _ = comparable(
        Past(since, harness.clock.ms), stored.ledger, harness.retention, now=harness.clock.ms, overlap=OVERLAP
    )
    return Verifier(config, TARGET, stored, past)


def only(verifier: Verifier) -> Difference:
    (difference,) = verifier.differences
    return difference


def ended(harness: PollerHarness, state: str = "SUCCEED", place: int = 40) -> str:
    """A job that has ended in that state and is no longer remembered."""
    return [job_id for job_id, record in harness.api.jobs.items() if record.job_state == state][place]


def test_what_was_counted_is_what_is_listed(harness: PollerHarness, tmp_path: Path) -> None:
    """While the exporter has the store open; it may go on counting."""
    verifier = verify(harness, tmp_path / "books.db")
    assert verifier.differences == []
    assert verifier.listed == verifier.counted + verifier.still_open > 200
    assert verifier.still_open > 0
    asyncio.run(harness.poll())


def test_a_store_that_nobody_has_open_is_read_too(harness: PollerHarness, tmp_path: Path) -> None:
    """No file is made beside it, that another user might own."""
    harness.store.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert verify(harness, tmp_path / "books.db").differences == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_other_rules_are_a_cause(harness: PollerHarness, tmp_path: Path) -> None:
    """Every failure was counted as boom."""
    renamed = Config(fail_msg_classes=(FailMsgClass("crash", "boom"),), builtin_fail_msg_classes=False)
    found = verify(harness, tmp_path / "books.db", renamed).differences
    assert {one.cause for one in found} == {Cause.RULES_CHANGED}
    assert sum(one.jobs for one in found) == harness.finished("FAILED")


def test_deleted_relabelled_and_changed_records(harness: PollerHarness, tmp_path: Path) -> None:
    """Each is one job of its own, known by its id where that is listed."""
    gone, other, back = (ended(harness, place=place) for place in (10, 25, 40))
    del harness.api.jobs[gone]
    harness.api.change(other, tts_service_enum="TTS_LAB")
    harness.api.change(back, job_state="FAILED", fail_msg="bang")
    found = {one.cause: one.job_ids for one in verify(harness, tmp_path / "books.db").differences}
    assert found == {Cause.DELETED: (), Cause.LABEL_CHANGED: (other,), Cause.UNEXPLAINED: (back,)}


def test_an_expired_job_may_finish(store: SqliteStore, tmp_path: Path) -> None:
    """Expired is final (R1)."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(4))
    slow, stuck = harness.api.create(), harness.api.create()
    asyncio.run(harness.poll(30, every=MINUTE * 60))
    assert harness.expired("max_age") == 2
    harness.api.finish(slow)
    found = only(verify(harness, tmp_path / "books.db"))
    assert (found.cause, found.job_ids, found.jobs) == (Cause.EXPIRED_THEN_FINISHED, (slow,), 1)
    assert stuck


def test_an_expired_job_may_finish_where_others_are_gone(store: SqliteStore, tmp_path: Path) -> None:
    """It is not counted twice: by its number one of the others is gone, and these are two."""
    harness = PollerHarness(store)
    asyncio.run(harness.poll(4))
    slow, *others = (harness.api.create() for _ in range(9))
    for job_id in others:
        harness.api.finish(job_id)
    asyncio.run(harness.poll(30, every=MINUTE * 60))
    harness.api.finish(slow)
    for job_id in others[:2]:
        del harness.api.jobs[job_id]
    found = {one.cause: one.job_ids for one in verify(harness, tmp_path / "books.db").differences}
    assert found == {Cause.EXPIRED_THEN_FINISHED: (slow,), Cause.DELETED: ()}


def test_a_record_that_came_too_late(harness: PollerHarness, tmp_path: Path) -> None:
    """It explains itself only where the exporter has seen that this API lists records late."""
    late = harness.api.create(harness.clock.ms - 14 * MINUTE, "SUCCEED")
    found = only(verify(harness, tmp_path / "books.db"))
    assert (found.cause, found.job_ids, found.counted) == (Cause.UNEXPLAINED, (late,), None)
    seen_before = {(totals.ANOMALIES, "", "", "late_record"): 1}
    found = only(verify(harness, tmp_path / "books.db", more_totals=seen_before))
    assert (found.cause, found.job_ids) == (Cause.LATE_RECORD, (late,))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_what_the_api_did_to_jobs_that_ended_is_what_is_found(
    harness: PollerHarness, tmp_path: Path, seed: int
) -> None:
    """Many go back, change labels, vanish or come late, several in a minute: nothing is unexplained."""
    draw, jobs = random.Random(seed), harness.api.jobs
    known: dict[TotalKey, int] = {(totals.ANOMALIES, "", "", anomaly): 1 for anomaly in Anomaly}
    ended_jobs = [job_id for job_id, it in jobs.items() if it.job_state in ("SUCCEED", "FAILED")]
    truth: dict[str, Cause] = {}
    gone = set()
    for job_id in draw.sample(ended_jobs, 30):
        record = jobs[job_id]
        minute = (record.create_time or 0) // MINUTE
        kind = draw.choice(["back", "label", "late", "gone"])
        if kind == "back":
            truth[job_id] = Cause.STATE_REGRESSION
            harness.api.change(job_id, job_state="PROCESSING")
        elif kind == "label":
            truth[job_id] = Cause.LABEL_CHANGED
            harness.api.change(job_id, tts_service_enum=draw.choice(["TTS_LAB", "TTS_NEW"]))
        elif kind == "gone":
            gone.add(minute)
            del jobs[job_id]
        elif minute not in gone:  # one that is gone may look like it (0007-sums-of-ids.md)
            late = harness.api.create(record.create_time, "SUCCEED", tts_service_enum="TTS_ULTRA")
            truth[late] = Cause.LATE_RECORD
    found = verify(harness, tmp_path / "books.db", more_totals=known).differences
    assert Cause.UNEXPLAINED not in {it.cause for it in found}
    for it in found:
        if it.minute not in gone:
            assert {truth[job_id] for job_id in it.job_ids} <= {it.cause}
    sure = Counter(
        cause for job, cause in truth.items() if (jobs[job].create_time or 0) // MINUTE not in gone
    )
    counted = Counter[Cause]()
    for it in found:
        counted[it.cause] += it.jobs if it.minute not in gone else 0
    assert +counted == sure


def test_a_length_that_was_shown_after_the_end_has_a_cause(harness: PollerHarness, tmp_path: Path) -> None:
    """The characters of that job are in no counter (R1)."""
    late = harness.api.create(text_length=None)
    asyncio.run(harness.poll())
    harness.api.finish(late)
    asyncio.run(harness.poll(60))
    harness.api.change(late, text_length=123)
    found = only(verify(harness, tmp_path / "books.db"))
    assert (found.cause, found.job_ids) == (Cause.LATE_TEXT_LENGTH, (late,))


def test_characters_that_are_not_those_listed_are_found(harness: PollerHarness, tmp_path: Path) -> None:
    """Where every job agrees; and those of a job with other labels go with it."""
    job_id, other = ended(harness), ended(harness, place=10)
    tamper(harness, job_id, 0, 7)
    harness.api.change(other, tts_service_enum="TTS_LAB")
    first, second = verify(harness, tmp_path / "books.db").differences
    assert (first.cause, first.job_ids) == (Cause.LABEL_CHANGED, (other,))
    assert second.cause is Cause.UNEXPLAINED
    then, now = map(int, re.findall("[0-9]+", second.note))
    assert then == now + 7


def tamper(harness: PollerHarness, job_id: str, jobs: int, characters: int) -> None:
    """Add so much to what is counted where the job is, behind the ledger."""
    minute = (harness.api.jobs[job_id].create_time or 0) // MINUTE
    key = (minute, "ASYNC_JOB", "TTS_LLM", "SUCCEED", "")
    wrong: dict[str, Any] = {
        "minutes": {key: (jobs, characters)},
        "minute_ids": {key: jobs * id_number(job_id)},
    }
    stored = harness.store.load("t", SCOPE, 0, 0)
    nothing = Changes(watermarks=stored.watermarks, jobs={}, evicted=(), totals={}, minutes={}, label_sets=())
    commit = Commit(
        version=stored.version,
        changes=replace(nothing, **wrong),
        project_id="p1",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )
    harness.store.commit("t", SCOPE, commit)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [-1, 1], ids=["lost", "counted-twice"])
def test_a_count_that_is_wrong_by_one_is_found(harness: PollerHarness, tmp_path: Path, jobs: int) -> None:
    """A store that is consistent in itself, and wrong."""
    job_id = ended(harness)
    tamper(harness, job_id, jobs, jobs * (harness.api.jobs[job_id].text_length or 0))
    found = only(verify(harness, tmp_path / "books.db"))
    assert (found.cause, found.job_ids) == (Cause.UNEXPLAINED, (job_id,))


def test_jobs_that_end_meanwhile_are_no_difference(harness: PollerHarness, tmp_path: Path) -> None:
    """They are listed in one state and counted in another until both are read again."""
    pages = iter(range(1000))

    def end_some(_query: Any) -> None:
        if next(pages) == 3:
            for job_id, record in list(harness.api.jobs.items()):
                if record.job_state == "WAITING":
                    harness.api.finish(job_id)
            harness.api.before_page = lambda _: None
            waiting.append(asyncio.ensure_future(harness.poll(2)))

    waiting: list[Any] = []
    harness.api.before_page = end_some
    assert verify(harness, tmp_path / "books.db").differences == []


def test_an_outage_says_how_far_it_came(harness: PollerHarness, tmp_path: Path) -> None:
    """What was compared before it, is compared."""

    def fail_later(query: Any) -> Any:
        return outage(query) if (query.since or 0) > harness.clock.ms - 18 * MINUTE else None

    harness.api.fail = fail_later
    with pytest.raises(IncompleteError, match=r"^read up to 20\d\d-[\dT:-]+Z, then: .*unavailable"):
        verify(harness, tmp_path / "books.db")


def test_a_run_goes_on_where_one_was_stopped(harness: PollerHarness, tmp_path: Path) -> None:
    """By --since: together they compare what one run compares, and find what it finds."""
    for place in (10, -5):  # minutes with a difference are read again
        del harness.api.jobs[ended(harness, place=place)]
    whole = verify(harness, tmp_path / "books.db")
    stopped = new_verifier(harness, tmp_path / "books.db")
    begin = stopped.reached

    def stop(query: JobsQuery) -> None:
        if (query.since or 0) > begin:  # the last one of these minutes
            raise asyncio.CancelledError

    harness.api.before_page = stop
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped.run(PastJobs(harness.api, TARGET), lambda _: None))
    harness.api.before_page = lambda _: None
    rest = new_verifier(harness, tmp_path / "books.db", since=stopped.reached)
    asyncio.run(rest.run(PastJobs(harness.api, TARGET), lambda _: None))
    assert 0 < stopped.listed < whole.listed
    assert stopped.requests > 0
    assert stopped.listed + rest.listed == whole.listed
    assert stopped.counted + rest.counted == whole.counted
    assert stopped.differences + rest.differences == whole.differences
    assert len(whole.differences) == 2


@pytest.mark.program
def test_a_run_that_read_nothing_is_not_called_equal(harness: PollerHarness, tmp_path: Path) -> None:
    """With a wrong key: the error alone, or JSON that says that it is not complete, and where to go on."""
    harness.store.close()
    with simulator(tmp_path, "--rate=0", "--history=1") as cloud:
        auth = {"aksk": {"access_key": ACCESS_KEY, "secret_key": "wrong"}}
        config = write_config(tmp_path, cloud, target={"project_id": "p1", "auth": auth})
        command = [sys.executable, "-m", "exporter", "verify", f"--config.file={config}"]
        command.append(f"--since={harness.clock.ms // SECOND - 1200}")
        plain, machine = (
            subprocess.run(
                [*command, *flags], env=bare_environ(), capture_output=True, text=True, check=False
            )
            for flags in ([], ["--json"])
        )
    assert (plain.returncode, plain.stdout, machine.returncode) == (1, "", 1)
    said = json.loads(machine.stdout)
    assert (said["complete"], said["differences"], said["go_on_since"]) == (False, [], said["since"])
    assert said["error"] in machine.stderr


@pytest.mark.program
def test_ctrl_c_says_how_to_go_on(harness: PollerHarness, tmp_path: Path) -> None:
    """With 130, as of a shell, while a request hangs."""
    harness.store.close()
    hang = '--faults=[{"kind": "hang", "times": 1}]'
    with simulator(tmp_path, "--rate=0", "--history=1", hang) as cloud:
        config = write_config(tmp_path, cloud, target={"project_id": "p1"})
        since = harness.clock.ms // SECOND - 1200
        program = subprocess.Popen(
            [sys.executable, "-m", "exporter", "verify", f"--config.file={config}", f"--since={since}"],
            env=bare_environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell lets what it starts in the background ignore the signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        faults = f"{cloud}/simulator/faults"
        wait_for("the request that hangs", lambda: json.loads(get(faults) or "")["faults"] == [] or None)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert (program.returncode, out) == (130, "")
    assert re.fullmatch(r"metastudio-tts-exporter: stopped at (20\S+Z); go on with --since \1\n", err), err


def test_what_cannot_be_compared_is_said(harness: PollerHarness, tmp_path: Path) -> None:
    """Before counting began, and what is not settled yet."""
    stored = SqlitePast(tmp_path / "books.db", "t", SCOPE, None)
    now = harness.clock.ms
    watermarks = stored.ledger.watermarks
    assert watermarks is not None
    times = {"now": now, "overlap": OVERLAP}
    past, left_out = comparable(Past(now - 86_400 * SECOND, now), stored.ledger, harness.retention, **times)
    assert past.since >= watermarks.baseline
    assert past.until <= watermarks.settled_until
    assert [text.split(": ")[1] for text in left_out] == ["counting began then", "not settled yet"]
    with pytest.raises(ExporterError, match=r"nothing of .* can be compared: .*counting began then"):
        comparable(Past(0, MINUTE), stored.ledger, harness.retention, **times)
    past, left_out = comparable(Past(0, now), stored.ledger, 5 * MINUTE, **times)
    assert past.since >= watermarks.settled_until - 5 * MINUTE
    assert "storage.retention" in left_out[-1] or "storage.retention" in left_out[-2]


@pytest.mark.parametrize(
    ("later", "says"),
    [
        (MINUTE, "; the rest can be compared from {due} on"),
        (60 * MINUTE, ", which was due by {due}: is the exp"),
    ],
    ids=["soon", "overdue"],
)
def test_what_is_not_settled_says_until_when(
    harness: PollerHarness, tmp_path: Path, later: int, says: str
) -> None:
    """And why; where it should be, that the exporter may have stopped."""
    stored = SqlitePast(tmp_path / "books.db", "t", SCOPE, None)
    until = harness.clock.ms
    _, left_out = comparable(
        Past(until - 20 * MINUTE, until), stored.ledger, harness.retention, now=until + later, overlap=OVERLAP
    )
    why = "not settled yet: all is listed once more when it is poll.overlap (300 s) old"
    assert why + says.format(due=spell_time(until + 2 * OVERLAP)) in left_out[-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "scope", "says"),
    [("u", SCOPE, "nothing was counted for target 'u' yet"), ("t", "region=x", "use a new target name")],
    ids=["target", "scope"],
)
def test_a_store_of_something_else_is_refused(
    harness: PollerHarness, tmp_path: Path, name: str, scope: str, says: str
) -> None:
    """Its counts would be compared with other jobs."""
    with pytest.raises(StoreError, match=says):
        SqlitePast(tmp_path / "books.db", name, scope, None)


def test_a_store_of_another_project_is_refused(harness: PollerHarness, tmp_path: Path) -> None:
    """Where the project is configured; the store knows its own."""
    SqlitePast(tmp_path / "books.db", "t", SCOPE, "p1")
    with pytest.raises(StoreError, match="was counted for another project"):
        SqlitePast(tmp_path / "books.db", "t", SCOPE, "p2")


def test_without_a_store_nothing_was_counted(tmp_path: Path) -> None:
    """And none is made."""
    with pytest.raises(StoreError, match="there is no store"):
        SqlitePast(tmp_path / "books.db", "t", SCOPE, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        ("24h", None, (199_913_600_000, 200_000_000_000)),
        ("1970-01-02", "1970-01-02T00:01:00Z", (86_400_000, 86_460_000)),
        ("100000000", "10s", (100_000_000_000, 199_999_990_000)),
    ],
)
def test_times_may_be_given_in_several_ways(since: str, until: str | None, expected: tuple[int, int]) -> None:
    """Before now, as a day, a time, or Unix seconds."""
    assert read_past(since, until, 200_000_000_000) == expected
