"""``python -m benchmarks.targets.probe``: the exporter with a look inside; its flags are the exporter's.

SIGUSR1 begins to watch the event loop, SIGUSR2 to take a sample of it every few milliseconds of CPU; the same
signal again ends that. Both results go, as JSON, to the file that ``PROBE_FILE`` names. Until a signal comes,
this is the exporter as it is.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec

from exporter.__main__ import entry
from exporter.app import App

PROBE_FILE: Final = "PROBE_FILE"
TICK: Final = 0.005
"""Seconds between two beats of the event loop."""
SAMPLE: Final = 0.002
"""Seconds of CPU between two samples."""
EXPORTER: Final = f"{os.sep}exporter{os.sep}"
WAITS: Final = "select"
"""The function in which the event loop does nothing."""
OTHER: Final = "asyncio and other libraries"


class LoopProfile(msgspec.Struct):
    """What the file holds."""

    beats: int = 0
    late_longest: float = 0.0
    """Milliseconds that a beat of the event loop came late at most, for whatever reason."""
    late_p99: float = 0.0
    busy_longest: float = 0.0
    """Milliseconds of CPU that the event loop's thread used at a stretch, at most."""
    signals: int = 0
    """That were heard so far."""
    parts: dict[str, float] = {}
    """Milliseconds of CPU: of the event loop by package of the exporter, of other threads by their names."""


class LoopProbe:
    """Lives in the exporter's process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._findings = LoopProfile()
        self._beating: asyncio.Task[None] | None = None
        self._late: list[float] = []
        self._samples: Counter[str] = Counter()
        self._cpu: dict[str, float] = {}
        """Of each thread when samples were begun, by its name."""

    def watch(self) -> None:
        """Begin to watch the event loop, or end it."""
        if self._beating is None:
            self._beating = asyncio.get_running_loop().create_task(self._beat())
            self._write()
            return
        self._beating.cancel()
        late = sorted(self._late) or [0.0]
        self._findings.beats = len(self._late)
        self._findings.late_longest = late[-1]
        self._findings.late_p99 = late[int(0.99 * len(late))]
        self._write()

    async def _beat(self) -> None:
        cpu = time.thread_time()
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            now, used = time.monotonic(), time.thread_time()
            self._late.append(1000 * (now - due))
            self._findings.busy_longest = max(self._findings.busy_longest, 1000 * (used - cpu))
            cpu = used

    def sample(self) -> None:
        """Begin to take samples, or end it. Other threads' CPU is known exactly, of the loop's its shares."""
        if not self._cpu:
            self._cpu = cpu_by_thread()
            signal.signal(signal.SIGPROF, lambda number, frame: self._samples.update([part_of(frame)]))
            signal.setitimer(signal.ITIMER_PROF, SAMPLE, SAMPLE)
            self._write()
            return
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        used = {name: cpu - self._cpu.get(name, 0.0) for name, cpu in cpu_by_thread().items()}
        loop = used.pop(threading.main_thread().name)
        samples = Counter({part: count for part, count in self._samples.items() if part})
        shares = {part: loop * count / samples.total() for part, count in samples.items()}
        self._findings.parts = shares | {f"thread: {name}": cpu for name, cpu in used.items()}
        self._write()

    def _write(self) -> None:
        self._findings.signals += 1
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(self._findings))
        fresh.replace(self._path)


def cpu_by_thread() -> dict[str, float]:
    """Milliseconds that each living thread used, by its name without a number."""
    used: dict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            used[thread.name.rstrip("_-0123456789")] += 1000 * time.clock_gettime(clock)
    return used


def part_of(frame: FrameType | None) -> str:
    """The innermost package of the exporter that the frame is in or was called by; empty while it waits."""
    if frame is None or frame.f_code.co_name == WAITS:
        return ""
    return next(_packages(frame), OTHER)


def _packages(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        before, found, inside = frame.f_code.co_filename.rpartition(EXPORTER)
        if found and "site-packages" not in before:
            yield inside.partition(os.sep)[0].removesuffix(".py")
        frame = frame.f_back


def main() -> None:
    probe = LoopProbe(Path(os.environ[PROBE_FILE]))
    run = App.run

    async def probed(app: App, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, probe.watch)
        loop.add_signal_handler(signal.SIGUSR2, probe.sample)
        await run(app, stop)

    App.run = probed  # type: ignore[method-assign,assignment]  # the program itself stays as it is
    entry()


if __name__ == "__main__":
    main()
