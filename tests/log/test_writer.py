"""Log lines on their way to a reader that may be slow."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import Iterator

import pytest

from exporter.background import SingleFlight
from exporter.log.writer import LineWriter, drain, dropped_lines

LINE = "x" * 1000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading and its writing end; it holds one page."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    for end in (read, write):
        os.close(end)


def logger(writer: logging.Handler) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(writer)
    return logger


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "non-blocking"])
def test_what_does_not_fit_is_dropped_and_counted(pipe: tuple[int, int], blocking: bool) -> None:
    """Whoever logs goes on; what was taken arrives whole and in order once somebody reads."""
    read, write = pipe
    os.set_blocking(write, blocking)
    log = logger(writer := LineWriter(write, limit=20_000))
    log.warning("y" * 5000)  # fills the pipe, however fast the thread is
    for number in range(100):
        log.warning("%d %s", number, LINE)
    assert not writer.drain(0.01)
    lost = dropped_lines(log)
    assert 70 < lost < 90
    with os.fdopen(os.dup(read), encoding="utf-8") as reader:
        assert reader.readline() == "y" * 5000 + "\n"
        lines = [reader.readline() for _ in range(100 - lost)]
    assert lines == [f"{number} {LINE}\n" for number in range(100 - lost)]
    assert writer.drain(5.0)
    log.warning("again")
    assert os.read(read, 100) == b"again\n"
    assert dropped_lines(log) == lost


def test_one_long_line_is_written_however_long(pipe: tuple[int, int]) -> None:
    """The bound is on what waits behind others."""
    read, write = pipe
    log = logger(LineWriter(write, limit=100))
    log.warning("y" * 3000)
    drain(5.0, log)
    assert os.read(read, 4096) == b"y" * 3000 + b"\n"


def test_lines_that_cannot_be_written_are_counted() -> None:
    """A full disk, or a reader that has gone."""
    read, write = os.pipe()
    os.close(read)
    log = logger(writer := LineWriter(write))
    log.warning("a")
    log.warning("b")
    assert writer.drain(5.0)
    assert dropped_lines(log) == 2
    os.close(write)


def test_without_a_thread_lines_are_written_at_once(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start where no thread may be had still says why."""
    read, write = pipe

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    logger(LineWriter(write)).warning("why")
    assert os.read(read, 100) == b"why\n"


def test_work_that_hangs_has_one_thread() -> None:
    """A file on a disk that hangs is asked for at every poll."""
    go_on, begun = threading.Event(), []

    def work() -> int:
        begun.append(1)
        go_on.wait(10)
        return 7

    async def ask() -> int:
        once = SingleFlight[int]("work")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await once.run(work, seconds=0.01)
        assert len(begun) == 1
        go_on.set()
        return await once.run(work, seconds=10)

    assert asyncio.run(ask()) == 7
