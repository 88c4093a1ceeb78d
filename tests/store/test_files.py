"""The files of a store while it is open: private, ours alone, and still there."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from exporter.errors import StoreError
from exporter.store.sqlite import SqliteStore
from testkit.processes import ROOT, exporter, simulator, total, wait_for, write_config
from tests.fake_api import PollerHarness
from tests.store.support import fill, polls

SUFFIXES = ("", "-wal", "-shm", ".lock")
GONE = r"was moved, removed or replaced while the exporter runs"


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def replace(path: Path) -> None:
    """As a restored copy does it: the same bytes in another file."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


def link(path: Path) -> None:
    """A file moved elsewhere, with a link to it in its place: after a crash its log would not be found."""
    path.symlink_to(path.rename(path.with_suffix(".moved")))


LOSSES = [remove, rename, replace, link]


@pytest.mark.parametrize("suffix", SUFFIXES, ids=["database", "log", "shared-memory", "lock"])
@pytest.mark.parametrize("lose", LOSSES)
def test_a_file_lost_while_running_stops_the_counting(
    tmp_path: Path, suffix: str, lose: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """What is committed into a file without a name is lost with the process."""
    path = tmp_path / "books.db"
    harness = PollerHarness(SqliteStore(path))
    asyncio.run(harness.poll(2))
    harness.api.create()
    asyncio.run(harness.poll())
    seen = harness.created()
    lose(beside(path, suffix))
    harness.api.create()
    assert asyncio.run(harness.poll()) == "failed"
    assert asyncio.run(harness.poll()) == "failed"
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    assert harness.created() == seen
    assert not harness.view.last_poll.up
    assert str(beside(path, suffix)) in harness.repository.problem
    harness.store.close()


@pytest.mark.parametrize("suffix", SUFFIXES[:2], ids=["database", "log"])
@pytest.mark.parametrize("left", [0, 4096 + 32 + 24, -1], ids=["empty", "a-page", "all-but-a-byte"])
def test_a_file_made_smaller_while_running_stops_the_counting(
    tmp_path: Path, suffix: str, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the same file: SQLite goes on with what it remembers; the next start finds the rest. One line."""
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    harness = PollerHarness(store)
    polls(harness, rounds=3)
    harness.api.create()
    asyncio.run(harness.poll())
    seen = harness.created()
    file = beside(path, suffix)
    os.truncate(file, left if left >= 0 else file.stat().st_size - 1)
    caplog.clear()
    for _ in range(4):
        harness.api.create()
        assert asyncio.run(harness.poll()) == "failed"
    assert harness.created() == seen
    assert harness.repository.problem.startswith(f"{file}: was made smaller while the exporter runs")
    assert len(caplog.records) == 1
    store.close()


def test_another_program_may_empty_the_log(tmp_path: Path) -> None:
    """All of it is in the database then: nothing is lost."""
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    harness = PollerHarness(store)
    asyncio.run(harness.poll(3))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    assert beside(path, "-wal").stat().st_size == 0
    harness.api.create()
    assert asyncio.run(harness.poll()) == "complete"
    assert harness.created() == 1
    store.close()


def test_a_lost_store_is_reported_once_each_time_it_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A line every poll would hide every other; a new loss is news."""
    path = tmp_path / "books.db"
    harness = PollerHarness(SqliteStore(path))
    asyncio.run(harness.poll(3))
    caplog.clear()
    for losses in (1, 2):
        path.rename(tmp_path / "aside")
        asyncio.run(harness.poll(3))
        assert len(caplog.records) == losses
        (tmp_path / "aside").rename(path)
        assert asyncio.run(harness.poll(2)) == "complete"
    assert len(caplog.records) == 2
    harness.store.close()


def test_counting_goes_on_when_a_moved_file_is_put_back(tmp_path: Path) -> None:
    """It is the same file: nothing was lost, and nothing is counted twice."""
    path = tmp_path / "books.db"
    harness = PollerHarness(SqliteStore(path))
    asyncio.run(harness.poll(3))
    path.rename(tmp_path / "aside")
    harness.api.create()
    asyncio.run(harness.poll(2))
    (tmp_path / "aside").rename(path)
    asyncio.run(harness.poll(2))
    assert harness.created() == 1
    assert harness.balanced()
    harness.store.close()


@pytest.mark.parametrize("name", ["books.db", "other.db"], ids=["lock-file-removed", "another-name"])
def test_one_database_has_one_exporter(tmp_path: Path, name: str) -> None:
    """The lock is on the file itself: neither the loss of the lock file nor a hard link gets round it."""
    path = tmp_path / "books.db"
    store = SqliteStore(path)
    beside(path, ".lock").unlink()
    if name != "books.db":
        (tmp_path / name).hardlink_to(path)
    command = "import sys; from exporter.store.sqlite import *; SqliteStore(Path(sys.argv[1]))"
    second = subprocess.run(
        [sys.executable, "-c", command, str(tmp_path / name)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "another exporter is using this store" in second.stderr
    store.close()


def test_a_second_exporter_on_a_new_file_is_left_alone(tmp_path: Path) -> None:
    """The first one ends without a trace in the files of the second, which took its place."""
    path = tmp_path / "books.db"
    first = SqliteStore(path)
    harness = PollerHarness(first)
    asyncio.run(harness.poll(3))
    for suffix in SUFFIXES:
        beside(path, suffix).unlink()
    other = PollerHarness(SqliteStore(path))
    other.api.create()
    asyncio.run(other.poll(3))
    asyncio.run(harness.poll())
    first.close()
    assert beside(path, "-wal").stat().st_size > 0
    other.store.close()
    again = PollerHarness(SqliteStore(path))
    asyncio.run(again.repository.load(0))
    assert len(again.repository.ledger.jobs) == len(other.api.jobs)
    again.store.close()


# --- who may read them ------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
def test_new_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """A reader could take locks on them, and stop the counting."""
    before = os.umask(umask)
    try:
        store = SqliteStore(tmp_path / "books.db")
    finally:
        os.umask(before)
    assert modes(tmp_path / "books.db") == dict.fromkeys(SUFFIXES, 0o600)
    store.close()


def test_files_of_former_versions_become_private(tmp_path: Path) -> None:
    """They were made with 0644; the folder is its owner's business."""
    path = fill(tmp_path / "books.db")
    path.chmod(0o644)
    beside(path, ".lock").chmod(0o666)
    tmp_path.chmod(0o755)
    store = SqliteStore(path)
    assert modes(path) == dict.fromkeys(SUFFIXES, 0o600)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    store.close()


def modes(path: Path) -> dict[str, int]:
    return {suffix: stat.S_IMODE(beside(path, suffix).stat().st_mode) for suffix in SUFFIXES}


@pytest.mark.parametrize("suffix", ["", ".lock"], ids=["database", "lock"])
def test_a_fifo_in_place_of_a_file_is_named(tmp_path: Path, suffix: str) -> None:
    """Opening one may wait for ever."""
    os.mkfifo(beside(tmp_path / "books.db", suffix))
    with pytest.raises(StoreError, match="is not a regular file"):
        SqliteStore(tmp_path / "books.db")


# --- the real program -------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_the_program_goes_on_serving_and_says_what_is_gone(tmp_path: Path) -> None:
    """Committed counts stay on show, ``up`` is 0, and a restart starts a new store."""
    with (
        simulator(tmp_path, "--rate=600") as cloud,
        exporter(write_config(tmp_path, cloud), tmp_path) as program,
    ):

        def created() -> float:
            return total(program.samples() or {}, "metastudio_tts_jobs_created_total")

        wait_for("some jobs", lambda: created() > 0)
        for suffix in SUFFIXES:
            beside(tmp_path / "books.db", suffix).unlink()
        wait_for("a poll that fails", lambda: not total(program.samples() or {}, "metastudio_up"))
        seen = created()
        assert seen > 0
        said = wait_for("a line", lambda: [line for line in program.log().splitlines() if GONE in line])
        assert str(tmp_path / "books.db") in said[0]
        failed = total(program.samples() or {}, "metastudio_exporter_polls_total")
        wait_for(
            "more polls",
            lambda: total(program.samples() or {}, "metastudio_exporter_polls_total") > failed + 2,
        )
        lines = [line.split("msg=")[1] for line in program.log().splitlines() if GONE in line]
        assert len(lines) == len(set(lines)), "each is said once"
        assert created() == seen
        assert program.stop() == 0
        program.start()
        wait_for("a new store", lambda: created() > 0)
