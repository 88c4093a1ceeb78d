"""The tests' own tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Golden, Tool


def test_a_missing_tool_is_skipped_or_fails(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, with a reason, on a laptop; a failure where CI=true."""
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        tool("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        tool("no-such-tool")


def test_a_golden_file_is_compared_or_written_again(
    golden: Golden, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the switch changes it."""
    path = tmp_path / "golden.txt"
    path.write_text("old\n", encoding="utf-8")
    monkeypatch.setattr(pytestconfig.option, "update_golden", False)
    with pytest.raises(AssertionError, match="--update-golden"):
        golden(path, "new\n")
    monkeypatch.setattr(pytestconfig.option, "update_golden", True)
    golden(path, "new\n")
    assert path.read_text(encoding="utf-8") == "new\n"
