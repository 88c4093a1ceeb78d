"""CPU of one page of 100 records, from the bytes of an answer to committed books; the fetch is left out.

    python -m benchmarks.page_cost

Every page is new: 100 jobs created in 9 s, all open at their first sighting and finished at the second, 27 s
later; they are forgotten once they are settled. So each job is written twice and deleted once, as in life,
and ids are as scattered as in life. The store is the real one, on the disk of the working directory's
temporary folder; its waiting for the disk costs no CPU and is shown apart.
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

import msgspec

from benchmarks.house import BenchHouse
from exporter.cloud.records import Decoder
from exporter.ledger.facts import Sighting
from exporter.ledger.model import Page
from exporter.ledger.plan import Window
from exporter.reader import SeenPage, WindowResult
from exporter.simulator.world import World
from exporter.store.sqlite import SqliteStore

START = 1_750_000_020
PAGES = 400
PAGE_SECONDS = 9
AGAIN = 3
"""Pages from a job's first sighting to its second."""
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


def bodies(finished: bool) -> list[bytes]:
    """Answers with the fields that the service sends, links included."""
    link = "https://obs.example.com/bucket/audio-{}.wav?AccessKeyId=x&Expires=1&Signature=abc"
    pages = []
    chance = random.Random(7)  # noqa: S311 - the same ids in every run
    for page in range(PAGES):
        records = [
            {
                "job_id": str(uuid.UUID(int=chance.getrandbits(128), version=4)),
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


class Bench:
    def __init__(self, folder: Path) -> None:
        world = World(0, start=float(START), rate=0.0)
        self.house = BenchHouse(world, store=SqliteStore(folder / "books.db"))
        self.booking = self.house.poller._booking  # what a poll works with
        self.decoder = Decoder("UTC")
        self.parts = {name: Part() for name in ("decode", "ledger", "changes", "store", "after")}
        self.now = START * SECOND
        asyncio.run(self.house.books.load(0))
        self.house.books.ledger.start(self.now)
        self._patch_commit()

    def _patch_commit(self) -> None:
        """Time the store apart from what surrounds it."""
        store, parts = self.house.books._store, self.parts
        commit = store.commit

        def timed(*arguments: object) -> None:
            with parts["store"]:
                commit(*arguments)  # type: ignore[arg-type]  # handed through as they come

        store.commit = timed  # type: ignore[method-assign,assignment]  # a benchmark's stopwatch

    def page(self, body: bytes, number: int) -> None:
        since = (START + number * PAGE_SECONDS) * SECOND
        window = Window(since, since + PAGE_SECONDS * SECOND)
        with self.parts["decode"]:
            page = self.decoder.decode(body)
        with self.parts["ledger"]:
            asyncio_run(self.booking.book(self._result(page, window)))
        with self.parts["changes"]:
            asyncio_run(self.house.books.commit(self.now))

    def _result(self, page: Page, window: Window) -> WindowResult:
        sighting = Sighting(self.now - SECOND, self.now, *window)
        return WindowResult(window, [SeenPage(page.records, sighting)], complete=True, listing=page.records)


def asyncio_run(work: object) -> None:
    """Drive a coroutine that never waits (its executor is inline)."""
    _loop.run_until_complete(work)  # type: ignore[arg-type]  # a coroutine


_loop = asyncio.new_event_loop()


def measure(folder: Path) -> dict[str, float]:
    """Milliseconds a page by part."""
    bench = Bench(folder)
    first, second = bodies(finished=False), bodies(finished=True)
    for number in range(PAGES + AGAIN):
        bench.now = (START + (number + 1) * PAGE_SECONDS) * SECOND
        if number < PAGES:
            bench.page(first[number], number)
        if number >= AGAIN:
            bench.page(second[number - AGAIN], number - AGAIN)
        if number % 20 == 19:
            with bench.parts["after"]:
                ledger = bench.house.books.ledger
                ledger.settle(bench.now - ledger.rules.overlap, bench.now)
    parts = bench.parts
    scale = 1000 / (2 * PAGES)
    inner = parts["changes"].cpu - parts["store"].cpu
    total = parts["decode"].cpu + parts["ledger"].cpu + parts["changes"].cpu + parts["after"].cpu
    return {
        "decode": parts["decode"].cpu * scale,
        "ledger": parts["ledger"].cpu * scale,
        "changes and event loop": inner * scale,
        "sqlite": parts["store"].cpu * scale,
        "settle and forget": parts["after"].cpu * scale,
        "total": total * scale,
        "waiting for the disk": (parts["store"].wall - parts["store"].cpu) * scale,
    }


def main(show: Callable[[str], None] = print) -> None:
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    for name, value in result.items():
        show(f"{name:24} {value:6.3f} ms a page")
    show(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
