"""``verify`` and ``backfill`` where a store or a disk cannot be used: what to do, exit 1, no half file."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.simulator.auth import ACCESS_KEY
from exporter.store.schema import SCHEMA_VERSION
from exporter.store.sqlite import SqliteStore
from testkit.processes import bare_environ, get, simulator, write_config

pytestmark = pytest.mark.program
ENVIRON = bare_environ()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], env=ENVIRON, capture_output=True, text=True, timeout=100, check=False
    )


def newer(store: Path) -> None:
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def folder_instead(store: Path) -> None:
    store.unlink()
    store.mkdir()


STORES: dict[str, tuple[Callable[[Path], object], str]] = {
    "newer": (newer, r"written by a newer version of this exporter .*: upgrade the exporter"),
    "empty": (lambda store: store.write_bytes(b""), "start the exporter once"),
    "rubbish": (lambda store: store.write_text("rubbish"), "the store is damaged and was left as it is"),
    "unreadable": (
        lambda store: store.chmod(0),
        r"cannot be read \(Permission denied\): run this as the user that the exporter runs as",
    ),
    "unreadable-folder": (
        lambda store: store.parent.chmod(0),
        r"cannot be read \(Permission denied\): run this as the user that the exporter runs as",
    ),
    "no-file": (folder_instead, "is not a regular file"),
}


@pytest.mark.e2e
@pytest.mark.parametrize("command", ["verify", "backfill"])
@pytest.mark.parametrize(("spoil", "says"), STORES.values(), ids=STORES)
def test_a_store_that_cannot_be_used_is_named(
    command: str, spoil: Callable[[Path], object], says: str, mortal: tuple[str, ...], tmp_path: Path
) -> None:
    """In one line, before the API is asked for anything."""
    store = tmp_path / "store" / "books.db"
    store.parent.mkdir()
    SqliteStore(store).close()
    config = write_config(tmp_path, "http://127.0.0.1:9", storage={"url": f"sqlite:///{store}"})
    spoil(store)
    flags = ["-o", str(tmp_path / "past.om")] if command == "backfill" else []
    try:
        program = (*mortal, sys.executable, "-m", "exporter", command, f"--config.file={config}")
        ended = run(*program, "--since=10h", *flags)
    finally:
        store.parent.chmod(0o700)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(rf"metastudio-tts-exporter: {store}: [^\n]*{says}[^\n]*\n", ended.stderr), (
        ended.stderr
    )
    assert sorted(it.name for it in tmp_path.iterdir()) == ["exporter.yaml", "store"]


@pytest.mark.e2e
def test_a_full_disk_under_a_backfill_costs_nothing_but_time(small_disk: Path, tmp_path: Path) -> None:
    """What was read before stays where it fits, and is not asked for again; else nothing is left behind."""

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", small_disk], check=True)

    with simulator(tmp_path, "--rate=60", "--history=14400") as cloud:
        config = write_config(tmp_path, cloud, target={"rate_limit": 1000})
        output = small_disk / "past.om"
        program = (sys.executable, "-m", "exporter", "backfill", f"--config.file={config}")
        command = (*program, "--since=4h", "-o", str(output))
        spool_does_not_fit = run(*command)
        left = list(small_disk.iterdir())
        resize("3m")
        output_does_not_fit = run(*command)
        kept = [it.name for it in small_disk.iterdir()]
        asked = json.loads(get(f"{cloud}/simulator") or "")["requests"]
        resize("64m")
        ended = run(*command)
        assert json.loads(get(f"{cloud}/simulator") or "")["requests"] == asked
    for name, failed in ((".past.om.backfill", spool_does_not_fit), ("past.om", output_does_not_fit)):
        assert (failed.returncode, failed.stdout) == (1, "")
        first, second = failed.stderr.splitlines()
        assert first == f"metastudio-tts-exporter: cannot write {small_disk / name}: No space left on device"
        assert second.endswith(": the same command goes on from there")
    assert (left, kept) == ([], [".past.om.backfill"])
    assert ended.returncode == 0, ended.stderr
    assert "none left out: there is no store here" in ended.stderr
    assert [it.name for it in small_disk.iterdir()] == ["past.om"]
    assert output.read_bytes().endswith(b"# EOF\n")


@pytest.mark.e2e
def test_a_target_that_is_new_in_a_store_can_be_backfilled(tmp_path: Path) -> None:
    """As without a store: nothing of it was counted."""
    SqliteStore(tmp_path / "books.db").close()
    with simulator(tmp_path, "--rate=60", "--history=36000") as cloud:
        config = write_config(
            tmp_path,
            cloud,
            target={"rate_limit": 1000},
            storage={"url": f"sqlite:///{tmp_path / 'books.db'}"},
        )
        command = (sys.executable, "-m", "exporter", "backfill", f"--config.file={config}", "--since=210m")
        ended = run(*command, "-o", tmp_path / "past.om")
    assert ended.returncode == 0, ended.stderr
    said = "none left out: the store has nothing of this target, so counting has not begun"
    assert said in ended.stderr
    assert (tmp_path / "past.om").read_bytes().endswith(b"# EOF\n")


@pytest.mark.e2e
def test_a_backfill_that_fails_says_once_how_far_it_came(tmp_path: Path) -> None:
    """And how to go on."""
    with simulator(tmp_path, "--rate=0", "--history=1") as cloud:
        auth = {"aksk": {"access_key": ACCESS_KEY, "secret_key": "wrong"}}
        config = write_config(tmp_path, cloud, target={"project_id": "p1", "auth": auth})
        command = (sys.executable, "-m", "exporter", "backfill", f"--config.file={config}", "--since=10h")
        ended = run(*command, "-o", tmp_path / "past.om")
    assert (ended.returncode, ended.stdout) == (1, "")
    first, second = ended.stderr.splitlines()
    assert first.startswith("metastudio-tts-exporter: read up to 20")
    assert second == "metastudio-tts-exporter: the same command goes on from there"


def test_an_output_that_is_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    """Not after all was read."""
    config = write_config(tmp_path, "http://127.0.0.1:9")
    (tmp_path / "folder").mkdir()
    command = (sys.executable, "-m", "exporter", "backfill", f"--config.file={config}", "--since=10h")
    ended = run(*command, "-o", tmp_path / "folder")
    assert (ended.returncode, ended.stdout) == (1, "")
    said = f"metastudio-tts-exporter: cannot write {tmp_path / 'folder'}: it is a folder\n"
    assert ended.stderr == said
    assert sorted(it.name for it in tmp_path.iterdir()) == ["exporter.yaml", "folder"]
