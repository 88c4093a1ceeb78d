"""A PostgreSQL server of Debian's, for tests: in a folder and on a socket of its own, and gone afterwards."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg

from testkit.processes import free_port, wait_for

_DEBIAN: Final = Path("/usr/lib/postgresql")
_QUICK: Final = {"fsync": "off", "full_page_writes": "off"}
"""Nobody pulls the plug."""

NEEDS_PASSWORD: Final = "needs_password"
"""A role that nobody may be without its password, once a test has made it."""


def server_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``, the newest; ``None`` where no server is installed."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path is not None:
        return Path(on_path).resolve().parent
    return found[-1].parent if found else None


class PostgresServer:
    """It may be stopped and started again. The superuser is ``postgres``, who needs no password."""

    def __init__(self, folder: Path, programs: Path, primary: PostgresServer | None = None) -> None:
        """``primary``: it is a standby of that one, which runs, until ``promote``."""
        self.folder = folder
        self._programs = programs
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # It refuses to run as root, and the folders of the tests are not open to others.
        self.user = _unprivileged() if os.getuid() == 0 else None
        if self.user is not None:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        if primary is not None:
            source = f"host=127.0.0.1 port={primary.port} user=postgres"
            self._run(
                "pg_basebackup", "--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-d", source
            )
            return
        self._run(
            "initdb", "--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"
        )
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all {NEEDS_PASSWORD} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")

    @property
    def pid(self) -> int:
        """Of its first process, the parent of all others."""
        assert self._process is not None
        return self._process.pid

    def _arguments(self, program: str, *arguments: str) -> list[str]:
        return [str(self._programs / program), "-D", str(self.folder / "data"), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._arguments(program, *arguments),
            check=True,
            capture_output=True,
            cwd="/",
            timeout=60,
            user=None if self.user is None else self.user.pw_uid,
            group=None if self.user is None else self.user.pw_gid,
            extra_groups=None if self.user is None else [],
        )

    def start(self, **settings: str) -> None:
        """With these settings, too. It listens on a socket in its folder and on ``port`` of the loopback."""
        given = {
            **_QUICK,
            "unix_socket_directories": str(self.folder),
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "max_connections": "60",
            **settings,
        }
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._arguments("postgres", *(f"--{name}={value}" for name, value in given.items())),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                user=None if self.user is None else self.user.pw_uid,
                group=None if self.user is None else self.user.pw_gid,
                extra_groups=None if self.user is None else [],
            )
        wait_for("a PostgreSQL server that answers", self._answers)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError((self.folder / "server.log").read_text())
        with suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """Immediately, unless another signal is given: the next start recovers as after a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def promote(self) -> None:
        """It is no standby any more."""
        self.execute("SELECT pg_promote()")

    def pause(self, paused: bool) -> None:
        """The server's processes stand still, or go on. What they held stays held."""
        assert self._process is not None
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)],
            capture_output=True,
            check=False,
            text=True,
        ).stdout.split()
        for pid in (self._process.pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str, user: str = "postgres", port: int | None = None) -> str:
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(database), autocommit=True)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """As superuser. Returns the rows, if the statement has any."""
        with self.connect(database) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def empty_database(self) -> str:
        """The same one again and again, emptied: to make one takes a while, and 7 MB."""
        if not self.execute("SELECT 1 FROM pg_database WHERE datname = 'books'"):
            self.execute("CREATE DATABASE books TEMPLATE template0")
        for (schema,) in self.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|info)'", "books"
        ):
            self.execute(f"DROP SCHEMA {schema} CASCADE", "books")
        return "books"

    def new_database(self, options: str = "") -> str:
        """One more."""
        name = f"other{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}")
        return name


@contextmanager
def transaction_pooler(program: Path, server: PostgresServer) -> Iterator[int]:
    """Pgbouncer in front of the server, each transaction on whatever connection is free; gives its port."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-", dir="/tmp") as name:
        folder, port, user = Path(name), free_port(), server.user
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.folder} port={server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
        )
        folder.chmod(0o755)
        process = subprocess.Popen(
            [program, folder / "pgbouncer.ini"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=None if user is None else user.pw_uid,
            group=None if user is None else user.pw_gid,
            extra_groups=None if user is None else [],
        )

        def answers() -> bool:
            with suppress(psycopg.OperationalError):
                psycopg.connect(server.tcp_url("postgres", port=port)).close()
                return True
            return False

        try:
            wait_for("a pooler that answers", answers)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _unprivileged() -> pwd.struct_passwd:
    """The user that Debian's package makes, or nobody."""
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def postgres_server(programs: Path, **settings: str) -> AbstractContextManager[PostgresServer]:
    """Made and running with these settings, ended with the block."""
    return _running(programs, None, settings)


def standby_server(programs: Path, primary: PostgresServer) -> AbstractContextManager[PostgresServer]:
    """A copy of that one that follows it, ended with the block."""
    return _running(programs, primary, {})


@contextmanager
def _running(
    programs: Path, primary: PostgresServer | None, settings: Mapping[str, str]
) -> Iterator[PostgresServer]:
    # The path of a socket may have no more than 107 bytes.
    with tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp") as folder:
        server = PostgresServer(Path(folder), programs, primary)
        server.start(**settings)
        try:
            yield server
        finally:
            server.stop()
