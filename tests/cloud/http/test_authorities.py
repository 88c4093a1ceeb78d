"""SSL_CERT_FILE and SSL_CERT_DIR: what TLS trusts, and that it follows the files."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path

import pytest

from exporter.cloud.http.authorities import Authorities
from exporter.errors import NetworkSettingsError
from tests.cloud.harness import FakeTime, run
from tests.paths import TESTS

PEM = (TESTS / "cloud" / "untrusted.pem").read_text()
CERTIFICATE = PEM[PEM.index("-----BEGIN CERT") :]


def subjects(context: ssl.SSLContext) -> int:
    return len(context.get_ca_certs(binary_form=True))


def hashed(folder: Path) -> Path:
    """A folder as OpenSSL wants it."""
    folder.mkdir()
    (folder / "0123abcd.0").write_text(CERTIFICATE)
    return folder


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def test_without_variables_the_usual_ones_are_trusted() -> None:
    """Those that come with httpx, read once for all targets."""
    first, second = Authorities({}), Authorities({"SSL_CERT_FILE": " "})
    assert subjects(first.context) > 50
    assert first.context is second.context


def test_a_file_replaces_them(tmp_path: Path) -> None:
    """Only what is in it is trusted; two targets share it."""
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATE)
    first, second = (Authorities({"SSL_CERT_FILE": str(file)}) for _ in range(2))
    assert subjects(first.context) == 1
    assert first.context is second.context


@pytest.mark.parametrize(
    ("variable", "make", "why"),
    [
        ("SSL_CERT_FILE", lambda folder: folder / "missing", "No such file"),
        ("SSL_CERT_FILE", lambda folder: folder, "not a file"),
        ("SSL_CERT_FILE", lambda folder: fifo(folder / "fifo"), "not a file"),
        ("SSL_CERT_FILE", lambda folder: Path(__file__), "no certificates in PEM format"),
        ("SSL_CERT_FILE", lambda folder: Path("/dev/null"), "not a file"),
        ("SSL_CERT_DIR", lambda folder: folder / "missing", "no certificates named by their hash"),
        ("SSL_CERT_DIR", lambda folder: folder, "no certificates named by their hash"),
    ],
    ids=["missing", "folder", "fifo", "no_pem", "device", "missing_folder", "empty_folder"],
)
def test_what_cannot_be_used_is_named(variable: str, make: object, why: str, tmp_path: Path) -> None:
    """With the variable at fault, and what to do."""
    assert callable(make)
    with pytest.raises(NetworkSettingsError, match=f"variable {variable} cannot be used: {why}"):
        Authorities({variable: str(make(tmp_path))})


def test_an_empty_folder_beside_a_file_is_no_problem(tmp_path: Path) -> None:
    """Some systems set both."""
    (tmp_path / "ca.pem").write_text(CERTIFICATE)
    environ = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "SSL_CERT_DIR": "/nonexistent"}
    assert subjects(Authorities(environ).context) == 1


def test_of_several_folders_some_may_be_missing(tmp_path: Path) -> None:
    """As OpenSSL has it."""
    folder = hashed(tmp_path / "certs")
    Authorities({"SSL_CERT_DIR": f"/nonexistent:{folder}"})


def rewritten(file: Path) -> None:
    file.write_text(CERTIFICATE + CERTIFICATE)


def replaced(file: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text(CERTIFICATE)
    new.rename(file)


def relinked(file: Path) -> None:
    """As a mounted Kubernetes Secret is."""
    new = file.parent / "elsewhere"
    new.write_text(CERTIFICATE)
    file.unlink()
    file.symlink_to(new)


@pytest.mark.parametrize("change", [rewritten, replaced, relinked])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_what_changed_on_disk_is_read_again(change: object, variable: str, tmp_path: Path) -> None:
    """Whichever way it was put there; what did not change is not read."""
    assert callable(change)
    folder = hashed(tmp_path / "certs")
    file = folder / "0123abcd.0"
    time = FakeTime()

    async def scene() -> None:
        path = file if variable == "SSL_CERT_FILE" else folder
        authorities = Authorities({variable: str(path)}, monotonic=time.monotonic)
        first = authorities.context
        time.now += 60.0
        assert await authorities.refresh() is first
        change(file)
        assert await authorities.refresh() is first
        time.now += 60.0
        assert await authorities.refresh() is not first

    run(scene())


def test_a_file_that_became_unusable_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was read before stays in use, and it is said once; when it is good again, it is read."""
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATE)
    time = FakeTime()

    async def scene() -> None:
        authorities = Authorities({"SSL_CERT_FILE": str(file)}, monotonic=time.monotonic)
        first = authorities.context
        for text in ("half a certif", "nothing", None):
            file.unlink() if text is None else file.write_text(text)
            for _ in range(3):
                time.now += 60.0
                assert await authorities.refresh() is first
        file.write_text(CERTIFICATE)
        time.now += 60.0
        assert await authorities.refresh() is not first

    with caplog.at_level(logging.WARNING):
        run(scene())
    assert len(caplog.records) == 2


def test_files_that_hang_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read before is used, and one thread at most waits for the file system."""
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATE)
    time = FakeTime()
    hanging: list[str] = []

    async def hang(work: object, name: str) -> None:
        hanging.append(name)
        await asyncio.Event().wait()

    monkeypatch.setattr("exporter.background.in_background", hang)
    monkeypatch.setattr("exporter.cloud.http.authorities.READ_SECONDS", 0.001)

    async def scene() -> None:
        authorities = Authorities({"SSL_CERT_FILE": str(file)}, monotonic=time.monotonic)
        for _ in range(5):
            time.now += 60.0
            assert await authorities.refresh() is authorities.context
        assert hanging == ["authorities"]

    run(scene())


def test_nothing_is_read_again_where_no_files_are_named() -> None:
    """What comes with httpx does not change: no request pays for looking at it."""
    time = FakeTime()
    authorities = Authorities({}, monotonic=time.monotonic)

    async def refuse(*_: object, **__: object) -> ssl.SSLContext:
        raise AssertionError("read again")

    authorities.reading.run = refuse  # type: ignore[method-assign]
    time.now += 3600.0
    assert run(authorities.refresh()) is authorities.context
