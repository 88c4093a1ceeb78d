"""Changed files are taken while the server runs; files that cannot be used change nothing."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from exporter.errors import ConfigError
from exporter.web.access.reloader import WebConfigReloader
from testkit.certificates import Authority, Pair
from tests.web.access.test_config import HASH

Records = pytest.LogCaptureFixture


def write(path: Path, text: str) -> None:
    """As an editor or a secret manager does: a new file in the place of the old."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105  # what such programs call


def users(*names: str) -> str:
    return "basic_auth_users:\n" + "".join(f"  {name}: {HASH}\n" for name in names)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "web.yml"
    write(path, users("alice"))
    return path


def problems(caplog: Records) -> list[str]:
    errors = (record for record in caplog.records if record.levelno >= logging.ERROR)
    return [str(vars(record)["fields"]["error"]) for record in errors]


def test_a_changed_file_is_taken_once_it_stands_still(path: Path) -> None:
    """One look sees the change, the next one takes it."""
    web_config = WebConfigReloader(path)
    write(path, users("alice", "bob"))
    web_config.check()
    assert list(web_config.settings().users) == [b"alice"]
    web_config.check()
    assert list(web_config.settings().users) == [b"alice", b"bob"]


def test_a_copy_that_keeps_date_and_size_is_taken(path: Path) -> None:
    """As ``cp --preserve`` and programs that deploy leave it."""
    web_config, old = WebConfigReloader(path), path.stat()
    while path.stat().st_ctime_ns == old.st_ctime_ns:  # a moment later
        path.write_text(users("carol"))
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    web_config.check()
    web_config.check()
    assert list(web_config.settings().users) == [b"carol"]


def test_a_file_that_is_still_written_is_not_taken(path: Path) -> None:
    """No user is locked out, or let in, by half a file."""
    web_config = WebConfigReloader(path)
    for text in ("{}", users("alice", "bo"), users("alice", "bob")):
        write(path, text)
        web_config.check()
        assert list(web_config.settings().users) == [b"alice"]
    web_config.check()
    assert list(web_config.settings().users) == [b"alice", b"bob"]


def test_a_broken_file_keeps_the_old_one_and_is_logged_once(path: Path, caplog: Records) -> None:
    """However often it is looked at; a second mistake is news; the repaired one is taken."""
    web_config = WebConfigReloader(path)
    write(path, "basic_auth_users: {alice: x}\n")
    for _ in range(5):
        web_config.check()
    assert list(web_config.settings().users) == [b"alice"]
    assert [problem.partition(": must")[0] for problem in problems(caplog)] == [f"{path}:1: basic_auth_users"]
    path.unlink()
    for _ in range(5):
        web_config.check()
    assert problems(caplog)[1:] == [f"{path}: cannot be read: No such file or directory"]
    write(path, users("bob"))
    web_config.check()
    web_config.check()
    assert list(web_config.settings().users) == [b"bob"]
    assert len(problems(caplog)) == 2


def test_nothing_is_read_again_without_a_change(path: Path, caplog: Records) -> None:
    """A look costs a few calls to the file system."""
    caplog.set_level(logging.INFO)
    web_config = WebConfigReloader(path)
    before = web_config.settings()
    for _ in range(3):
        web_config.check()
    assert web_config.settings() is before
    assert caplog.records == []


def test_a_renewed_certificate_is_taken(tmp_path: Path, authority: Authority, server_pair: Pair) -> None:
    """Also behind a link, as Kubernetes exchanges secrets; a certificate without its key is not taken."""
    other = authority.issue("renewed", "DNS:renewed")
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "c").write_bytes(server_pair.cert.read_bytes())
    (tmp_path / "first" / "k").write_bytes(server_pair.key.read_bytes())
    (tmp_path / "now").symlink_to("first")
    path = tmp_path / "web.yml"
    write(path, "tls_server_config: {cert_file: now/c, key_file: now/k}\n")
    web_config = WebConfigReloader(path)
    before = web_config.settings().tls
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "c").write_bytes(other.cert.read_bytes())
    (tmp_path / "second" / "k").write_bytes(server_pair.key.read_bytes())
    (tmp_path / "next").symlink_to("second")
    (tmp_path / "next").rename(tmp_path / "now")
    web_config.check()
    web_config.check()
    assert web_config.settings().tls is before
    (tmp_path / "second" / "k").write_bytes(other.key.read_bytes())
    web_config.check()
    web_config.check()
    assert web_config.settings().tls is not before


def test_a_file_that_was_missing_is_taken_when_it_comes(
    tmp_path: Path, path: Path, authority: Authority, server_pair: Pair
) -> None:
    """The new configuration names a certificate that arrives later, and need not change for it."""
    web_config = WebConfigReloader(path)
    write(path, f"tls_server_config: {{cert_file: later.pem, key_file: {server_pair.key}}}\n")
    web_config.check()
    web_config.check()
    assert web_config.settings().tls is None
    (tmp_path / "later.pem").write_bytes(server_pair.cert.read_bytes())
    web_config.check()
    assert web_config.settings().tls is not None


def test_a_bad_file_at_the_start_is_refused(path: Path) -> None:
    """There is no old one to keep."""
    write(path, "x: 1\n")
    with pytest.raises(ConfigError):
        WebConfigReloader(path)


def test_the_log_learns_every_secret(path: Path, server_pair: Pair) -> None:
    """Hashes and the private key, at the start and after each change."""
    heard: list[str] = []
    web_config = WebConfigReloader(path, on_secret=heard.append)
    assert HASH in heard
    write(path, f"tls_server_config: {{cert_file: {server_pair.cert}, key_file: {server_pair.key}}}\n")
    web_config.check()
    web_config.check()
    assert server_pair.key.read_text() in heard


def test_it_looks_every_second_until_cancelled(path: Path) -> None:
    """And without a file there is nothing to look at."""
    naps: list[float] = []

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            raise asyncio.CancelledError

    async def run() -> None:
        await WebConfigReloader(None).watch(sleep)
        assert naps == []
        with pytest.raises(asyncio.CancelledError):
            await WebConfigReloader(path).watch(sleep)

    asyncio.run(run())
    assert naps == [1.0, 1.0, 1.0]
