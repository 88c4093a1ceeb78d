"""Flags of the command line: they count before a command as well as after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli import main
from testkit.processes import ROOT


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


@pytest.mark.parametrize(
    "line",
    [
        "backfill --since=1d --label x",
        "backfill --since=1d --label le=1",
        "backfill",
        "doctor --watch 3",
        "classify x --top none",
        "--shard 5",
        "--no-such-flag",
        "nothing",
        "store",
        "simulate --port no",
        "simulate --incident none",
        "demo --incident none",
        "simulate --from nowhere",
        "simulate --truth-file nowhere/truth.json",
    ],
)
def test_a_wrong_flag_is_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong, and where help is; no block of all flags before it."""
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    shown = capsys.readouterr()
    command = line.split()[0] if line.split()[0] in COMMANDS else ""
    name = f"metastudio-tts-exporter {command}".strip()
    assert (ended.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert shown.err.startswith(f"{name}: ")
    assert f"{name} --help" in shown.err


@pytest.mark.program
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {command.split()[0] for command in COMMANDS}),
        ("ver", {"verify"}),
        ("backfill --f", {"--format"}),
        ("verify --s", {"--since"}),
        ("store ", {"copy"}),
        ("simulate --inc", {"--incident", "--incident-seconds"}),
        ("simulate --incident stu", {"stuck_queue"}),
        ("demo --incident stu", {"stuck_queue"}),
        ("doctor --target ", {"one", "two"}),
        ("verify --config.file=other.yaml --target ", {"three"}),
    ],
)
def test_the_shell_completes_commands_and_flags(line: str, expected: set[str], tmp_path: Path) -> None:
    """As argcomplete's shell function asks for it."""
    for name, targets in (("exporter", ("one", "two")), ("other", ("three",))):
        content = {"targets": [{"name": target, "region": "cn-north-4"} for target in targets]}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(content))
    assert expected <= completed(line, tmp_path)


@pytest.mark.program
@pytest.mark.parametrize("content", [None, "targets: [{name: one"], ids=["missing", "broken"])
def test_without_a_configuration_no_target_is_offered(content: str | None, tmp_path: Path) -> None:
    """And nothing is said: it would stand in the middle of the line that is typed."""
    if content is not None:
        (tmp_path / "exporter.yaml").write_text(content)
    assert completed("doctor --target ", tmp_path) == {""}


def completed(line: str, folder: Path) -> set[str]:
    """What the shell would offer."""
    written = folder / "completions"
    text = f"metastudio-tts-exporter {line}"
    environ = {"_ARGCOMPLETE": "1", "COMP_LINE": text, "COMP_POINT": str(len(text)), "_ARGCOMPLETE_IFS": "\n"}
    ended = subprocess.run(
        [sys.executable, "-m", "exporter"],
        env={
            **os.environ,
            **environ,
            "PYTHONPATH": str(ROOT),
            "_ARGCOMPLETE_STDOUT_FILENAME": str(written),
        },
        check=True,
        timeout=60,
        cwd=folder,
        capture_output=True,
    )
    assert (ended.stdout, ended.stderr) == (b"", b"")
    return {found.strip() for found in written.read_text().split("\n")}
