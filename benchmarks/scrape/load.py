"""One scraper on one connection, one scrape after the other, as Prometheus does it."""

from __future__ import annotations

import http.client
import statistics
import time
from typing import Final

import msgspec

from benchmarks.scrape.servers import RunningServer

ACCEPT: Final = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
"""What Prometheus 2.42 sends."""
WARM_UP: Final = 3
LEAST: Final = 5
MOST: Final = 3_000


class Measured(msgspec.Struct, frozen=True):
    """Milliseconds."""

    scrapes: int
    bytes: int
    cpu: float
    """CPU time of the server per scrape."""
    p50: float
    p99: float


class Scraper:
    """Keeps its connection when the server does."""

    def __init__(self, port: int, *, compressed: bool, path: str = "/metrics") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._path = path
        self._headers = {"accept": ACCEPT, "accept-encoding": "gzip" if compressed else "identity"}

    def scrape(self) -> bytes:
        """The body as sent."""
        self._connection.request("GET", self._path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"scrape answered {answer.status}")
        return body

    def close(self) -> None:
        self._connection.close()


class Round(msgspec.Struct, frozen=True):
    """Some scrapes in a row: milliseconds of each, and of CPU time of the server per scrape."""

    times: list[float]
    bytes: int
    cpu: float


def one_round(server: RunningServer, *, compressed: bool, seconds: float) -> Round:
    """Scrape for that long, or ``MOST`` times."""
    scraper = Scraper(server.port, compressed=compressed)
    for _ in range(WARM_UP):
        body = scraper.scrape()
    times: list[float] = []
    cpu, begun = server.cpu(), time.perf_counter()
    while len(times) < MOST and (len(times) < LEAST or time.perf_counter() - begun < seconds):
        start = time.perf_counter()
        scraper.scrape()
        times.append(1000 * (time.perf_counter() - start))
    spent = 1000 * (server.cpu() - cpu) / len(times)
    scraper.close()
    return Round(times, len(body), spent)


def together(rounds: list[Round]) -> Measured:
    """Latencies of all rounds; CPU of the middle one, so that one disturbed round does not count."""
    times = [spent for one in rounds for spent in one.times]
    cpu = statistics.median(one.cpu for one in rounds)
    return Measured(len(times), rounds[0].bytes, cpu, quantile(times, 0.5), quantile(times, 0.99))


def quantile(values: list[float], q: float) -> float:
    """The smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]
