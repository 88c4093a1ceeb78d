"""What commands print passes the redactor, as every log line does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from exporter import log
from exporter.cli import main
from testkit.processes import free_port

SECRET = "hunter/2"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a database that cannot be reached; who named it has named it as its password."""
    monkeypatch.setattr("exporter.store.postgres.database.CONNECT_SECONDS", 0.5)
    return f"postgresql://user@127.0.0.1:{free_port()}/hunter%2f2"


def test_check_shows_no_secret(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one that stands in the file nor one that it names."""
    (tmp_path / "password").write_text(SECRET)
    config = tmp_path / "exporter.yaml"
    config.write_text(
        f"storage: {{url: '{address}', password_file: password}}\n"
        "targets:\n- name: inline-secret\n  region: cn-north-4\n"
        "  auth: {aksk: {access_key: AK, secret_key: inline-secret}}\n"
    )
    assert main(["check", "--estimate", f"--config.file={config}"]) == 0
    printed = "".join(capsys.readouterr())
    assert "hunter" not in printed
    assert "inline-secret" not in printed
    assert "warning: storage.url: " in printed


def test_the_error_of_a_command_shows_no_secret(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``store copy`` reads a password, and says where it could not write."""
    (tmp_path / "password").write_text(SECRET)
    command = ["store", "copy", f"sqlite:///{tmp_path}/books.db", address]
    assert main([*command, "--password-file", str(tmp_path / "password")]) == 1
    said = capsys.readouterr().err
    assert "hunter" not in said
    assert said.startswith("metastudio-tts-exporter: postgresql://user@127.0.0.1:")


def test_after_an_error_of_ours_it_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints the traceback when the program has ended."""
    streams = sys.stdout, sys.stderr
    with pytest.raises(RuntimeError), log.redacted_output(log.Redactor([SECRET])):
        raise RuntimeError
    try:
        print(f"RuntimeError: {SECRET}", file=sys.stderr)
    finally:
        sys.stdout, sys.stderr = streams
    assert capsys.readouterr().err == "RuntimeError: ***\n"
