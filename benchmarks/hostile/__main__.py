"""The exporter under hostile clients, scraped by Prometheus: python -m benchmarks.hostile [--tls].

Starts the simulator, the exporter with forty targets (some MiB of metrics), Prometheus, and for each kind a
process of clients, all on loopback; prints a row a kind as a Markdown table:

- load: attempts a second that the clients made, and the most connections that they held at a time;
- memory: resident set of the exporter before, its highest meanwhile, and ten seconds after;
- scrapes of Prometheus (gzip, connections kept), and those of a client that connects anew each time: the
  median and the 99th percentile in milliseconds, and how many of them failed;
- scrapers over slow networks, which keep their connection: how many of their bodies came whole, of those that
  began during the row.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import math
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.hostile.clients import FLOOD, KINDS, NOBODY
from benchmarks.process_cost import cpu_seconds, pid_of, resident
from testkit.certificates import Authority
from testkit.processes import ROOT, Exporter, free_port, simulator, wait_for, write_config

JOBS: Final = 2
"""Scrape jobs of Prometheus, each with a connection of its own and a scrape a second."""
AFTER_SECONDS: Final = 10.0
QUIET_SECONDS: Final = 2.0
"""Before each kind."""
PROBE_SECONDS: Final = 0.2
WARM_SECONDS: Final = 15.0
"""After the first polls: what the books take at their start is not what clients take."""
FLOOD_RATE: Final = 5000.0
SLOW: Final = (("gzip", 30_000), ("identity", 300_000))
COLUMNS: Final = (
    *("clients", "attempts/s", "held", "CPU %", "RSS MiB before", "most", "10 s after"),
    *("Prometheus p50 ms", "p99", "failed", "new connection p50 ms", "p99", "failed"),
    *(f"whole at {rate // 1000} kB/s, {encoding}" for encoding, rate in SLOW),
)
MEASURED: Final = ("scrape_duration_seconds", "up")
OF_TLS: Final = ("half a handshake", "greeting of 131 KB", "handshake, resets")


def main() -> None:
    """Every kind, or those whose names contain a text."""
    arguments = argparse.ArgumentParser(description="hostile clients")
    arguments.add_argument("--kind", action="append", default=[], help="only those that contain this")
    arguments.add_argument("--tls", action="store_true", help="HTTPS, and the kinds that need it")
    arguments.add_argument("--seconds", type=float, default=20.0, help="of each kind (default: 20)")
    arguments.add_argument("--clients", type=int, default=1000, help="at a time (default: 1000)")
    arguments.add_argument(
        "--rate", type=float, default=2000.0, help="attempts a second at most (default: 2000)"
    )
    arguments.add_argument("--targets", type=int, default=40, help="of the exporter (default: 40)")
    arguments.add_argument("--address", default="127.0.0.1", help="of the clients (default: Prometheus' own)")
    arguments.add_argument("--flag", action="append", default=[], help="one more flag of the exporter")
    chosen = arguments.parse_args()
    if shutil.which("prometheus") is None:
        sys.exit("prometheus is not installed")
    with tempfile.TemporaryDirectory() as name:
        bench(Path(name), chosen)


def bench(folder: Path, chosen: argparse.Namespace) -> None:
    flags = list(chosen.flag)
    if chosen.tls:
        flags.append(f"--web.config.file={web_config(folder)}")
    with (
        simulator(folder, "--no-auth", "--rate=6") as cloud,
        running(configured(folder, cloud, chosen.targets), folder, flags) as exporter,
        prometheus(folder, exporter.port, tls=chosen.tls) as querying,
    ):
        size = wait_for("the whole exposition", lambda: settled(exporter.port, chosen), 120)
        print(f"{chosen.clients} clients from {chosen.address}, {size / 2**20:.1f} MiB of metrics\n")
        print(f"| {' | '.join(COLUMNS)} |")
        print("| --- |" + " ---: |" * (len(COLUMNS) - 1))
        time.sleep(WARM_SECONDS)
        for kind in KINDS:
            if kind == NOBODY or (wanted(kind, chosen.kind) and (chosen.tls or kind not in OF_TLS)):
                print(row(kind, pid_of(exporter), exporter.port, querying, chosen), flush=True)


def wanted(kind: str, parts: list[str]) -> bool:
    return not parts or any(part in kind for part in parts)


def row(kind: str, pid: int, port: int, querying: str, chosen: argparse.Namespace) -> str:
    time.sleep(QUIET_SECONDS)
    before, _ = resident(pid)
    cpu = cpu_seconds(pid)
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the highest begins anew
    command = [sys.executable, "-m", "benchmarks.hostile.clients", kind, port, chosen.address, chosen.seconds]
    rate = FLOOD_RATE if kind == FLOOD else chosen.rate
    command += [chosen.clients, rate, "tls" if chosen.tls else "plain"]
    slow = [Slow(port, chosen.tls, encoding, rate) for encoding, rate in SLOW]
    with slow[0], slow[1], Probe(port, chosen.tls) as probe:
        clients = subprocess.run(  # noqa: S603 - one of ours
            list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=chosen.seconds + 60
        )
        attempts, held = map(int, clients.stdout.split()) if clients.returncode == 0 else (0, 0)
        if clients.returncode:
            print(clients.stderr, file=sys.stderr)
    busy = (cpu_seconds(pid) - cpu) / chosen.seconds
    scrapes = scraped(querying, chosen.seconds)
    _, most = resident(pid)
    time.sleep(AFTER_SECONDS)
    after, _ = resident(pid)
    cells = [
        f"{attempts / chosen.seconds:.0f}",
        held,
        f"{100 * busy:.0f}",
        f"{before:.0f}",
        f"{most:.0f}",
        f"{after:.0f}",
    ]
    cells += [*latency(scrapes), *latency(probe.scrapes)]
    cells += [f"{sum(scraper.whole)} of {len(scraper.whole)}" for scraper in slow]
    return f"| {kind} | " + " | ".join(map(str, cells)) + " |"


def latency(scrapes: list[float | None]) -> tuple[str, str, str]:
    """Median and 99th percentile in milliseconds, and failures; ``None`` is one."""
    times = sorted(seconds for seconds in scrapes if seconds is not None)
    if not times:
        return "-", "-", f"{len(scrapes)} of {len(scrapes)}"
    p50, p99 = (times[math.ceil(len(times) * part) - 1] * 1000 for part in (0.5, 0.99))
    return f"{p50:.0f}", f"{p99:.0f}", f"{len(scrapes) - len(times)} of {len(scrapes)}"


class Probe:
    """Scrapes on a new connection each time, from Prometheus' address, while it is entered."""

    def __init__(self, port: int, tls: bool) -> None:
        self._port = port
        self._tls = tls
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.scrapes: list[float | None] = []

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(PROBE_SECONDS):
            began = time.monotonic()
            done = scrape(self._port, tls=self._tls) is not None
            self.scrapes.append(time.monotonic() - began if done else None)


