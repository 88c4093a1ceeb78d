"""Each flag of ``serve`` reaches the part of the program that it is for."""

from __future__ import annotations

import inspect
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import exporter.app
from exporter import log
from exporter.cli import main
from exporter.errors import ExporterError
from exporter.simulator.auth import SECRET_KEY
from testkit.processes import write_config

HASH = "$2y$04$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
Given = dict[str, Any]
"""By ``part.argument``: what it was given."""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Given]]:
    """Starts the program with these flags, up to where it would load its targets."""
    given: Given = {}

    def note(module: object, name: str, make: Callable[..., object]) -> None:
        signature = inspect.signature(getattr(module, name))

        def noted(*args: Any, **options: Any) -> object:
            found = signature.bind(*args, **options).arguments
            given.update({f"{name}.{argument}": value for argument, value in found.items()})
            return make(*args, **options)

        monkeypatch.setattr(module, name, noted)

    def stop(*_: object) -> None:
        raise ExporterError("far enough")

    note(log, "configure", lambda *_, **__: None)
    note(exporter.app, "App", exporter.app.App)
    for name in ("create_app", "open_store", "Server"):
        note(exporter.app, name, lambda *_, **__: None)
    note(exporter.app, "Fleet", stop)

    def started(*flags: str) -> Given:
        given.clear()
        path = write_config(tmp_path, "http://127.0.0.1:9")
        content = json.loads(path.read_text())
        content["targets"].append({**content["targets"][0], "name": "second"})
        path.write_text(json.dumps(content))
        assert main(["serve", f"--config.file={path}", *flags]) == 1
        assert "Fleet.resources" in given, "it ended before"
        return given

    before = signal.getsignal(signal.SIGHUP)
    yield started
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("flag", "arrived"),
    [
        (
            "--web.listen-address=127.0.0.1:7",
            lambda given: given["Server.listen_addresses"] == ["127.0.0.1:7"],
        ),
        ("--web.max-requests=7", lambda given: given["Server.limits"].requests == 7),
        ("--web.telemetry-path=/m", lambda given: given["create_app.telemetry_path"] == "/m"),
        ("--web.enable-lifecycle", lambda given: given["create_app.reload"] is not None),
        ("--log.level=error", lambda given: given["configure.level"] == "error"),
        ("--log.format=json", lambda given: given["configure.line_format"] == "json"),
        ("--shard=1/2", lambda given: len(given["Fleet.config"].targets) == 1),
    ],
    ids=lambda value: value.strip("-") if isinstance(value, str) else "",
)
def test_a_flag_arrives(flag: str, arrived: Callable[[Given], bool], start: Callable[..., Given]) -> None:
    """What it says is in force, and is not without it."""
    assert not arrived(start())
    assert arrived(start(flag))


def test_the_web_configuration_arrives(tmp_path: Path, start: Callable[..., Given]) -> None:
    """The server has its users; the log and what is sent to the API hide their hashes."""
    web_config = tmp_path / "web.yml"
    web_config.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    given = start(f"--web.config.file={web_config}")
    assert given["Server.web_config"].settings().users == {b"alice": HASH.encode()}
    for redactor in (given["configure.redactor"], given["Fleet.resources"].redactor):
        assert redactor.redact(f"{HASH} {SECRET_KEY}") == "*** ***"


def test_what_no_flag_says_arrives(start: Callable[..., Given]) -> None:
    """The status page and the environment; the file of the configuration is read again at a reload."""
    given = start()
    assert given["create_app.status"] is not None
    assert given["Fleet.resources"].environ is os.environ
    assert given["App.read_config"]() == given["Fleet.config"]
