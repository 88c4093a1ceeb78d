"""One exporter with 1, 20, 200 and 1,000 targets: python -m benchmarks.targets [--targets=1,200] [--keys=1].

The real exporter and the simulator, each a process: half a job a second and a poll every 15 s a target (every
60 s from 1,000 targets on), signed requests over HTTP, a store on disk, one scrape with gzip every two
seconds. Prints Markdown. For each number of targets:

1. a cold start, and some polls of each target that are not measured;
2. CPU, memory and scrapes of the exporter as it is;
3. starts with the stored state, the middle one of three;
4. the exporter started once more by ``probe.py``, which watches the event loop, and then takes samples.

Of targets with the same key two requests at most are under way at a time: ``--keys`` says how many keys they
share. ``CPU a poll`` is what is left without what scrapes of an unchanged state cost, measured beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.process_cost import IMPORTS, pid_of, resident
from benchmarks.scrape.load import Scraper, quantile
from benchmarks.targets.probe import PROBE_FILE, LoopProfile
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from testkit.processes import ROOT, Exporter, get, simulator, wait_for, write_config

SIZES: Final = (1, 20, 200, 1000)
PER_MINUTE: Final = 30.0
"""Jobs of each target."""
INTERVAL: Final = 15
LONG_INTERVAL: Final = 60
MANY: Final = 1000
"""From so many targets on, the interval is the long one."""
HISTORY: Final = 120
"""Seconds of jobs that there are at the start."""
SCRAPE_EVERY: Final = 2.0
STARTS: Final = 3
UNCHANGED: Final = 30
"""Scrapes in a row, of a state that hardly changes."""


class Plan(msgspec.Struct, frozen=True):
    """Seconds. Not measured before an interval is over in which every target polls."""

    warm_up: float = 30.0
    measured: float = 60.0
    probed: float = 30.0
    """Each of the two ways to look inside."""
    keys: int = 1
    """How many keys the targets have in turns."""


PLAN: Final = Plan()


class TargetsCost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one number of targets."""

    targets: int
    interval: int
    keys: int
    series: int
    body_mib: float
    """Of a scrape, compressed."""
    cpu_percent: float
    """Of a core, the exporter alone."""
    polls: int
    cpu_a_poll_ms: float
    cpu_a_scrape_ms: float
    """Of an unchanged state."""
    rss_mib: float
    private_mib: float
    """What no other process shares with it."""
    cold_start_s: float
    stored_start_s: float
    scrape_p50_ms: float
    scrape_p99_ms: float
    held_up_ms: float
    """The longest time for which the event loop did not run: other programs on the machine count, too."""
    busy_ms: float
    """The longest CPU time that it used at a stretch."""
    parts: dict[str, float]
    """Shares of the CPU, by package."""


def measure(targets: int, folder: Path, plan: Plan) -> TargetsCost:
    """All of it for one number of targets."""
    interval = INTERVAL if targets < MANY else LONG_INTERVAL
    projects = [f"{number:032x}" for number in range(1, targets + 1)]
    flags = [f"--rate={PER_MINUTE}", f"--history={HISTORY}", "--seed=targets", "--no-auth"]
    flags += ['--world={"rhythm": 0}', *(f"--project={project}" for project in projects)]
    with simulator(folder, *flags, module="benchmarks.simulator") as url:
        config = configured(folder, url, projects, interval, plan.keys)
        exporter = Exporter(config, folder)
        try:
            cold = seconds_to_ready(exporter)
            wait_for("all first polls", lambda: polls_of(exporter) >= targets, seconds=10.0 * interval)
            scrapes(exporter, plan.warm_up)
            pid, before = pid_of(exporter), (polls_of(exporter), cpu_seconds(pid_of(exporter)))
            begun = time.monotonic()
            times = scrapes(exporter, plan.measured)
            polls, cpu = polls_of(exporter) - before[0], cpu_seconds(pid) - before[1]
            percent = 100 * cpu / (time.monotonic() - begun)
            rss, private = resident(pid)[0], private_mib(pid)
            a_scrape = cpu_of_a_scrape(exporter)
            with contextlib.closing(Scraper(exporter.port, compressed=True)) as scraper:
                body = scraper.scrape()
            starts = []
            for _ in range(STARTS):
                exporter.stop()
                starts.append(seconds_to_ready(exporter))
        finally:
            exporter.kill()
        findings = probed(config, folder, plan)
    busy = sum(findings.parts.values()) or 1
    return TargetsCost(
        targets=targets,
        interval=interval,
        keys=plan.keys,
        series=sum(not line.startswith(b"#") for line in gzip.decompress(body).splitlines()),
        body_mib=len(body) / 2**20,
        cpu_percent=percent,
        polls=polls,
        cpu_a_poll_ms=1000 * (cpu - len(times) * a_scrape) / max(1, polls),
        cpu_a_scrape_ms=1000 * a_scrape,
        rss_mib=rss,
        private_mib=private,
        cold_start_s=cold,
        stored_start_s=statistics.median(starts),
        scrape_p50_ms=quantile(times, 0.5),
        scrape_p99_ms=quantile(times, 0.99),
        held_up_ms=findings.late_longest,
        busy_ms=findings.busy_longest,
        parts={part: count / busy for part, count in findings.parts.items()},
    )


