"""CPU of publishing, with scrapes in between: python -m benchmarks.publication.

One process, no network, no store: N targets publish in turn, as their polls would (twice each), while one
client scrapes with gzip. All in real time, because what is put off, and for how long, is what is measured.
CPU is that of the process, event loop and compressing thread together, without what it takes when nothing is
published or scraped; so other programs on the machine disturb it little.

The floor is what no order of work avoids: the lines of each target that has changed, written and compressed
once a scrape. It is measured in the same run, with the text compressed in one piece.
"""

from __future__ import annotations

import asyncio
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle, product
from typing import Final

import msgspec
from msgspec.structs import replace

from benchmarks.scrape import data
from benchmarks.scrape.load import quantile
from exporter.cloud import OPERATIONS
from exporter.exposition import ApiMetrics, Exposition, Publisher, catalog
from exporter.exposition.gzip import LEVEL
from exporter.exposition.text import Format, write_block
from exporter.ledger import Histogram, LabelSet, SeriesLabels, TargetView, totals

TARGETS: Final = (1, 20, 200)
INTERVAL: Final = 15.0
"""Seconds in which every target publishes; fewer for the smallest numbers, so that enough is measured."""
LONGEST_GAP: Final = 0.75
SCRAPE_EVERY: Final = (2.0, 15.0)
TICK: Final = 0.005
"""The event loop is watched so often, in seconds."""
ROUNDS: Final = 2
LABEL_SETS: Final = 24
SEEN: Final = 6


class PublicationCost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one number of targets and one pause between scrapes. CPU and waits are milliseconds."""

    targets: int
    series: int
    scrape_every: float
    polls: int
    cpu: float
    """Of a poll's publications, with their share of scrapes."""
    floor: float
    wait_p50: float
    wait_longest: float
    loop_longest: float
    """CPU of the event loop between two ticks."""
    text_mib: float
    gzip_mib: float


class PublicationBench:
    """N targets that publish, and what they publish."""

    def __init__(self, targets: int) -> None:
        self.size = data.Size(0, targets, LABEL_SETS, SEEN)
        self.api: ApiMetrics = data.api(self.size)
        self.exposition = Exposition(self.api, data.PROCESS, created_timestamps=False)
        self.publisher = Publisher(self.exposition)
        views = data.published(self.size)
        self.publisher.exchange([view.target for view in views], views)
        self._turns = cycle([view.target for view in views])
        self._number = 0

    def publish(self) -> None:
        """The next target has counted a few jobs: it publishes within its poll, and at the end of it."""
        self._number += 1
        name = next(self._turns)
        for seconds in (0.1, 0.3):
            self.api.target(name).request(OPERATIONS[0], "200", seconds)
        before = self.publisher.view(name)
        assert before is not None  # noqa: S101  published at the start
        counted = counted_on(before, self._number)
        self.publisher.publish(counted)
        self.publisher.publish(more(counted, totals.POLLS, {("", "", "complete"): 1}))


def counted_on(view: TargetView, number: int) -> TargetView:
    """What changes in a poll: the numbers of three label sets, and the gauges."""
    busy, gauges = view.label_sets[:3], view.gauges
    assert gauges is not None  # noqa: S101  these views have them
    assert gauges.jobs is not None  # noqa: S101  the same
    jobs = {**gauges.jobs, **{(*label_set, "SUCCEED"): number for label_set in busy}}
    view = replace(
        view,
        text_length=observed(view.text_length, busy),
        duration_upper_bound=observed(view.duration_upper_bound, busy),
        duration_lower_bound=observed(view.duration_lower_bound, busy),
        gauges=replace(gauges, jobs=jobs, counted_until=(gauges.counted_until or 0) + 15_000),
        last_complete_poll=(view.last_complete_poll or 0) + 15_000,
    )
    for name, detail in ((totals.CREATED, ""), (totals.FINISHED, "SUCCEED"), (totals.SYNTHESIZED, "")):
        view = more(view, name, {(*label_set, detail): 3 for label_set in busy})
    return view


