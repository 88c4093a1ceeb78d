"""CPU of one page of 100 records, from the bytes of an answer to committed books; the fetch is left out.

    python -m benchmarks.page_cost

Every page is new: 100 jobs created in 9 s, all open at their first sighting and finished at the second, 27 s
later; they are forgotten once they are settled. So each job is written twice and deleted once, as in life.
The costliest case first: a commit for each page, with ids as scattered as those of the service, so that
hardly two rows lie on one page of the store. Windows of several pages, as in catch-up, share a commit. The
store is the real one, on the disk of the working directory's temporary folder; its waiting for the disk costs
no CPU and is shown apart.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from exporter.cloud.records import Decoder
from exporter.cloud.redact import MessageRedactor
from exporter.ledger.record import Page
from exporter.ledger.sighting import Sighting
from exporter.polling.planner import Window
from exporter.polling.poll_run import PollRun
from exporter.polling.windows import SeenPage, WindowResult
from exporter.simulator.world import World
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.world import FakeClock, TargetHarness, WorldSource, ledger_settings, poll_settings

START = 1_750_000_020
REDACTOR = MessageRedactor()
PAGES = 396
PAGE_SECONDS = 9
AGAIN = 27
"""Seconds from a job's first sighting to its second."""
SETTLE_SECONDS = 180
SECOND = 1000


class Part:
    """CPU and wall time of one part of the work, summed."""

    def __init__(self) -> None:
        self.cpu = self.wall = 0.0

    def __enter__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.cpu += time.process_time() - self._cpu
        self.wall += time.perf_counter() - self._wall


