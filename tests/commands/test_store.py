"""``store copy`` as it is called: what it prints, and its exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli import main
from exporter.store.postgres import PostgresStore
from exporter.store.sqlite import SqliteStore
from testkit.postgres import NEEDS_PASSWORD, PostgresServer
from testkit.processes import bare_environ, free_port, wait_for, write_config
from tests.fake_api import PollerHarness
from tests.store.support import fill, polls, stored

pytestmark = pytest.mark.program

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def copy(capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["store", "copy", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_store_moves_to_a_database_and_back(copy: Run, tmp_path: Path, postgres: PostgresServer) -> None:
    """It says what it did and what to do next."""
    file, other = fill(tmp_path / "books.db"), tmp_path / "other.db"
    url = postgres.url(postgres.empty_database())
    code, out, err = copy(f"sqlite:///{file}", url)
    assert (code, err) == (0, "")
    assert re.match(
        rf"copied [\d,]+ rows from {file} to postgresql://postgres@/books, and compared them", out
    )
    assert f"set storage.url to {url} and start the exporter" in out
    assert copy(url, f"sqlite:///{other}")[0] == 0
    assert stored(other) == stored(file)


def test_a_relative_path_begins_in_the_current_folder(
    copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is to be written into the configuration does not."""
    fill(tmp_path / "books.db")
    monkeypatch.chdir(tmp_path)
    code, out, _ = copy("sqlite:///books.db", "sqlite:///other.db")
    assert code == 0
    assert f"set storage.url to sqlite:///{tmp_path}/other.db and" in out


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("books.db", "sqlite:///other.db", "FROM must be sqlite:///FILE, or postgresql://USER@HOST"),
        (
            "sqlite:///books.db",
            "postgresql://u:hidden@h/d",
            "TO holds a password: give it as --password-file",
        ),
        ("sqlite:///books.db", "postgresql://u@h/d?password=hidden", "TO holds a password: give it as"),
        ("sqlite:///missing.db", "sqlite:///other.db", "missing.db: there is no store"),
        (
            "sqlite:///books.db",
            "sqlite:///missing/other.db",
            "storage.url needs an existing, writable folder",
        ),
        ("sqlite:///books.db", "sqlite:///books.db", "holds books already"),
        ("sqlite:///link.db", "sqlite:///books.db", "holds books already"),
        ("sqlite:///empty.db", "sqlite:///other.db", "holds no books: there is nothing to copy"),
        ("sqlite:///books.db", f"postgresql://u@127.0.0.1:{free_port()}/d", "connection failed"),
    ],
    ids=[
        *("no-url", "password", "password-parameter", "missing", "no-folder", "itself", "itself-by-a-link"),
        *("nothing-counted", "out-of-reach"),
    ],
)
def test_what_cannot_be_copied_is_one_line(
    copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, target: str, said: str
) -> None:
    """Exit code 1, and nothing is made."""
    fill(tmp_path / "books.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "books.db")
    SqliteStore(tmp_path / "empty.db").close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("exporter.store.postgres.database.CONNECT_SECONDS", 1.0)
    code, out, err = copy(source, target)
    assert (code, out) == (1, "")
    assert err.startswith("metastudio-tts-exporter: ")
    assert err.count("\n") == 1
    assert said in err
    assert "hidden" not in err
    assert not (tmp_path / "other.db").exists()


def test_a_database_without_its_extra_is_one_line(
    copy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names what to install."""
    fill(tmp_path / "books.db")
    monkeypatch.setitem(sys.modules, "exporter.store.postgres", None)
    code, _, err = copy(f"sqlite:///{tmp_path / 'books.db'}", "postgresql://u@h/d")
    assert code == 1
    assert "pip install 'metastudio-tts-exporter[postgres]'" in err


@pytest.mark.e2e
def test_the_password_comes_from_a_file_or_from_libpq(
    copy: Run, tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGPASSWORD, PGPASSFILE; it is never shown, a wrong one neither."""
    file, database = fill(tmp_path / "books.db"), postgres.empty_database()
    role = f"{NEEDS_PASSWORD} SUPERUSER LOGIN PASSWORD 'right-one'"
    postgres.execute(f"DROP ROLE IF EXISTS {NEEDS_PASSWORD}; CREATE ROLE {role}")
    (tmp_path / "password").write_text("right-one\n")
    (tmp_path / "wrong").write_text("wrong-one\n")
    (tmp_path / "passfile").write_text(f"127.0.0.1:{postgres.port}:*:{NEEDS_PASSWORD}:right-one\n")
    (tmp_path / "passfile").chmod(0o600)
    url = postgres.tcp_url(database, NEEDS_PASSWORD)
    monkeypatch.setattr("exporter.store.postgres.database.CONNECT_SECONDS", 3.0)
    code, out, err = copy(f"sqlite:///{file}", url, "--password-file", str(tmp_path / "wrong"))
    assert (code, out) == (1, "")
    assert "password authentication failed" in err
    assert "wrong-one" not in err
    code, out, err = copy(f"sqlite:///{file}", url, "--password-file", str(tmp_path / "none"))
    assert code == 1
    assert err.startswith(f"metastudio-tts-exporter: {url}: --password-file: ")
    monkeypatch.undo()
    shown = []
    code, out, err = copy(f"sqlite:///{file}", url, "--password-file", str(tmp_path / "password"))
    shown.append((code, out + err))
    for name, value in (("PGPASSWORD", "right-one"), ("PGPASSFILE", str(tmp_path / "passfile"))):
        monkeypatch.setenv(name, value)
        code, out, err = copy(url, f"sqlite:///{tmp_path}/{name}.db")
        shown.append((code, out + err))
        monkeypatch.delenv(name)
    assert [code for code, _ in shown] == [0, 0, 0]
    assert not [text for _, text in shown if "right-one" in text]


@pytest.mark.program
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)], ids=["ctrl-c", "killed"]
)
def test_the_program_may_be_interrupted(
    number: int, code: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    """While it waits for the database: what it leaves holds nothing, and the next one is made whole."""
    url = postgres.url(postgres.empty_database())
    assert main(["store", "copy", f"sqlite:///{fill(tmp_path / 'books.db')}", url]) == 0
    other = tmp_path / "other.db"
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with postgres.connect("books") as connection, connection.transaction():
        connection.execute("LOCK TABLE metastudio_tts_exporter.jobs")
        program = subprocess.Popen(
            [sys.executable, "-m", "exporter", "store", "copy", url, f"sqlite:///{other}"],
            env=bare_environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for("a copy that waits for the lock", lambda: postgres.execute(waiting) or None)
        program.send_signal(number)
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out, err) == (code, "", "")
    assert number == signal.SIGKILL or not other.exists()
    wait_for("the killed one's session to end", lambda: not postgres.execute(waiting) or None)
    assert main(["store", "copy", url, f"sqlite:///{other}"]) == 0
    assert stored(other) == stored(tmp_path / "books.db")


def test_a_running_replica_is_named(copy: Run, tmp_path: Path, postgres: PostgresServer) -> None:
    """With what to do about it."""
    store = PostgresStore(url := postgres.url(postgres.empty_database()))
    store.renew(["t"], 3600)
    code, _, err = copy(f"sqlite:///{fill(tmp_path / 'books.db')}", url)
    assert code == 1
    assert f"an exporter is using this store (replica {store.replica}): stop all of them" in err
    store.resign()
    store.close()
    assert copy(f"sqlite:///{tmp_path / 'books.db'}", url)[0] == 0


# --- other commands, with a store in a database -----------------------------------------------------------


@pytest.mark.parametrize("command", ["verify", "backfill"])
def test_what_reads_the_past_reads_it_of_a_database(
    command: str, tmp_path: Path, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says of the database what is wrong, in one line."""
    url = postgres.url(postgres.empty_database())
    store = PostgresStore(url)
    polls(PollerHarness(store), rounds=1)
    store.close()
    config = write_config(tmp_path, "http://127.0.0.1:9", storage={"url": url}, target={"region": "r"})
    assert main([command, f"--config.file={config}", "--since=24h"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metastudio-tts-exporter: postgresql://postgres@/books: target 't' was counted for")


def test_a_check_warns_of_a_database_out_of_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration may be right, and the database reached from elsewhere."""
    monkeypatch.setattr("exporter.store.postgres.database.CONNECT_SECONDS", 0.5)
    url = f"postgresql://u@127.0.0.1:{free_port()}/d"
    config = write_config(tmp_path, "http://127.0.0.1:9", storage={"url": url})
    assert main(["check", f"--config.file={config}"]) == 0
    out = capsys.readouterr().out
    assert f"{config}: warning: storage.url: {url}: connection failed" in out
    assert f"{config}: valid, 1 target" in out