def more(view: TargetView, name: str, counts: Mapping[SeriesLabels, int]) -> TargetView:
    before = view.by_labels(name)
    total = {**before, **{labels: before.get(labels, 0) + count for labels, count in counts.items()}}
    return replace(view, totals={**view.totals, name: total})


def observed(histograms: Mapping[LabelSet, Histogram], busy: Iterable[LabelSet]) -> dict[LabelSet, Histogram]:
    found = dict(histograms)
    for label_set in busy:
        first, *others = found[label_set].counts
        found[label_set] = replace(found[label_set], counts=(first + 1, *others))
    return found


class LoopWatch:
    """How long the event loop was busy at a stretch, in CPU time, looked at every ``TICK``."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(TICK)
            now = time.thread_time()
            self.longest, before = max(self.longest, now - before), now


async def measure(targets: int, every: float) -> PublicationCost:
    """Publish for some rounds of all targets; scrape meanwhile."""
    bench, watch, waits = PublicationBench(targets), LoopWatch(), list[float]()
    gap = min(INTERVAL / targets, LONGEST_GAP)
    polls = max(targets, round(INTERVAL / gap)) * ROUNDS

    async def scrape() -> None:
        while True:
            began = time.perf_counter()
            await bench.exposition.scrape(Format.PROMETHEUS, compressed=True)
            waits.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(every)

    async def busy(publish: Callable[[], None]) -> float:
        """Seconds of CPU of that many polls."""
        start, cpu = time.monotonic(), time.process_time()
        for number in range(1, polls + 1):
            publish()
            await asyncio.sleep(max(0.0, start + number * gap - time.monotonic()))
        return time.process_time() - cpu

    tasks = [asyncio.create_task(work) for work in (bench.exposition.run(), watch.run())]
    try:
        polls, all_polls = max(1, polls // 5), polls
        idle = await busy(lambda: None) / polls
        polls = all_polls
        tasks.append(asyncio.create_task(scrape()))
        while not waits:  # noqa: ASYNC110  the first scrape makes everything
            await asyncio.sleep(TICK)
        waits.clear()
        watch.longest = 0.0
        spent = await busy(bench.publish) / polls - idle
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    text = bench.exposition.render(Format.PROMETHEUS)
    compressed = bench.exposition.render(Format.PROMETHEUS, compressed=True)
    return PublicationCost(
        targets=targets,
        series=sum(not line.startswith(b"#") for line in text.splitlines()),
        scrape_every=every,
        polls=polls,
        cpu=1000 * spent,
        floor=1000 * (write_one(bench) + compress_all(text) / targets) * min(1.0, targets * gap / every),
        wait_p50=quantile(waits, 0.5),
        wait_longest=max(waits),
        loop_longest=1000 * watch.longest,
        text_mib=len(text) / 2**20,
        gzip_mib=len(compressed) / 2**20,
    )


def write_one(bench: PublicationBench) -> float:
    """CPU seconds of writing one target's lines, at best."""
    view, api = bench.exposition.published[0], bench.api.views()[0]

    def write() -> None:
        for metric in (*catalog.JOB_METRICS, *catalog.POLL_METRICS):
            write_block(metric, view, Format.PROMETHEUS)
        for metric_of_api in catalog.API_METRICS:
            write_block(metric_of_api, api, Format.PROMETHEUS)

    return best(write)


def compress_all(text: bytes) -> float:
    """CPU seconds of compressing all text in one piece, at best."""
    return best(lambda: zlib.compress(text, LEVEL, -zlib.MAX_WBITS))


def best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return min(times)


def main() -> None:
    results = []
    for targets, every in product(map(int, sys.argv[1:]) if sys.argv[1:] else TARGETS, SCRAPE_EVERY):
        results.append(asyncio.run(measure(targets, every)))
        print(results[-1], flush=True)
    print(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main()