def bodies(*, finished: bool, scattered: bool) -> list[bytes]:
    """Answers with the fields that the service sends, links included."""
    link = "https://obs.example.com/bucket/audio-{}.wav?AccessKeyId=x&Expires=1&Signature=abc"
    pages = []
    chance = random.Random(7)  # noqa: S311 - the same ids in every run
    for page in range(PAGES):
        records = [
            {
                "job_id": str(uuid.UUID(int=chance.getrandbits(128) if scattered else 100 * page + number)),
                "websocket_job_id": None,
                "asset_id": "0123456789abcdef0123456789abcdef",
                "tts_service_enum": ("TTS_LLM", "TTS_LAB", "GPU_CLONE")[number % 3],
                "text_length": 20 + number * 7,
                "create_time": time.strftime(
                    "%Y-%m-%dT%H:%M:%SZ", time.gmtime(START + (100 * page + number) * PAGE_SECONDS // 100)
                ),
                "audio_format": "WAV",
                "need_timestamp": False,
                "gen_srt": False,
                "job_type": ("ASYNC_JOB", "WEBSOCKET")[number % 2],
                "job_state": ("FAILED" if number % 30 == 0 else "SUCCEED") if finished else "PROCESSING",
                "fail_msg": "text is invalid" if finished and number % 30 == 0 else None,
                "files": [{"audio_file_url": link.format(number)}],
            }
            for number in range(100)
        ]
        pages.append(json.dumps({"count": 100, "data": records}, ensure_ascii=False).encode())
    return pages


class TimedStore(SqliteStore):
    """Times its commits apart from what surrounds them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.time = Part()

    def commit(self, target: str, scope: str, commit: Commit) -> None:
        with self.time:
            super().commit(target, scope, commit)


class Bench:
    def __init__(self, folder: Path) -> None:
        world = World(0, start=float(START), rate=0.0)
        self.store = TimedStore(folder / "books.db")
        self.clock = FakeClock()
        self.clock.ms = START * SECOND
        source = WorldSource(world, self.clock)
        self.harness = TargetHarness(source, self.store, self.clock, poll_settings(), ledger_settings())
        self.run = PollRun(
            "t",
            clock=self.clock,
            reader=self.harness.reader,
            repository=self.harness.repository,
            monotonic=time.monotonic,
            committed=lambda: None,
        )
        self.decoder = Decoder("UTC")
        self.parts = {name: Part() for name in ("decode", "ledger", "changes", "after")}
        self.clock.known = 2  # so many answers tell the API's clock
        asyncio.run(self.harness.repository.load(0))
        self.harness.repository.ledger.start(self.now)

    @property
    def now(self) -> int:
        return self.clock.ms

    def pass_time(self, until: int) -> None:
        """The API's clock and ours move on."""
        self.clock.ms = until * SECOND

    def window(self, bodies: list[bytes], first: int) -> None:
        """One read: pages from the ``first`` on, and their commit."""
        with self.parts["decode"]:
            pages = [self.decoder.decode(body, redact=REDACTOR) for body in bodies]
        with self.parts["ledger"]:
            asyncio_run(self.run.record(self._result(pages, first)))
        with self.parts["changes"]:
            asyncio_run(self.harness.repository.commit(self.now))

    def _result(self, pages: list[Page], first: int) -> WindowResult:
        since = START + first * PAGE_SECONDS
        window = Window(since * SECOND, (since + len(pages) * PAGE_SECONDS) * SECOND)
        sighting = Sighting(self.now - SECOND, self.now, *window)
        seen = [SeenPage(page.records, page.count, sighting=sighting) for page in pages]
        listing = tuple(record for page in pages for record in page.records)
        return WindowResult(window, seen, complete=True, listing=listing)

    def result(self) -> dict[str, float]:
        """Milliseconds a page."""
        parts, scale = self.parts, 1000 / (2 * PAGES)
        cpu = {name: part.cpu * scale for name, part in parts.items()}
        store = self.store.time
        return {
            "decode": cpu["decode"],
            "ledger": cpu["ledger"],
            "changes and event loop": cpu["changes"] - store.cpu * scale,
            "sqlite": store.cpu * scale,
            "settle and forget": cpu["after"],
            "total": cpu["decode"] + cpu["ledger"] + cpu["changes"] + cpu["after"],
            "waiting for the disk": (store.wall - store.cpu) * scale,
        }

    def settle(self) -> None:
        ledger = self.harness.repository.ledger
        with self.parts["after"]:
            ledger.settle(self.now - ledger.settings.overlap, self.now)


def asyncio_run(work: object) -> None:
    """Drive a coroutine that never waits (its executor is inline)."""
    _loop.run_until_complete(work)  # type: ignore[arg-type]  # a coroutine


_loop = asyncio.new_event_loop()


def schedule(pages: int) -> list[tuple[int, bool, int]]:
    """When a window is read, whether its jobs are finished then, and its first page: each window twice."""
    ends = [(START + (first + pages) * PAGE_SECONDS, first) for first in range(0, PAGES, pages)]
    return sorted(
        [(end, False, first) for end, first in ends] + [(end + AGAIN, True, first) for end, first in ends]
    )


def measure(folder: Path, pages: int, *, scattered: bool) -> dict[str, float]:
    """Milliseconds a page by part, in windows of so many pages."""
    bench = Bench(folder)
    shown = [bodies(finished=finished, scattered=scattered) for finished in (False, True)]
    settled = START
    for at, finished, first in schedule(pages):
        bench.pass_time(at)
        bench.window(shown[finished][first : first + pages], first)
        if at - settled >= SETTLE_SECONDS:
            bench.settle()
            settled = at
    return bench.result()


CASES: Final = {
    "one page a commit": (1, True),
    "the same, ids in order": (1, False),
    "nine pages a commit": (9, True),
}
"""Pages a window, scattered ids?"""


def main(show: Callable[[str], None] = print) -> None:
    results = {}
    for name, (pages, scattered) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measure(Path(folder), pages, scattered=scattered)
    show(f"{'ms a page':24}" + "".join(f"{name:>24}" for name in results))
    for part in results["one page a commit"]:
        show(f"{part:24}" + "".join(f"{result[part]:24.3f}" for result in results.values()))
    show(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main()
