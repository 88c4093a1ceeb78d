"""However the file is mangled: no secret is repeated, and the answer is a configuration or a refusal."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import load_config
from exporter.errors import ConfigError
from tests.paths import ROOT

TARGET = "targets:\n  - name: production\n    region: cn-north-4\n"
SAMPLE = (ROOT / "exporter.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


SECRET = "s3cr3t-Value+0123/456789=Zz"
WITH_SECRETS = f"""storage: {{url: "postgresql://u@h/d", password: "{SECRET}"}}
targets:
  - name: a
    region: r
    auth:
      aksk:
        access_key: {SECRET}
        secret_key: "{SECRET}"
        security_token: '{SECRET}'
  - {{name: b, region: r, auth: {{token: {{token: "{SECRET}"}}}}}}
  - name: c
    region: r
    auth:
      password: {{domain: d, username: u, password: {SECRET}}}
"""
SYNTAX = (
    *(
        "",
        " ",
        "  ",
        "\n",
        "\t",
        ":",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        "&",
        "*",
        "!",
        "!!int ",
        "? ",
    ),
    *(",", "#", "|", ">", "%", "<<: ", "---\n", "\x00", "_file", "x", "key", "null"),
)


@pytest.mark.slow
@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WITH_SECRETS)), st.integers(0, 12), st.sampled_from(SYNTAX)),
        min_size=1,
        max_size=6,
    )
)
def test_no_secret_in_any_problem(folder: Path, edits: list[tuple[int, int, str]]) -> None:
    """However the file is mangled, its secrets are not repeated: not as value, key, alias, tag or path."""
    text = WITH_SECRETS
    for place, length, inserted in edits:
        text = text[:place] + inserted + text[place + length :]
    _assert_silent(folder, text)


SHAPES = (
    *(
        "{}",
        "[{}]",
        "{{{}: x}}",
        "*{}",
        "&{}",
        "!{}",
        "!!{} x",
        "!{}! x",
        "{}: x",
        "? {}",
        "{}\n---\n{}",
        "%{}",
    ),
    *("|{}", "- {}", '"{}', "`{}", "@{}", "{{x: {}"),
)
KEYS = (
    *("storage.password", "aksk", "access_key", "secret_key_file", "token", "auth", "storage", "url"),
    *("endpoint", "time_zone", "trust_count", "rate_limit", "filters", "name"),
)


@pytest.mark.parametrize("around", SHAPES)
@pytest.mark.parametrize("key", KEYS)
def test_no_secret_in_any_shape(folder: Path, around: str, key: str) -> None:
    """A secret in the wrong place or in the wrong shape is refused in silence about itself."""
    value = around.replace("{}", SECRET).replace("{{", "{").replace("}}", "}")
    lines = {
        "storage": f"storage: {value}\n{TARGET}",
        "url": f"storage:\n  url: {value}\n{TARGET}",
        "storage.password": f"storage:\n  url: postgresql:///d\n  password: {value}\n{TARGET}",
        **{
            key: f"{TARGET}    {key}: {value}\n"
            for key in ("auth", "endpoint", "time_zone", "trust_count", "rate_limit", "filters", "name")
        },
        "aksk": f"{TARGET}    auth:\n      aksk: {value}\n",
        "token": f"{TARGET}    auth:\n      token: {value}\n",
    }
    default = f"{TARGET}    auth:\n      aksk:\n        {key}: {value}\n"
    _assert_silent(folder, lines.get(key, default))


def _assert_silent(folder: Path, text: str) -> None:
    for problem in _refusal(folder, text.encode("utf-8", "surrogatepass")):
        assert SECRET[:12] not in problem
        assert "\n" not in problem


def _refusal(folder: Path, data: bytes) -> list[str]:
    """The problems of a file, none when it loads."""
    path = folder / "exporter.yaml"
    path.write_bytes(data)
    try:
        load_config(path)
    except ConfigError as error:
        return [str(problem) for problem in error.problems] or ["refused without a reason"]
    return []


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters() | st.sampled_from("\n :-[]{}*&!\"'"), max_size=60)
    | st.tuples(st.sampled_from(SAMPLE.split("\n")), st.text(max_size=5)).map("".join),
    st.integers(0, len(SAMPLE)),
)
def test_any_text_loads_or_is_refused(folder: Path, text: str, place: int) -> None:
    """Whatever is in the file, the answer is a configuration or a ConfigError with at least one problem."""
    for candidate in (text, SAMPLE[:place] + text + SAMPLE[place:], SAMPLE[:place] + text):
        problems = _refusal(folder, candidate.encode("utf-8", "surrogatepass"))
        assert "refused without a reason" not in problems
        assert all(problem.encode() for problem in problems)
