"""Latency of scrapes while one poll reads 1,000 pages: python -m benchmarks.scrape.poll.

The real exporter and the simulator as processes. The books begin; then the exporter is away for as long as
100,000 jobs take, and catches up in one poll, with a rate limit that does not limit. Meanwhile it is scraped
up to forty times a second, some 450 times as often as by a Prometheus with its usual interval.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.scrape.load import Scraper, quantile
from benchmarks.scrape.servers import ROOT
from testkit.processes import Exporter, get, simulator, total, wait_for, write_config

PAGES: Final = 1_000
JOBS_A_MINUTE: Final = 700.0
AWAY_SECONDS: Final = 3 * 3600
PAUSE: Final = 0.025
GOAL_MS: Final = 20.0
PATIENCE: Final = 120.0
PAGE_COUNT: Final = re.compile(rb'metastudio_api_requests_total\{code="200",operation="list_jobs".*\} (\S+)')
POLL_COUNT: Final = re.compile(rb"metastudio_exporter_polls_total\{.*\} (\S+)")


class Result(msgspec.Struct, frozen=True):
    """Milliseconds, pages and scrapes within one poll."""

    pages: int
    seconds: float
    scrapes: int
    p50: float
    p99: float
    slowest: float
    quiet_p99: float
    """Of the same scraper right afterwards, between polls: what the machine is good for at the moment."""


def world(now: float, history: float) -> list[str]:
    """The same jobs at any time: same seed."""
    rate = [f"--rate={JOBS_A_MINUTE}", f"--epoch={now}", f"--history={history}"]
    return [*rate, "--seed=bench", '--world={"rhythm": 0}', "--no-auth"]


def configure(folder: Path, endpoint: str) -> Path:
    poll = {"interval": "15s", "timeout": "2m", "overlap": "5m", "window": "1h", "max_catch_up": "24h"}
    return write_config(folder, endpoint, poll=poll, target={"rate_limit": 1000})


def counted(text: bytes, pattern: re.Pattern[bytes]) -> float:
    return sum(map(float, pattern.findall(text)))


def run(folder: Path) -> Result:
    """Begin, be away, catch up; and measure that."""
    now = time.time() // 60 * 60
    with simulator(folder, *world(now - AWAY_SECONDS, 60), module="benchmarks.simulator") as url:
        exporter = Exporter(configure(folder, url), folder)
        exporter.start()
        wait_for("the first poll", lambda: polled(exporter))
        exporter.stop()
    with simulator(folder, *world(now, AWAY_SECONDS + 900), module="benchmarks.simulator") as url:
        exporter = Exporter(configure(folder, url), folder)
        exporter.start()
        try:
            wait_for("the books", lambda: get(f"{exporter.url}/-/ready"))
            return watch(exporter.port)
        finally:
            exporter.stop()


def polled(exporter: Exporter) -> bool:
    samples = exporter.samples()
    return samples is not None and total(samples, "metastudio_exporter_polls_total", outcome="complete") >= 1


def watch(port: int) -> Result:
    """Scrape until this poll is over."""
    scraper = Scraper(port, compressed=True)
    text = zlib.decompress(scraper.scrape(), 31)
    polls, begun = counted(text, POLL_COUNT), time.monotonic()
    times: list[float] = []
    while counted(text, POLL_COUNT) == polls and time.monotonic() - begun < PATIENCE:
        for _ in range(10):
            spent, compressed = timed(scraper)
            times.append(spent)
        text = zlib.decompress(compressed, 31)
    seconds, pages = time.monotonic() - begun, int(counted(text, PAGE_COUNT))
    quiet = ten_seconds(scraper)
    scraper.close()
    p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
    return Result(pages, seconds, len(times), p50, p99, max(times), quantile(quiet, 0.99))


def ten_seconds(scraper: Scraper) -> list[float]:
    """As many scrapes as before in that time."""
    return [timed(scraper)[0] for _ in range(400)]


def timed(scraper: Scraper) -> tuple[float, bytes]:
    """Milliseconds, and the body; with a pause afterwards."""
    start = time.perf_counter()
    compressed = scraper.scrape()
    spent = 1000 * (time.perf_counter() - start)
    time.sleep(PAUSE)
    return spent, compressed


def main() -> None:
    """Print, write JSON, and say whether the goal is met."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Path(folder))
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "scrapes-during-poll.json").write_bytes(msgspec.json.encode(result))
    print(
        f"one poll of {result.pages} pages in {result.seconds:.1f} s, {result.scrapes} scrapes meanwhile: "
        f"p50 {result.p50:.1f} ms, p99 {result.p99:.1f} ms, slowest {result.slowest:.1f} ms "
        f"(p99 without a poll {result.quiet_p99:.1f} ms); "
        f"goal p99 {GOAL_MS:.0f} ms: {'met' if result.p99 <= GOAL_MS else 'NOT met'}"
    )
    if result.pages < PAGES:
        sys.exit(f"that poll had fewer than {PAGES} pages")


if __name__ == "__main__":
    main()
