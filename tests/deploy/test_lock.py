"""The lock files of the image: in step with pyproject.toml, and of nothing else."""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final, NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import ROOT

PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NEEDED: Final = {
    "requirements.lock": [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["postgres"],
    ],
    "requirements-build.lock": PROJECT["build-system"]["requires"],
}
each_lock = pytest.mark.parametrize("name", NEEDED)


class Locked(NamedTuple):
    version: str
    hashes: list[str]
    asked_by: set[str]


def locked(name: str) -> dict[str, Locked]:
    """Each package of a lock file; what follows its line belongs to it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    parts = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    return {
        canonicalize_name(part.partition("==")[0]): Locked(
            part.partition("==")[2].split()[0],
            re.findall(r"--hash=sha256:([0-9a-f]{64})\b", part),
            set(
                re.findall(
                    r"^ +# +(?:via )?([a-zA-Z0-9_.-]+)(?: \(pyproject.toml\)| -)?$", part, re.MULTILINE
                )
            )
            - {"via"},
        )
        for part in parts
    }


@each_lock
def test_a_lock_file_is_in_step_with_pyproject(name: str) -> None:
    """Each requirement is locked at a version that it allows: otherwise run `make lock`."""
    packages = locked(name)
    for requirement in map(Requirement, NEEDED[name]):
        assert requirement.specifier.contains(packages[canonicalize_name(requirement.name)].version), (
            requirement
        )


@each_lock
def test_every_locked_package_is_needed(name: str) -> None:
    """By pyproject.toml or by another that is locked: nothing stays when a requirement goes."""
    packages = locked(name)
    wanted = {canonicalize_name(Requirement(text).name) for text in NEEDED[name]}
    for package, about in packages.items():
        assert package in wanted or about.asked_by & packages.keys(), package


@each_lock
def test_every_locked_package_has_its_hashes_and_no_address(name: str) -> None:
    """What a mirror serves is compared; which mirror that is, is the builder's choice."""
    assert all(about.hashes for about in locked(name).values())
    assert not re.search(r"://|^ *-(?!-hash)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)


HOLES: Final[dict[str, tuple[str, str]]] = {
    "anyio": ("4.14.1", "CVE-2026-63374"),
    "certifi": ("2024.6.2", "CVE-2024-39689"),
    "click": ("8.3.2", "CVE-2026-7246"),
    "h11": ("0.14.0", "CVE-2025-43859"),
    "httpx": ("0.22.0", "CVE-2021-41945"),
    "idna": ("3.6", "CVE-2024-3651"),
    "jinja2": ("3.1.5", "CVE-2025-27516"),
    "pyyaml": ("5.3.1", "CVE-2020-14343"),
    "starlette": ("1.3.0", "CVE-2026-54282"),
}
"""A version that has the hole, of each package that had one."""


@pytest.mark.parametrize("name", HOLES)
def test_no_version_with_a_known_hole_is_allowed(name: str) -> None:
    """Neither by pyproject.toml, also where only another package needs it, nor by the lock file."""
    version, advisory = HOLES[name]
    allowed = {
        canonicalize_name(requirement.name): requirement.specifier
        for requirement in map(Requirement, PROJECT["project"]["dependencies"])
    }
    assert not allowed[canonicalize_name(name)].contains(version), advisory
    assert locked("requirements.lock")[name].version != version
