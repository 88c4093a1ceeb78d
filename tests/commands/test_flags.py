"""Flags of the command line: they count before a command as well as after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli import main


@pytest.mark.parametrize("command_first", [True, False], ids=["after", "before"])
def test_a_flag_counts_on_either_side_of_the_command(
    command_first: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command's own default never replaces what was given before it."""
    flag = f"--config.file={tmp_path / 'missing.yaml'}"
    assert main(["check", flag] if command_first else [flag, "check"]) == 1
    assert str(tmp_path / "missing.yaml") in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "name", ["target", "job_type", "tts_service_enum", "job_state", "fail_msg_class", "le"]
)
def test_labels_of_the_series_themselves_are_no_labels_to_add(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would be replaced without a word."""
    with pytest.raises(SystemExit):
        main(["backfill", "--since=1d", "--label", f"{name}=x"])
    assert f"{name} is a label of the series themselves" in capsys.readouterr().err


COMMANDS = (
    "serve",
    "demo",
    "check",
    "doctor",
    "classify",
    "verify",
    "backfill",
    "assets",
    "healthcheck",
    "simulate",
    "store",
    "store copy",
)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every command; each example names the program."""
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"metastudio-tts-exporter {command}".strip() in shown.split("examples:\n")[1]


@pytest.mark.program
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {command.split()[0] for command in COMMANDS}),
        ("ver", {"verify"}),
        ("backfill --f", {"--format"}),
        ("verify --s", {"--since"}),
        ("store ", {"copy"}),
    ],
)
def test_the_shell_completes_commands_and_flags(line: str, expected: set[str], tmp_path: Path) -> None:
    """As argcomplete's shell function asks for it."""
    written = tmp_path / "completions"
    text = f"metastudio-tts-exporter {line}"
    environ = {"_ARGCOMPLETE": "1", "COMP_LINE": text, "COMP_POINT": str(len(text)), "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run(
        [sys.executable, "-m", "exporter"],
        env={**os.environ, **environ, "_ARGCOMPLETE_STDOUT_FILENAME": str(written)},
        check=True,
        timeout=60,
    )
    assert expected <= {found.strip() for found in written.read_text().split("\n")}
