"""Killed at every write: whatever was being written, afterwards the store equals that of an uninterrupted
run.

In-process, the connection dies at the n-th statement, for every n; as a real process, at every n-th one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from exporter.store.sqlite import SqliteStore
from testkit.processes import ROOT
from testkit.world import SECOND, FakeClock, Killed
from tests.fake_api import FakeApi, PollerHarness
from tests.store.support import stored


class Mortal(sqlite3.Connection):
    """A connection that dies at the n-th statement; one with many rows may be half done."""

    left = -1
    """Statements until it dies; -1: it lives."""
    die: Callable[[], None]
    done = 0

    @classmethod
    def count(cls) -> None:
        cls.done += 1
        if cls.left == 0:
            cls.left = -1
            cls.die()
        cls.left -= cls.left > 0

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        Mortal.count()
        return super().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any]) -> sqlite3.Cursor:
        def counted() -> Iterable[Any]:
            for row in parameters:
                Mortal.count()
                yield row

        Mortal.count()
        return super().executemany(sql, counted())


def die_here() -> None:
    raise Killed


def open_mortal(path: Path) -> SqliteStore:
    """A store on a connection that can die."""
    connect = sqlite3.connect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **options: connect(*args, factory=Mortal, **options))
        store = SqliteStore(path)
    sqlite3.Connection.execute(store.db, "PRAGMA synchronous = OFF")  # no power cut: do not wait for the disk
    return store


class Story:
    """The same things happen to the jobs in every run, crash or none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.api = FakeApi(FakeClock())
        self.harness: PollerHarness | None = None

    def open(self) -> PollerHarness:
        store = open_mortal(self.path)
        if self.harness is None:
            self.harness = PollerHarness(store, self.api, max_job_age=40 * SECOND, overlap=30 * SECOND)
        else:
            self.harness.store = store
            self.harness.restart()
        return self.harness

    def poll(self) -> None:
        """One poll in a loop of its own; a death passes through it."""
        assert self.harness is not None
        asyncio.run(self.harness.poller.poll())

    def begin(self) -> None:
        """A store with a past: open, finished, evicted, missing and old jobs."""
        self.open()
        for number in range(6):
            self.poll()
            self.api.clock.ms += 15 * SECOND
            for _ in range(3):
                self.api.create(job_type=("AUDITION", "WEBSOCKET")[number % 2])
            if number > 1:
                self.api.finish(sorted(self.api.jobs)[number], "FAILED", fail_msg="boom")
        del self.api.jobs[sorted(self.api.jobs)[0]]
        self.poll()
        self.api.clock.ms += 15 * SECOND
        # What the poll of the crash will find: something of each kind.
        self.api.create(tts_service_enum="NEW_VOICE")
        self.api.finish(sorted(self.api.jobs)[5])
        self.api.create(text_length=None)

    def fall_behind(self) -> None:
        """Ten minutes of jobs go by unseen: several windows of backlog, read side by side."""
        for number in range(20):
            self.api.create(self.api.clock.ms + number * 30 * SECOND)
            if number % 3:
                self.api.finish(sorted(self.api.jobs)[-1], ("SUCCEED", "FAILED")[number % 2], fail_msg="boom")
        self.api.clock.ms += 600 * SECOND

    def copy(self, path: Path) -> Story:
        """The same story up to here, in another file; this one's store is closed."""
        assert self.harness is not None
        self.harness.store.close()
        shutil.copy(self.path, path)
        twin = Story(path)
        twin.api.jobs.update(self.api.jobs)
        twin.api.clock.ms = self.api.clock.ms
        twin.open()
        return twin

    def end(self) -> dict[str, Any]:
        """The rest of the story; returns what is stored."""
        assert self.harness is not None
        harness = self.harness
        for _ in range(3):
            self.poll()
            self.api.clock.ms += 15 * SECOND
        assert harness.repository.ledger.imbalance() == 0
        harness.store.close()
        return comparable(stored(self.path))


def comparable(held: dict[str, Any]) -> dict[str, Any]:
    """Without the counts of polls: a killed one is one more."""
    held["totals"] = {key: value for key, value in held["totals"].items() if not key[0].startswith("poll")}
    return held


@pytest.mark.slow
def test_a_kill_at_any_statement_of_a_poll_changes_no_count(tmp_path: Path) -> None:
    """Half of a commit, or a commit done twice, would show as a difference."""
    beginning = Story(tmp_path / "beginning.db")
    beginning.begin()
    kill_at_every_statement(beginning, lambda held: held, at_least=50)


@pytest.mark.slow
def test_a_kill_at_any_statement_of_a_catch_up_changes_no_count(tmp_path: Path) -> None:
    """A window is committed while others are under way; which of them were, nobody knows afterwards."""
    beginning = Story(tmp_path / "beginning.db")
    beginning.begin()
    beginning.fall_behind()
    kill_at_every_statement(beginning, counts, at_least=100)


def counts(held: dict[str, Any]) -> dict[str, Any]:
    """What was counted, and not how far the reading has come: that follows the number of polls."""
    return {"totals": held["totals"], "minutes": held["minutes"]}


def kill_at_every_statement(
    beginning: Story, of: Callable[[dict[str, Any]], dict[str, Any]], *, at_least: int
) -> None:
    """The next poll dies at each statement in turn; what ``of`` takes of the store stays the same."""
    folder = beginning.path.parent
    story = beginning.copy(folder / "whole.db")
    before = Mortal.done
    story.poll()
    statements = Mortal.done - before
    expected = of(story.end())
    assert statements >= at_least
    Mortal.die = staticmethod(die_here)
    for statement in range(statements):
        story = beginning.copy(folder / f"{statement}.db")
        assert story.harness is not None
        Mortal.left = statement
        with pytest.raises(Killed):
            story.poll()
        story.harness.store.close()
        story.open()
        story.poll()
        assert of(story.end()) == expected, f"killed at statement {statement} of {statements}"


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tests.store.test_crash import Mortal, Story
story = Story(Path(sys.argv[1]))
story.begin()
Mortal.die = staticmethod(lambda: os.kill(os.getpid(), signal.SIGKILL))
Mortal.left = int(sys.argv[2])
story.poll()
"""


@pytest.mark.e2e
@pytest.mark.parametrize("statement", [0, 7, 21, 40, 55])
def test_a_store_killed_in_a_commit_goes_on_exactly(tmp_path: Path, statement: int) -> None:
    """With SIGKILL nothing is rolled back, closed or flushed by anybody: the file is what it is."""
    story = Story(tmp_path / "whole.db")
    story.begin()
    story.poll()
    expected = story.end()
    path = tmp_path / "killed.db"
    command = [sys.executable, "-c", SCRIPT, str(path), str(statement)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -9
    story = Story(tmp_path / "twin.db")  # the API's side of the story, with a store to throw away
    story.begin()
    assert story.harness is not None
    story.harness.store.close()
    story.path = path
    story.open()
    story.poll()
    assert story.end() == expected


def test_a_commit_that_returned_is_on_the_disk(tmp_path: Path) -> None:
    """A write-ahead log, synchronised at every commit (2: FULL): a power cut loses nothing that was
    committed.
    """
    store = SqliteStore(tmp_path / "books.db")
    (journal,) = store.db.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = store.db.execute("PRAGMA synchronous").fetchone()
    assert (journal, synchronous) == ("wal", 2)
    store.close()
