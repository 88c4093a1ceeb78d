"""The architecture: which module may import which, names, sizes, and that importing has no effects."""

from __future__ import annotations

import ast
import functools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "exporter"
MODULES = sorted(PACKAGE.rglob("*.py"))

# The ledger and the classifier work on values: what is not in this list could be a clock, a file or a socket.
PURE_MAY_IMPORT = {
    "__future__",
    "array",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "operator",
    "re",
    "re2",
    "types",
    "typing",
    "exporter.bounded",
    "exporter.errors",
    "exporter.failures",
    "exporter.ledger",
    "exporter.units",
}
# Only these packages may import these libraries.
ONLY_IN = {
    "httpx": {"exporter.cloud"},
    "sqlite3": {"exporter.store"},
    "uvicorn": {"exporter.web", "exporter.simulator"},
    "starlette": {"exporter.web", "exporter.simulator"},
    "prometheus_client": {
        "exporter.exposition.text",
        "exporter.exposition.render",
        "exporter.exposition.process",
    },
    "yaml": {"exporter.config.yaml_nodes", "exporter.config.dump"},
    "jinja2": {"exporter.status.page"},
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Absolute names of every module imported anywhere in this file, inside functions too."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*base, node.module) if node.module else base)
            if module == "exporter":
                yield from (f"exporter.{alias.name}" for alias in node.names)
            else:
                yield module


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def files(package: str) -> list[Path]:
    return [path for path in MODULES if within(module_name(path), {package})]


@pytest.mark.parametrize("path", files("exporter.ledger") + files("exporter.failures"), ids=module_name)
def test_counting_and_classifying_are_pure(path: Path) -> None:
    """No I/O, no clock, no threads, no logging, no metrics: only what is on the list."""
    assert [name for name in imports(path) if not within(name, PURE_MAY_IMPORT)] == []


PACKAGES = {
    name
    for path in PACKAGE.rglob("*/__init__.py")
    if not within(name := module_name(path), {"exporter.commands"})
}
# What has a reason to be imported past its package's front. Commands have none: they are loaded when called.
PAST_THE_FRONT = {
    ("exporter.cli", "exporter.simulator.__main__"),  # a program of its own
    ("exporter.web.status_routes", "exporter.status.page"),  # with its templates, when first asked for
}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_packages_are_entered_by_their_fronts(path: Path) -> None:
    """What others use of a package is what its ``__init__`` exports."""
    name = module_name(path)
    past = [
        imported
        for imported in imports(path)
        for package in PACKAGES
        if imported.startswith(f"{package}.") and imported not in PACKAGES and not within(name, {package})
    ]
    assert [imported for imported in past if (name, imported) not in PAST_THE_FRONT] == []


@pytest.mark.parametrize("path", files("exporter.simulator"), ids=module_name)
def test_the_simulator_knows_nothing_of_the_exporter(path: Path) -> None:
    """Tests compare the two: an error that they share would not show."""
    strangers = [name for name in imports(path) if within(name, {"exporter"})]
    assert [name for name in strangers if not within(name, {"exporter.simulator"})] == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_each_kind_of_io_happens_in_its_own_package(path: Path) -> None:
    """For example, only the cloud client knows httpx."""
    wrong = [
        name
        for name in imports(path)
        if (library := name.partition(".")[0]) in ONLY_IN and not within(module_name(path), ONLY_IN[library])
    ]
    assert wrong == []


@pytest.mark.parametrize("path", files("exporter.web"), ids=module_name)
def test_the_web_knows_neither_cloud_nor_store(path: Path) -> None:
    """Serving never waits for them."""
    hidden = {"exporter.cloud", "exporter.store", "exporter.ledger", "exporter.polling.poller"}
    assert [name for name in imports(path) if within(name, hidden)] == []


# Why a name may stand in more than one package.
SHARED_NAMES = {"main": "each program begins with one"}


def definitions(path: Path) -> Iterator[str]:
    """The classes of a module, private ones without their underscore, and its public functions."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            yield node.name.removeprefix("_")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield node.name


def test_no_two_packages_use_one_name_for_different_things() -> None:
    """Who reads a class or a function's name anywhere knows which is meant."""
    packages: dict[str, set[str]] = {}
    for path in MODULES:
        package = ".".join(path.relative_to(ROOT).parent.parts)
        for name in definitions(path):
            packages.setdefault(name, set()).add(package)
    shared = {name: sorted(where) for name, where in packages.items() if len(where) > 1}
    assert shared.keys() == SHARED_NAMES.keys(), shared


def test_stand_ins_have_names_of_their_own() -> None:
    """A class of the tests, of ``testkit`` or of the benchmarks is not called like another, there or here."""
    places: dict[str, set[Path]] = {}
    for folder in ("exporter", "testkit", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            for name in re.findall(r"^class ([A-Za-z]\w*)", path.read_text(encoding="utf-8"), re.MULTILINE):
                places.setdefault(name, set()).add(path)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_says_what_it_is_and_stays_small(path: Path) -> None:
    """A docstring, and at most 400 lines. (ruff bounds how complex a function is.)"""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or not text.strip()
    assert text.count("\n") <= 400


PROBE = """
import importlib, json, os, signal, socket, sys, threading
import prometheus_client, logging
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event in
    ("socket.__new__", "socket.connect", "socket.bind", "subprocess.Popen", "sqlite3.connect") else None)
state = lambda: [
    len(prometheus_client.REGISTRY._collector_to_names),
    len(logging.getLogger().handlers),
    threading.active_count(),
    [str(signal.getsignal(n)) for n in (signal.SIGINT, signal.SIGTERM)],
    sorted(os.environ),
]
before = state()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([opened, before, state()]))
"""


def test_importing_has_no_effects() -> None:
    """In a fresh interpreter: no socket, no process, no thread, no handler, nothing registered."""
    names = [name for path in MODULES if not (name := module_name(path)).endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *names], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    opened, before, after = json.loads(done.stdout)
    assert opened == []
    assert before == after


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").rglob("*.py")), ids=str)
def test_benchmarks_need_no_tests(path: Path) -> None:
    """What both need is in testkit."""
    assert not [name for name in imports(path) if name.split(".")[0] == "tests"]


NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
"""Public in spite of their names: they cannot clash with a field."""


def private_reaches(path: Path) -> Iterator[str]:
    """Uses of private names of other objects and modules: ``x._y``, and ``_y`` imported or replaced."""

    def private(name: object) -> bool:
        last = name.rpartition(".")[2] if isinstance(name, str) else ""
        return last.startswith("_") and not last.startswith("__") and last not in NAMED_TUPLE

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Attribute(value=owner, attr=attr) if private(attr):
                if ast.unparse(owner) not in ("self", "cls"):
                    yield f"line {node.lineno}: {ast.unparse(node)}"
            case ast.ImportFrom(names=names):
                yield from (f"line {node.lineno}: {alias.name}" for alias in names if private(alias.name))
            case ast.Call(func=ast.Attribute(attr="setattr") | ast.Name(id="getattr" | "setattr"), args=args):
                texts = [arg.value for arg in args[:2] if isinstance(arg, ast.Constant)]
                yield from (f"line {node.lineno}: {text!r}" for text in texts if private(text))


@pytest.mark.slow
def test_only_what_is_public_is_judged() -> None:
    """What a test must see has a public, documented name: the next reader wants to see it too."""
    folders = ("tests", "testkit", "benchmarks")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    reaches = [f"{path.relative_to(ROOT)}, {reach}" for path in files for reach in private_reaches(path)]
    assert reaches == []


def test_names_of_tests_are_short() -> None:
    """Each fits into a line of pytest's, with what is said of it."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    names = [name for text in texts for name in re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)]
    assert [name for name in names if len(name) >= 60] == []