def configured(folder: Path, url: str, projects: list[str], interval: int, keys: int) -> Path:
    """Targets that share so many keys, with a rate limit that does not limit."""
    target = {
        "region": "cn-north-4",
        "endpoint": url,
        "iam_endpoint": url,
        "rate_limit": 1000,
    }
    return write_config(
        folder,
        url,
        poll={"interval": f"{interval}s", "timeout": "2m", "overlap": "5m", "window": "1h"},
        targets=[
            {
                "name": f"t{number:04}",
                "project_id": project,
                "auth": {"aksk": {"access_key": f"{ACCESS_KEY}{number % keys}", "secret_key": SECRET_KEY}},
                **target,
            }
            for number, project in enumerate(projects)
        ],
    )


def seconds_to_ready(exporter: Exporter) -> float:
    """Start it, and wait until ``/-/ready`` says so."""
    begun = time.monotonic()
    exporter.start()
    while get(f"{exporter.url}/-/ready") is None:
        if time.monotonic() - begun > 120:
            raise SystemExit("the exporter is not ready after two minutes")
        time.sleep(0.005)
    return time.monotonic() - begun


def polls_of(exporter: Exporter) -> int:
    """All that ended since the store began."""
    text = get(f"{exporter.url}/metrics?name[]=metastudio_exporter_polls_total", timeout=30) or ""
    return int(sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if not line.startswith("#")))


def scrapes(exporter: Exporter, seconds: float) -> list[float]:
    """One every ``SCRAPE_EVERY`` seconds, on one connection: milliseconds of each."""
    scraper = Scraper(exporter.port, compressed=True)
    times: list[float] = []
    begun = time.monotonic()
    while (due := begun + SCRAPE_EVERY * (len(times) + 1)) <= begun + max(seconds, SCRAPE_EVERY):
        time.sleep(max(0.0, due - time.monotonic()))
        start = time.perf_counter()
        scraper.scrape()
        times.append(1000 * (time.perf_counter() - start))
    scraper.close()
    return times


def cpu_of_a_scrape(exporter: Exporter) -> float:
    """Seconds, at the least of three rounds: polls go on meanwhile."""
    pid, rounds = pid_of(exporter), []
    scraper = Scraper(exporter.port, compressed=True)
    for _ in range(3):
        before = cpu_seconds(pid)
        for _ in range(UNCHANGED):
            scraper.scrape()
        rounds.append((cpu_seconds(pid) - before) / UNCHANGED)
    scraper.close()
    return min(rounds)


def cpu_seconds(pid: int) -> float:
    """What ``/proc/PID/stat`` counts in hundredths, in nanoseconds: the CPU clock of another process."""
    return time.clock_gettime(~pid << 3 | 2)


