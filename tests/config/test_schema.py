"""The schema for editors: refuses no file that the exporter takes, and what a schema can of the others."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from exporter.config import schema
from exporter.config.keys import keys_of
from exporter.config.model import (
    AUTH_METHODS,
    Config,
    FailMsgClass,
    Filters,
    MetricsConfig,
    PollConfig,
    StorageConfig,
    TargetConfig,
)
from exporter.config.values import Ascending, SecretType, SomeOf, ValueType
from exporter.config.yaml_nodes import Parser, ValueRefusedError, YamlValue
from tests.config.test_load import BAD, FULL, SAMPLE, TARGET
from tests.paths import ROOT

FILE = ROOT / "exporter.schema.json"
CONFIG_MAP = ROOT / "deploy" / "kubernetes" / "configmap.yaml"
NO_DOCUMENT = {
    "alias_bomb", "alias_of_itself", "bad_indentation", "bad_tagged_number", "control_character",
    "duplicate_key", "duplicate_key_in_auth", "empty", "key_not_text", "merge_not_a_mapping",
    "nested_too_deeply", "not_utf8", "not_utf8_utf16", "only_comments", "secret_tagged", "several_documents",
    "tab", "unclosed_quote", "undefined_alias",
}  # fmt: skip
"""Wrong as YAML, or nothing to compare with a schema."""
VALID_ALL_THE_SAME = {
    "buckets_order": "depends on several values",
    "classes_too_many": "depends on several values",
    "duplicate_target_names": "depends on several values",
    "interval_longer_than_overlap": "depends on several values",
    "max_catch_up_too_short": "depends on several values",
    "max_catch_up_too_short_for_interval": "depends on several values",
    "retention_shorter_than_window": "depends on several values",
    "window_longer_than_retention": "depends on several values",
    "storage_sqlite_password": "depends on several values",
    "secret_file_missing": "another file",
    "secret_file_two_lines": "another file",
    "endpoint_http": "this machine has many names",
    "iam_endpoint_http": "this machine has many names",
}
"""Files that a schema lets pass, and why."""


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(found)
    return jsonschema.Draft7Validator(found)


def test_the_schema_is_fresh() -> None:
    """Otherwise: ``make docs``."""
    assert FILE.read_text(encoding="utf-8") == schema.text(), "stale: run make docs"


def test_the_sample_names_the_schema_beside_it() -> None:
    """By a path that editors look for from the sample's folder."""
    first = SAMPLE.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# yaml-language-server: $schema={FILE.relative_to(SAMPLE.parent)}"


def _sample(method: str) -> str:
    """The sample with one way to sign in that it has in comments."""
    lines = SAMPLE.read_text(encoding="utf-8").replace("    # auth:", "    auth:").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"    #   {method}:"))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith("    #     "))
    lines[start:end] = [line.replace("# ", "", 1) for line in lines[start:end]]
    return "\n".join(lines)


def _blocks(page: str) -> dict[str, str]:
    """The configurations that a page shows."""
    found = re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    shown = [text for text in found if re.search("^targets:", text, re.M)]
    assert shown, page
    return {f"{page} {number}": text for number, text in enumerate(shown)}


