"""Starts and ends each server; knows what its processes have cost. All on loopback."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.scrape import data
from exporter.exposition.render import Exposition
from exporter.exposition.text import Format
from testkit.processes import free_port

ROOT: Final = Path(__file__).parents[2]
GO_SOURCE: Final = Path(__file__).parent / "peer_go"
TICK: Final = os.sysconf("SC_CLK_TCK")
START_SECONDS: Final = 20.0

NGINX: Final = """\
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log stderr crit;
events {{}}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/tmp; proxy_temp_path {folder}/tmp; fastcgi_temp_path {folder}/tmp;
  uwsgi_temp_path {folder}/tmp; scgi_temp_path {folder}/tmp;
  default_type "{type}";
  server {{ listen 127.0.0.1:{port}; root {folder}; gzip_static on; }}
}}
"""


class RunningServer(msgspec.Struct, frozen=True):
    """A server that answers."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it and its children have used, in user and in system mode."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_cpu(pid) for pid in (self.pid, *map(int, children)))


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


@contextlib.contextmanager
def run(command: Sequence[str], port: int) -> Iterator[RunningServer]:
    """A process, once it listens; ended with the block."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - one of ours
        try:
            _wait(port, process)
            yield RunningServer(port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/metrics")
            connection.getresponse().read()
            return
        time.sleep(0.1)
    raise SystemExit(f"{process.args!r} does not answer on port {port}")


@contextlib.contextmanager
def ours(size: data.Size, folder: Path) -> Iterator[RunningServer]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.scrape.ours", str(port), str(size.series)]
    with run(command, port) as running:
        yield running


@contextlib.contextmanager
def client_python(size: data.Size, folder: Path) -> Iterator[RunningServer]:
    port = free_port()
    file = _families(size, folder)
    with run([sys.executable, "-m", "benchmarks.scrape.peer_python", str(port), str(file)], port) as running:
        yield running


@contextlib.contextmanager
def client_golang(size: data.Size, folder: Path) -> Iterator[RunningServer]:
    port = free_port()
    with run([str(go_program(folder)), str(port), str(_families(size, folder))], port) as running:
        yield running


@contextlib.contextmanager
def nginx_static(size: data.Size, folder: Path) -> Iterator[RunningServer]:
    port = free_port()
    exposition = Exposition(data.api(size), data.PROCESS, created_timestamps=False)
    exposition.publish(data.published(size))
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "metrics").write_bytes(exposition.render(Format.OPENMETRICS))
    (folder / "metrics.gz").write_bytes(exposition.render(Format.OPENMETRICS, compressed=True))
    folder.chmod(0o755)  # nginx gives up being root
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port, type=Format.OPENMETRICS.value))
    with run(["nginx", "-p", str(folder), "-c", str(config)], port) as running:
        yield running


def _families(size: data.Size, folder: Path) -> Path:
    file = folder / f"{size.series}.json"
    file.write_bytes(msgspec.json.encode(data.families(size)))
    return file


def go_program(folder: Path) -> Path:
    """Built with Debian's packages, without any module proxy."""
    program = folder / "peer-go"
    if not program.exists():
        environ = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "-p=1"}
        command = ["go", "build", "-o", str(program), "."]
        subprocess.run(command, cwd=GO_SOURCE, env=environ, check=True, timeout=300)  # noqa: S603 - constant
    return program


Server = Callable[[data.Size, Path], contextlib.AbstractContextManager[RunningServer]]
SERVERS: Final[dict[str, tuple[Server, str]]] = {
    "this exporter": (ours, sys.executable),
    "prometheus-client": (client_python, sys.executable),
    "client_golang": (client_golang, "go"),
    "nginx, static file": (nginx_static, "nginx"),
}
"""Name -> how to run it, and the program that it needs."""
