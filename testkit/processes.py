"""The real program and the real simulator as processes, for tests that need them whole.

Every wait has a bound, every process is ended by its own handle.

Rule R3 stands in docs/counting.md.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parent.parent
T = TypeVar("T")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""(sample name, labels) -> value"""


def wait_for(what: str, ask: Callable[[], T | None], seconds: float = 30.0) -> T:
    """What ``ask`` returns once it is not None or False. Fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        answer = ask()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


_PORTS = itertools.cycle(range(10_000, 32_000))
"""Below those that the system gives to outgoing connections: a port stays free while its program is down."""
next(itertools.islice(_PORTS, secrets.randbelow(22_000), None))


def bare_environ() -> dict[str, str]:
    """Where programs and our code are, and what measures coverage: nothing else of this machine."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **kept}


def free_port() -> int:
    """A loopback port that nobody listens on, another one each time.

    Until this process ends, no other process of the tests is given it: the UDP port stays taken.
    """
    for port in itertools.islice(_PORTS, 1000):
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            reservation.close()
        else:
            reservation.detach()
            return port
    raise AssertionError("a thousand ports in a row are in use")


def get(url: str, timeout: float = 5.0) -> str | None:
    """The body of a 200, or ``None``."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - loopback only
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return None


def post(url: str, body: object, method: str = "POST") -> Any:
    """Send JSON, read JSON."""
    request = urllib.request.Request(  # noqa: S310 - loopback only
        url, json.dumps(body).encode(), {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback only
        return json.loads(answer.read())


def end_all(cloud: str, rate: float, jump: float = 600.0) -> None:
    """Time jumps on over there, so that every job ends; a few more at ``rate`` confirm its ``Date`` (R3).

    By much less than a signature is good for, 15 minutes, unless the ``Date`` of every refusal is right.
    """

    def listed() -> int:
        projects = json.loads(get(f"{cloud}/simulator") or "{}").get("projects", {})
        return sum(project["listed"] for project in projects.values())

    post(f"{cloud}/simulator/rate", {"rate": 0.0})
    post(f"{cloud}/simulator/clock", {"jump": jump})
    before = listed()
    post(f"{cloud}/simulator/rate", {"rate": rate})
    wait_for("a job that confirms the time", lambda: listed() >= before + 2)
    post(f"{cloud}/simulator/rate", {"rate": 0.0})


class Process:
    """A program of ours with its output in a file."""

    def __init__(self, arguments: Sequence[str], log: Path, cwd: Path | None = None) -> None:
        self.log = log
        self._out = log.open("ab")
        self.popen = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=self._out,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )

    def first_line(self, seconds: float = 60.0) -> str:
        """What it prints first on standard output."""
        assert self.popen.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.popen.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                raise AssertionError(f"no output within {seconds:.0f} s; log: {self.log.read_text()}")
        return self.popen.stdout.readline().decode().strip()

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self.popen.kill()
        self._reap()

    def stop(self, number: int = signal.SIGTERM, seconds: float = 10.0) -> int:
        """Ask it to end; returns its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise
        finally:
            self._reap()
        return self.popen.returncode

    def _reap(self) -> None:
        self.popen.wait(10)
        if self.popen.stdout is not None:
            self.popen.stdout.close()
        self._out.close()


@contextlib.contextmanager
def simulator(tmp_path: Path, *flags: str, module: str = "exporter.simulator") -> Iterator[str]:
    """The simulator as a process; gives its address."""
    process = Process(["-m", module, *flags], tmp_path / "simulator.log")
    try:
        yield process.first_line()
    finally:
        process.stop()


class Exporter:
    """The exporter as a process that may be killed and started again on the same store."""

    def __init__(self, config: Path, tmp_path: Path, module: str = "exporter") -> None:
        self.config = config
        self._module = module
        self._tmp_path = tmp_path
        self.port = free_port()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *flags: str) -> None:
        arguments = ["-m", self._module, f"--config.file={self.config}"]
        arguments += [f"--web.listen-address=127.0.0.1:{self.port}", *flags]
        self.process = Process(arguments, self._tmp_path / "exporter.log")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process = None

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        process, self.process = self.process, None
        return process.stop(number)

    def samples(self) -> Samples | None:
        """One scrape; ``None`` while nobody answers."""
        text = get(f"{self.url}/metrics")
        return None if text is None else parse(text)

    def log(self) -> str:
        return (self._tmp_path / "exporter.log").read_text()


@contextlib.contextmanager
def exporter(config: Path, tmp_path: Path) -> Iterator[Exporter]:
    """An exporter, started; ended with the block."""
    program = Exporter(config, tmp_path)
    program.start()
    try:
        yield program
    finally:
        program.kill()


def parse(text: str) -> Samples:
    """Every sample of an exposition."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {_series(series): float(value) for series, _, value in lines}


@functools.cache
def _series(text: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Name and labels. Kept: the same series come in scrape after scrape, and the parser is slow."""
    ((sample,),) = (family.samples for family in text_string_to_metric_families(f"{text} 0"))
    return sample.name, frozenset(sample.labels.items())


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of the samples with that name and those labels."""
    wanted = set(labels.items())
    return sum(value for (sample, found), value in samples.items() if sample == name and wanted <= found)


def write_config(tmp_path: Path, endpoint: str, **changes: Any) -> Path:
    """A configuration for one target on the simulator, as a file (JSON is YAML)."""
    config: dict[str, Any] = {
        "storage": {"url": "sqlite:///books.db"},
        "poll": {"interval": "1s", "timeout": "20s", "overlap": "60s", "window": "10m"},
        "targets": [
            {
                "name": "t",
                "region": "cn-north-4",
                "endpoint": endpoint,
                "iam_endpoint": endpoint,
                "project_id": "5a1de0000000000000000000000000a1",
                "auth": {"aksk": {"access_key": "SIMULATEDACCESSKEY00", "secret_key": "s"}},
                "rate_limit": 100,
            }
        ],
    }
    from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY

    config["targets"][0]["auth"]["aksk"] = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    for key, value in changes.items():
        if key == "target":
            config["targets"][0] |= value
        else:
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    path = tmp_path / "exporter.yaml"
    path.write_text(json.dumps(config, indent=1))
    return path
