"""Stores that cannot be used: one clear line for each, and not a byte of the file changed.

Each fault is met twice: by the store itself, and by the real program, which must end with exit code 1 and
nothing but that line.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from exporter.errors import (
    StoreConflictError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
    StoreVersionError,
)
from exporter.ledger.changes import Changes
from exporter.ledger.job_index import Job
from exporter.store import sqlite
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.processes import ROOT, exporter, simulator, total, wait_for, write_config
from tests.fake_api import PollerHarness
from tests.store.support import SCOPE, fill, polls, stored

DAMAGED = r"books\.db: the store is damaged and was left as it is: move it away to start new books"
LOCK_HELD = r"books\.db: another program holds a lock on the store: end it"


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.commit()


def newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 7")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def links_in_a_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


Damage = Callable[[Path], None]
FAULTS: dict[str, tuple[Damage, type[StoreError], str]] = {
    "not-sqlite": (lambda path: overwrite(path, 0, b"Dear diary,\n" * 400), StoreCorruptError, DAMAGED),
    "damaged-pages": (lambda path: overwrite(path, 4096, b"\xa5" * 20_000), StoreCorruptError, DAMAGED),
    "damaged-header": (lambda path: overwrite(path, 16, b"\xff" * 60), StoreCorruptError, DAMAGED),
    "truncated": (
        lambda path: os.truncate(path, path.stat().st_size // 2),
        StoreCorruptError,
        DAMAGED,
    ),
    "truncated-within-the-header": (lambda path: os.truncate(path, 50), StoreCorruptError, DAMAGED),
    "another-program": (
        foreign,
        StoreCorruptError,
        r"books\.db: this SQLite file belongs to another program: choose another storage\.url",
    ),
    "newer-version": (
        newer,
        StoreVersionError,
        r"books\.db: written by a newer version of this exporter \(store version 7, this one knows 4\):"
        r" upgrade the exporter, or choose another storage\.url",
    ),
    "a-folder": (
        folder_instead,
        StoreError,
        r"books\.db: cannot be opened \(Is a directory\): storage\.url needs an existing, writable folder",
    ),
    "links-in-a-circle": (links_in_a_circle, StoreError, r"books\.db: cannot be (used: Symlink loop|opened)"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with a few hundred jobs in it, closed."""
    return fill(tmp_path / "books.db")


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@pytest.mark.parametrize(("damage", "error", "message"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_cannot_be_used_is_refused_and_left_alone(
    path: Path, damage: Damage, error: type[StoreError], message: str
) -> None:
    """Starting a new store over it would destroy what could still be rescued."""
    damage(path)
    before = content(path)
    with pytest.raises(error, match=message) as caught:
        SqliteStore(path)
    assert "\n" not in str(caught.value)
    assert content(path) == before


@pytest.mark.e2e
@pytest.mark.parametrize(("damage", "message"), [fault[::2] for fault in FAULTS.values()], ids=FAULTS)
def test_the_program_says_so_in_one_line_and_ends(path: Path, damage: Damage, message: str) -> None:
    """No traceback, exit code 1, the file as it was."""
    damage(path)
    before = content(path)
    refused(path, message)
    assert content(path) == before


def refused(path: Path, message: str, *prefix: str, config_in: Path | None = None) -> None:
    """Run the real program on this store: it must end by itself and say this one thing."""
    config = write_config(
        config_in or path.parent, "http://127.0.0.1:9", storage={"url": f"sqlite:///{path}"}
    )
    arguments = ["-m", "exporter", f"--config.file={config}", "--web.listen-address=127.0.0.1:0"]
    done = subprocess.run(
        [*prefix, sys.executable, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"metastudio-tts-exporter: \S*{message}[^\n]*\n", done.stderr), done.stderr


# --- the folder -------------------------------------------------------------------------------------------


@pytest.mark.program
def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Making it could hide a typing error, or a volume that is not mounted."""
    refused(
        tmp_path / "missing" / "books.db",
        r"books\.db\.lock: cannot be opened \(No such file or directory\): storage\.url needs an existing,"
        r" writable folder",
        config_in=tmp_path,
    )
    assert not (tmp_path / "missing").exists()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("what", "mode", "message"),
    [
        pytest.param(".", 0o500, r"books\.db\.lock: cannot be opened \(Permission denied\)", id="folder"),
        pytest.param("books.db", 0o400, r"books\.db: cannot be opened \(Permission", id="read-only-file"),
        pytest.param("books.db", 0o000, r"books\.db: cannot be opened \(Permission", id="unreadable-file"),
    ],
)
def test_permissions_that_are_missing_are_named(
    path: Path, mortal: tuple[str, ...], what: str, mode: int, message: str
) -> None:
    """Counting on without a store would lose everything at the next restart."""
    folder = path.parent / "store"
    folder.mkdir()
    shutil.copy(path, folder / "books.db")
    before = path.read_bytes()
    (folder / what).chmod(mode)
    try:
        refused(folder / "books.db", message, *mortal, config_in=path.parent)
    finally:
        (folder / what).chmod(0o700)
    assert (folder / "books.db").read_bytes() == before


# --- a full disk --------------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_counting_and_loses_nothing(small_disk: Path) -> None:
    """What does not fit is not published; once there is space it is counted, once."""
    store = SqliteStore(small_disk / "books.db")
    harness = PollerHarness(store)
    polls(harness, rounds=2)
    created = harness.created()
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    polls(harness, rounds=3)
    assert harness.created() == created
    assert harness.balanced()
    ballast.unlink()
    asyncio.run(harness.poll(2))
    assert harness.created() == len(harness.api.jobs) > created
    store.close()
    assert stored(small_disk / "books.db")["watermarks"] is not None


@pytest.mark.program
def test_a_program_that_starts_on_a_full_disk_says_so(small_disk: Path, tmp_path: Path) -> None:
    """Not even the empty tables fit."""
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    refused(
        small_disk / "books.db", r"(books\.db|books\.db\.lock): .*[Nn]o space left on", config_in=tmp_path
    )


def test_a_commit_that_does_not_fit_changes_nothing(path: Path) -> None:
    """Half a commit would be totals that do not balance; SQLite's own limit stands in for the disk."""
    before = stored(path)
    store = SqliteStore(path)
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    harness = PollerHarness(store)
    asyncio.run(harness.repository.load(0))
    many = Changes(None, {f"job-{n:09}": Job(0, "WAITING", "a", "b") for n in range(2000)}, (), {}, {}, ())
    commit = Commit(
        version=store.load("t", SCOPE, 0, 0).version,
        changes=many,
        project_id="p1",
        last_complete_poll=None,
        buckets={},
        keep_minutes_since=0,
    )
    with pytest.raises(StoreError, match=r"books\.db: no space left on the device: nothing was changed"):
        store.commit("t", SCOPE, commit)
    store.close()
    assert stored(path) == before


# --- somebody else ----------------------------------------------------------------------------------------


HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA locking_mode = EXCLUSIVE")
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.e2e
def test_another_sqlite_program_that_holds_the_file_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell somebody left open must not look like damage."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError, match=LOCK_HELD):
            SqliteStore(path)
        refused(path, LOCK_HELD)
        other.communicate()
    SqliteStore(path).close()


@pytest.mark.e2e
def test_a_second_exporter_on_the_same_store_is_refused(tmp_path: Path) -> None:
    """Two real processes on one file would each add the same jobs; the first one goes on."""
    with (
        simulator(tmp_path, "--rate=600") as cloud,
        exporter(write_config(tmp_path, cloud), tmp_path) as first,
    ):
        wait_for("the first to be ready", lambda: first.samples())
        second = tmp_path / "second"
        second.mkdir()
        refused(
            tmp_path / "books.db",
            r"books\.db: another exporter is using this store: stop it, or use another storage\.url",
            config_in=second,
        )
        before = total(first.samples() or {}, "metastudio_tts_jobs_created_total")
        wait_for(
            "the first to go on",
            lambda: total(first.samples() or {}, "metastudio_tts_jobs_created_total") > before,
        )


@pytest.mark.e2e
def test_what_a_killed_process_left_in_the_log_is_there(tmp_path: Path) -> None:
    """A commit that returned is in the log even when nobody lived to move it into the file."""
    with (
        simulator(tmp_path, "--rate=600") as cloud,
        exporter(write_config(tmp_path, cloud), tmp_path) as program,
    ):
        seen = wait_for(
            "some jobs",
            lambda: total(program.samples() or {}, "metastudio_tts_jobs_created_total") or None,
        )
        program.kill()
    assert (tmp_path / "books.db-wal").stat().st_size > 0
    held = stored(tmp_path / "books.db")
    assert sum(value for key, value in held["totals"].items() if key[0] == "created") >= seen


# --- no fault at all ----------------------------------------------------------------------------------------


def test_an_empty_file_becomes_a_new_store(tmp_path: Path) -> None:
    """There is nothing in it that could be destroyed: mktemp and container volumes make such files."""
    (tmp_path / "books.db").touch()
    assert stored(fill(tmp_path / "books.db"))["totals"]


def test_opening_and_closing_a_good_store_changes_no_byte(path: Path) -> None:
    """What is loaded twice is the same twice."""
    assert stored(path) == stored(path)


def test_closing_twice_is_harmless(path: Path) -> None:
    """Shutdown may come from two sides."""
    store = SqliteStore(path)
    store.close()
    store.close()


def test_only_who_loaded_a_target_may_commit_to_it(path: Path) -> None:
    """A commit on top of an older version would undo what came between."""
    store = SqliteStore(path)
    try:
        version = store.load("t", SCOPE, 0, 0).version
        nothing = Changes(None, {}, (), {}, {}, ())
        commit = Commit(
            version=version - 1,
            changes=nothing,
            project_id="p1",
            last_complete_poll=None,
            buckets={},
            keep_minutes_since=0,
        )
        with pytest.raises(StoreConflictError, match="somebody else committed to these books"):
            store.commit("t", SCOPE, commit)
        with pytest.raises(StoreConflictError, match="was started by somebody else"):
            store.commit("t", SCOPE, structs.replace(commit, version=0))
        with pytest.raises(StoreConflictError, match="was committed before it was loaded"):
            store.commit("unheard-of", SCOPE, structs.replace(commit, version=3))
        assert store.load("t", SCOPE, 0, 0).version == version
    finally:
        store.close()


def test_refused_credentials_are_kept(path: Path) -> None:
    """A restart that forgot them would send a fifth bad signature."""
    store = SqliteStore(path)
    store.save_breakers({"a": "1", "b": "2"})
    store.save_breakers({"b": "3"})
    store.close()
    store = SqliteStore(path)
    assert store.load_breakers() == {"b": "3"}
    store.close()