GOOD = {
    **_blocks("README.md"),
    **_blocks("docs/deployment.md"),
    "minimal": TARGET,
    "full": FULL.replace("+10:00", "'+10:00'"),  # PyYAML alone takes it for a number
    "empty sections": f"poll:\nmetrics:\nstorage:\nfail_msg_classes:\n{TARGET}",
    **{
        f"kubernetes {path.parent.name}": yaml.safe_load(path.read_text(encoding="utf-8"))["data"][
            "exporter.yaml"
        ]
        for path in sorted((ROOT / "deploy" / "kubernetes").rglob("configmap.yaml"))
    },
    "compose": (ROOT / "deploy" / "compose" / "replicas.yaml").read_text(encoding="utf-8"),
    **{f"sample with {method}": _sample(method) for method in AUTH_METHODS},
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_a_good_file_is_taken(text: str, validator: jsonschema.protocols.Validator) -> None:
    """No editor marks what the exporter takes."""
    assert [error.message for error in validator.iter_errors(yaml.safe_load(text))] == []


@pytest.mark.parametrize(
    "path",
    sorted(path for path in BAD.glob("*.yaml") if path.stem not in NO_DOCUMENT),
    ids=lambda path: path.stem,
)
def test_a_bad_file_is_refused(path: Path, validator: jsonschema.protocols.Validator) -> None:
    """Whatever does not depend on several values, on other files or on the machine."""
    refused = not validator.is_valid(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert refused is (path.stem not in VALID_ALL_THE_SAME)


VALUES: tuple[YamlValue, ...] = (
    "", " ", "a", "A-1", "a b", " a ", "a\n", "账号", "true", "false", "auto", "unix_ms", "rfc3339", "0", "1",
    "\x00", "0s", "1ms", "5s", "1s1ms", "1h30m", "1d", "3650d", "30m1h", "1.5h", "UTC", "Asia/Shanghai",
    "+08:00", "-03:30", "+8", "http://127.1", "http://localhost:1/", "HTTPS://A.b", "https://[::1]:1", "https://a/b",
    "sqlite:///a", "sqlite:////a/b c.db", "sqlite:///a/", "sqlite:///:memory:", "postgresql:///a", "(a|b)",
    "seen", "job_type",
    "no_message", "x" * 200, "\ufeffa", 0, 1, -1, 5, 10**9, 10**10, 0.5, 1000.0, float("nan"), float("inf"),
    True, False, None,
)  # fmt: skip


def _types() -> Iterator[tuple[str, Parser[Any], dict[str, Any]]]:
    """By key: what reads its value, and its part of the schema."""
    sections: list[type[msgspec.Struct]] = [Config, StorageConfig, PollConfig, MetricsConfig]
    sections += [FailMsgClass, TargetConfig, Filters, *AUTH_METHODS.values()]
    for struct in sections:
        for key in keys_of(struct):
            if isinstance(key.type, ValueType):
                yield f"{struct.__name__}.{key.name}", key.type, schema.properties_of(key)[key.name]
            elif isinstance(key.type, SecretType):
                yield f"{struct.__name__}.{key.name}", key.type.text, schema.properties_of(key)[key.name]
            elif isinstance(key.type, Ascending | SomeOf):
                item = schema.properties_of(key)[key.name]["items"]
                yield f"{struct.__name__}.{key.name}[]", key.type.item, item


@pytest.mark.parametrize(("parse", "part"), [it[1:] for it in _types()], ids=[it[0] for it in _types()])
def test_a_value_that_is_read_is_valid(parse: Parser[Any], part: dict[str, Any]) -> None:
    """The schema of a key refuses nothing that the exporter takes."""
    taken = []
    for value in VALUES:
        with contextlib.suppress(ValueRefusedError):
            parse(value)
            taken.append(value)
    assert taken
    assert [value for value in taken if not jsonschema.Draft7Validator(part).is_valid(value)] == []


def _mappings(part: dict[str, Any], way: tuple[str, ...] = ()) -> dict[tuple[str, ...], dict[str, Any]]:
    found = {way: part} if "properties" in part else {}
    for name, inner in part.get("properties", {}).items():
        found |= _mappings(inner.get("items", inner), (*way, name))
    return found


def test_unknown_keys_are_refused_everywhere() -> None:
    """In every section, and every section of the configuration is in the schema."""
    mappings = _mappings(json.loads(schema.text()))
    assert all(part["additionalProperties"] is False for part in mappings.values())
    assert set(mappings[()]["properties"]) == {key.name for key in keys_of(Config)}
    assert {("targets", "auth", method) for method in AUTH_METHODS} <= set(mappings)