class Slow:
    """Scrapes on one connection at this rate while it is entered, and the last one to its end."""

    def __init__(self, port: int, tls: bool, encoding: str, rate: int) -> None:
        self._connection = connection_to(port, tls=tls)
        self._encoding = encoding
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.whole: list[bool] = []

    def __enter__(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._connection.request("GET", "/-/healthy")
            self._connection.getresponse().read()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            whole = False
            with contextlib.suppress(OSError, http.client.HTTPException):
                whole = self._scrape()
            self.whole.append(whole)
            if not whole:
                self._connection.close()

    def _scrape(self) -> bool:
        self._connection.request("GET", "/metrics", headers={"accept-encoding": self._encoding})
        answer = self._connection.getresponse()
        while piece := answer.read(4096):
            time.sleep(len(piece) / self._rate)
        return answer.status == 200 and not answer.length


def connection_to(port: int, *, tls: bool, timeout: float = 30) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=context)


def scrape(port: int, *, tls: bool, encoding: str = "gzip") -> bytes | None:
    """The body of one scrape; ``None`` if it fails."""
    connection = connection_to(port, tls=tls, timeout=10)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/metrics", headers={"accept-encoding": encoding})
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 200:
            return body
    return None


def settled(port: int, chosen: argparse.Namespace) -> int | None:
    """The size of the exposition once every target has been polled."""
    body = scrape(port, tls=chosen.tls, encoding="identity") or b""
    polled = body.count(b"metastudio_up{") == chosen.targets and b'metastudio_up{target="t0"} 1' in body
    return len(body) if polled else None


def configured(folder: Path, cloud: str, targets: int) -> Path:
    """A configuration with so many targets on the simulator."""
    path = write_config(folder, cloud, poll={"interval": "10s", "timeout": "60s", "overlap": "60s"})
    config = json.loads(path.read_text())
    config["targets"] = [{**config["targets"][0], "name": f"t{number}"} for number in range(targets)]
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def running(config: Path, folder: Path, flags: list[str]) -> Iterator[Exporter]:
    exporter = Exporter(config, folder)
    exporter.start("--web.enable-lifecycle", *flags)
    try:
        yield exporter
    finally:
        exporter.kill()


def web_config(folder: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.exit("openssl is not installed")
    (folder / "certificates").mkdir()
    pair = Authority(Path(openssl), folder / "certificates").issue("server", "DNS:localhost,IP:127.0.0.1")
    path = folder / "web.yml"
    path.write_text(f"tls_server_config: {{cert_file: {pair.cert}, key_file: {pair.key}}}\n")
    return path


@contextlib.contextmanager
def prometheus(folder: Path, port: int, *, tls: bool) -> Iterator[str]:
    """Prometheus with several jobs on the exporter; gives its address."""
    job = {
        "scheme": "https" if tls else "http",
        "tls_config": {"insecure_skip_verify": True},
        "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
    }
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": f"job{number}", **job} for number in range(JOBS)],
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--web.listen-address={address}"]
    command += [f"--storage.tsdb.path={folder / 'tsdb'}", "--log.level=error"]
    with subprocess.Popen(command) as process:  # noqa: S603 - constant
        try:
            wait_for("Prometheus", lambda: query(address, "vector(1)"))
            yield address
        finally:
            process.terminate()


def query(address: str, expression: str) -> list[Any] | None:
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        result: list[Any] = json.loads(connection.getresponse().read())["data"]["result"]
    except (OSError, ValueError, KeyError):
        return None
    else:
        return result
    finally:
        connection.close()


def scraped(address: str, seconds: float) -> list[float | None]:
    """What Prometheus measured in the last seconds."""
    durations, ups = (
        {(series["metric"]["job"], at): float(value) for series in found for at, value in series["values"]}
        for found in (query(address, f"{name}[{round(seconds)}s]") or () for name in MEASURED)
    )
    return [duration if ups.get(scrape) else None for scrape, duration in durations.items()]


if __name__ == "__main__":
    main()