def private_mib(pid: int) -> float:
    """What no other process shares with it."""
    lines = re.findall(r"Private_(?:Clean|Dirty):\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())
    return sum(map(int, lines)) / 1024


def probed(config: Path, folder: Path, plan: Plan) -> LoopProfile:
    """The event loop is watched first, and then samples are taken: the one would disturb the other."""
    results = folder / "probe.json"
    os.environ[PROBE_FILE] = str(results)
    exporter = Exporter(config, folder, module="benchmarks.targets.probe")
    try:
        seconds_to_ready(exporter)
        scrapes(exporter, plan.warm_up)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            send(exporter, number, results)
            scrapes(exporter, plan.probed)
            found = send(exporter, number, results)
        return found
    finally:
        exporter.kill()


def send(exporter: Exporter, number: signal.Signals, results: Path) -> LoopProfile:
    """Send a signal to the probe; returns what it wrote when it had heard it."""

    def written() -> LoopProfile:
        return (
            msgspec.json.decode(results.read_bytes(), type=LoopProfile) if results.exists() else LoopProfile()
        )

    before = written().signals
    os.kill(pid_of(exporter), number)
    return wait_for("the probe", lambda: found if (found := written()).signals > before else None)


def compile_modules(folder: Path) -> None:
    """As an installation does, so that no start compiles."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)  # noqa: S603 - our own words


HEADER: Final = (
    "| targets, interval | CPU of a core | CPU a poll | times the first, the one before | RSS (private) |"
    " start: cold, stored | scrape: p50, p99 | loop held up (CPU) | series | body |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def ratio(result: TargetsCost, other: TargetsCost) -> str:
    """What a poll costs, against that of another number of targets."""
    return f"{result.cpu_a_poll_ms / other.cpu_a_poll_ms:.2f}" if other.cpu_a_poll_ms > 0 else "-"


def row(results: list[TargetsCost]) -> str:
    """The last line of the table; a single target bears alone what an idle process costs, 20 share it."""
    first, before, result = results[0], results[-2:][0], results[-1]
    keys = f", {result.keys} keys" if result.keys > 1 else ""
    cells = (
        f"{result.targets:,}, {result.interval} s{keys}",
        f"{result.cpu_percent:.1f} %",
        f"{result.cpu_a_poll_ms:.1f} ms",
        f"{ratio(result, first)}, {ratio(result, before)}",
        f"{result.rss_mib:.0f} ({result.private_mib:.0f}) MiB",
        f"{result.cold_start_s:.2f}, {result.stored_start_s:.2f} s",
        f"{result.scrape_p50_ms:.1f}, {result.scrape_p99_ms:.0f} ms",
        f"{result.held_up_ms:.0f} ({result.busy_ms:.0f}) ms",
        f"{result.series:,}",
        f"{result.body_mib:.2f} MiB",
    )
    return f"| {' | '.join(cells)} |"


def polls_due(result: TargetsCost) -> float:
    """Polls that should have ended while it was measured."""
    return result.targets * PLAN.measured / result.interval


def profile(results: list[TargetsCost]) -> str:
    """Shares by package, largest first by the last result."""
    last = results[-1].parts
    names = sorted(
        {name for result in results for name in result.parts}, key=lambda name: -last.get(name, 0.0)
    )
    lines = [
        f"| of the CPU | {' | '.join(f'{result.targets:,}' for result in results)} |",
        f"| --- |{' ---: |' * len(results)}",
    ]
    for name in names:
        shares = " | ".join(f"{100 * result.parts.get(name, 0.0):.0f} %" for result in results)
        lines.append(f"| {name} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(prog="python -m benchmarks.targets")
    flags.add_argument("--targets", default=",".join(map(str, SIZES)), help="numbers of targets")
    flags.add_argument("--keys", type=int, default=PLAN.keys, help="that all targets share (default: 1)")
    arguments = flags.parse_args()
    plan = msgspec.structs.replace(PLAN, keys=arguments.keys)
    results: list[TargetsCost] = []
    with tempfile.TemporaryDirectory() as compiled:
        compile_modules(Path(compiled))
        print(f"load of the machine before: {os.getloadavg()[0]:.1f}\n\n{HEADER}", flush=True)
        for targets in map(int, arguments.targets.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measure(targets, Path(folder), plan))
            print(row(results), flush=True)
    for result in results:
        if result.polls < 0.9 * (due := polls_due(result)):
            print(f"\n{result.targets:,}: {result.polls} of {due:.0f} polls ended: this machine is too slow")
    print(f"\n{profile(results)}\n\n{msgspec.json.encode(results).decode()}")


if __name__ == "__main__":
    main()
