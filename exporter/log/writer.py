"""Log lines on their way to a file descriptor whose reader may be slow, or may have stopped reading.

A thread writes them. When too many wait, new ones are dropped and counted: nothing waits for the reader.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from typing import Final

LIMIT: Final = 1 << 20
"""Bytes of lines that may wait."""

_STEP: Final = 1.0
"""Seconds that the thread waits for a reader before it looks again."""


class LineWriter(logging.Handler):
    """Writes the lines of a logger to a file descriptor, in order, without ever making the logger wait."""

    def __init__(self, descriptor: int, *, limit: int = LIMIT) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        """Bytes in ``_lines``, and of the line that is being written."""
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that no reader will see."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - as logging's own handlers do it: no line ends the program
            self.handleError(record)
            return
        self.put(line.encode("utf-8", "backslashreplace"))

    def put(self, line: bytes) -> None:
        """Have it written after all before it, or drop it."""
        with self._change:
            if self._waiting + len(line) > self._limit and self._waiting:
                self.dropped += 1
                return
            self._lines.append(line)
            self._waiting += len(line)
            if self._thread is None:
                self._start()
            self._change.notify_all()

    def drain(self, seconds: float) -> bool:
        """Wait until everything is written, but not longer. Says whether it is."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting, seconds)

    def _start(self) -> None:
        """Where no thread can be had, who logs writes."""
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            while self._lines:
                self._write_next()
        else:
            self._thread = thread

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: bool(self._lines))
            self._write_next()

    def _write_next(self) -> None:
        line = self._lines[0]
        written = self._write(line)
        with self._change:
            self._lines.popleft()
            self._waiting -= len(line)
            self.dropped += not written
            self._change.notify_all()

    def _write(self, line: bytes) -> bool:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody made the descriptor non-blocking
                with contextlib.suppress(OSError, ValueError):
                    select.select((), (self._descriptor,), (), _STEP)
            except OSError:
                return False
        return True


def drain(seconds: float, root: logging.Logger | None = None) -> None:
    """Wait for the lines of all writers of a logger, together not longer than that."""
    deadline = time.monotonic() + seconds
    for handler in (root or logging.getLogger()).handlers:
        if isinstance(handler, LineWriter):
            handler.drain(max(0.0, deadline - time.monotonic()))


def dropped(root: logging.Logger | None = None) -> int:
    """Lines that the writers of a logger dropped."""
    handlers = (root or logging.getLogger()).handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, LineWriter))
