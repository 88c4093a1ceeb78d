"""``check``: what it prints and the exit code it gives."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from exporter.commands.check import Estimate, check, estimates
from exporter.config import load

ROOT = Path(__file__).parent.parent
BAD = Path(__file__).parent / "bad_config"


def _check(path: Path, *, estimate: bool = False, environ: dict[str, str] | None = None) -> tuple[int, str]:
    out = io.StringIO()
    code = check(path, environ=environ or {}, out=out, estimate=estimate)
    return code, out.getvalue()


def test_valid_file() -> None:
    """A valid file gives one line and 0."""
    path = ROOT / "exporter.yaml"
    assert _check(path) == (0, f"{path}: valid, 1 target\n")


def test_several_targets(tmp_path: Path) -> None:
    """The targets are counted."""
    path = tmp_path / "exporter.yaml"
    path.write_text("targets: [{name: a, region: r}, {name: b, region: r}]")
    assert _check(path) == (0, f"{path}: valid, 2 targets\n")


@pytest.mark.parametrize("estimate", [False, True])
def test_every_problem_is_a_line(estimate: bool) -> None:
    """All problems are printed, one a line, and the code is 1."""
    code, text = _check(BAD / "many_at_once.yaml", estimate=estimate)
    assert code == 1
    assert text.replace(f"{BAD}/", "") == (BAD / "many_at_once.expected").read_text(encoding="utf-8")


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is a problem like any other."""
    path = tmp_path / "exporter.yaml"
    assert _check(path) == (1, f"{path}: cannot be read: No such file or directory\n")


def test_environment_is_checked(tmp_path: Path) -> None:
    """The environment belongs to the configuration."""
    path = ROOT / "exporter.yaml"
    code, text = _check(path, environ={"HUAWEICLOUD_SDK_IAM_ENDPOINT": "iam"})
    assert (code, text.count("\n")) == (1, 1)
    assert "the environment variable HUAWEICLOUD_SDK_IAM_ENDPOINT must be a URL" in text


def test_estimate() -> None:
    """The estimate is labelled as one and adds up."""
    path = ROOT / "exporter.yaml"
    assert _check(path, estimate=True) == (
        0,
        f"{path}: valid, 1 target\n"
        "estimated requests a minute in the quiet case; new, open and late jobs add to it:\n"
        "  production: 4.4 (head 4.0, settle 0.4; rate_limit allows 300)\n",
    )


@pytest.mark.parametrize(
    ("poll", "head", "settle"),
    [
        pytest.param("{interval: 1m, overlap: 10m}", 1.0, 0.2, id="twice per overlap"),
        pytest.param("{interval: 4s, overlap: 5s}", 15.0, 15.0, id="at most once per poll"),
    ],
)
def test_estimate_follows_the_settings(poll: str, head: float, settle: float, tmp_path: Path) -> None:
    """One head read a poll; a settle read whenever half an overlap is due, but no oftener than polls."""
    path = tmp_path / "exporter.yaml"
    path.write_text(f"poll: {poll}\ntargets: [{{name: a, region: r, rate_limit: 0.5}}]")
    (estimate,) = estimates(load(path))
    assert estimate == Estimate("a", head=head, settle=settle, limit=30.0)
    assert estimate.total == head + settle


HASH = "$2y$04$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("{}", 0, "{web}: valid, no TLS, no passwords"),
        (f"basic_auth_users: {{a: {HASH}}}", 0, "{web}: valid, no TLS, 1 user"),
        ("rate_limits: {}", 1, "{web}:1: a key on this line is unknown; did you mean rate_limit?"),
    ],
    ids=["open", "users", "bad"],
)
@pytest.mark.parametrize("config", [ROOT / "exporter.yaml", BAD / "no_targets.yaml"], ids=["good", "bad"])
def test_the_web_configuration_is_checked_too(
    text: str, code: int, said: str, config: Path, tmp_path: Path
) -> None:
    """Both files are, whatever is wrong with the other one; either fails the check."""
    web, out = tmp_path / "web.yml", io.StringIO()
    web.write_text(text)
    alone, expected = _check(config)
    assert check(config, environ={}, out=out, web_config_path=web) == max(code, alone)
    assert out.getvalue() == expected + said.format(web=web) + "\n"
