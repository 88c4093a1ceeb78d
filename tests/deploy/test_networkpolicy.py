"""The network policy: what it opens, and that its commented parts are right once they are not comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.conftest import Tool
from tests.deploy.files import BASE, ROOT
from tests.deploy.test_yaml import run

PATH: Final = BASE / "networkpolicy.yaml"


def policy(*parts: str) -> Any:
    """The file with the commented lines around each of these words in force."""
    text = PATH.read_text(encoding="utf-8")
    head, spec = text.split("  egress:\n")
    return yaml.safe_load(f"{head}  egress:\n{uncommented(spec, parts)}")


def uncommented(spec: str, parts: tuple[str, ...]) -> str:
    """Commented lines, as far as they begin alike, lose their signs where one holds one of these words."""

    def opened(found: re.Match[str]) -> str:
        if not any(part in found[0] for part in parts):
            return found[0]
        return re.sub(r"^( +)# (?=[ -]|to:)", r"\1", found[0], flags=re.MULTILINE)

    return re.sub(r"^( +)# .*\n(?:\1# .*\n)*", opened, spec, flags=re.MULTILINE)


def allowed(loaded: Any) -> Iterator[tuple[str, int, bool]]:
    """Protocol, port, and whether every address may be reached there."""
    for rule in loaded["spec"]["egress"]:
        for port in rule["ports"]:
            yield port["protocol"], port["port"], "to" not in rule


def test_out_go_names_the_api_and_metadata_only() -> None:
    """As the file is: two ports to any address, one to one."""
    assert list(allowed(policy())) == [
        ("UDP", 53, True),
        ("TCP", 53, True),
        ("TCP", 443, True),
        ("TCP", 80, False),
    ]


@pytest.mark.parametrize(
    ("parts", "ports"),
    [
        pytest.param(("5353",), {("UDP", 5353, True), ("TCP", 5353, True)}, id="openshift-dns"),
        pytest.param(("kube-dns",), {("UDP", 53, False), ("TCP", 53, False)}, id="names-narrowed"),
        pytest.param(("192.0.2.20",), {("TCP", 443, False)}, id="api-narrowed"),
        pytest.param(("3128",), {("TCP", 3128, False)}, id="proxy"),
    ],
)
def test_a_commented_part_does_what_it_says(
    parts: tuple[str, ...], ports: set[tuple[str, int, bool]]
) -> None:
    """Without its comment signs the file is still a policy, and opens or narrows just that."""
    assert ports <= set(allowed(policy(*parts)))


def test_all_commented_parts_together_leave_nothing_open_to_all(tool: Tool, tmp_path: Any) -> None:
    """And the schema of Kubernetes accepts it."""
    loaded = policy("5353", "kube-dns", "192.0.2.20", "3128")
    assert not [port for _, port, everywhere in allowed(loaded) if everywhere]
    made = tmp_path / "networkpolicy.yaml"
    made.write_text(yaml.safe_dump(loaded))
    code, said = run(tool("kubernetes-validate"), "--strict", made)
    assert code == 0, said


@pytest.mark.parametrize("word", ["5353", "443", "53", "proxy", "169.254.20.10", "networkpolicy.yaml"])
def test_the_document_says_what_to_change(word: str) -> None:
    """In docs/deployment.md."""
    assert word in (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
