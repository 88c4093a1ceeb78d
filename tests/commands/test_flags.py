"""Flags of the command line: they count before a command as well as after it."""

from __future__ import annotations

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
