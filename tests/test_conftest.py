"""The tests' own tools."""

from __future__ import annotations

import pytest

from tests.conftest import Tool


def test_a_missing_tool_is_skipped_or_fails(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skipped, with a reason, on a laptop; a failure where CI=true."""
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is not installed"):
        tool("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool is not installed"):
        tool("no-such-tool")
