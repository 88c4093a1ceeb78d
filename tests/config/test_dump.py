"""The configuration as it is shown: one could write it into the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.config import load_config, show_config
from tests.config.test_load import FULL, TARGET


@pytest.mark.parametrize("text", [FULL, TARGET + "    auth: {agency: }\n"], ids=["every key", "defaults"])
def test_what_is_shown_says_the_same_as_the_file(text: str, tmp_path: Path) -> None:
    """Each value as its key is written, whatever its type: durations with units, other numbers without."""
    (tmp_path / "secret").write_text("made-up")
    text = re.sub(r"(\w+): (AK|SK|ST|tok3n|a b)\b", r"\1_file: secret", text)
    path = tmp_path / "exporter.yaml"
    path.write_text(text, encoding="utf-8")
    config = load_config(path)
    path.write_text(show_config(config), encoding="utf-8")
    assert load_config(path) == config
