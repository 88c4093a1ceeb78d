"""Writes log lines to a file descriptor whose reader may be slow, or may have stopped reading.

A thread writes them. When too many wait, new ones are dropped and counted: the program never waits for the
reader. Knows bytes and file descriptors; must not know what a line says.
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

MAX_WAITING_BYTES: Final = 1 << 20
_RETRY_SECONDS: Final = 1.0
"""How long the thread waits at a time for a reader of a non-blocking descriptor."""


class LineWriter(logging.Handler):
    """Writes the lines of a logger to a file descriptor, in order, without ever making the logger wait."""

    def __init__(self, descriptor: int, *, limit: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        """Bytes in ``_lines``; the first of them may be being written."""
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self.dropped = 0
        """Lines that were dropped, or could not be written."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # noqa: BLE001 - like logging's own handlers: no line may end the program
            self.handleError(record)
            return
        self.put(line.encode("utf-8", "backslashreplace"))

    def put(self, line: bytes) -> None:
        """Add a line to those that wait, or drop it."""
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
        """Wait until everything is written, for so many seconds at most. Says whether it is."""
        with self._change:
            return self._change.wait_for(lambda: not self._waiting, seconds)

    def _start(self) -> None:
        """Start the thread. Where none can be started, the caller writes."""
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
            except BlockingIOError:  # another process made the descriptor non-blocking
                with contextlib.suppress(OSError, ValueError):
                    select.select((), (self._descriptor,), (), _RETRY_SECONDS)
            except OSError:
                return False
        return True


def drain(seconds: float, root: logging.Logger | None = None) -> None:
    """Wait until all writers of a logger have written everything, for so many seconds at most."""
    deadline = time.monotonic() + seconds
    for handler in (root or logging.getLogger()).handlers:
        if isinstance(handler, LineWriter):
            handler.drain(max(0.0, deadline - time.monotonic()))


def dropped_lines(root: logging.Logger | None = None) -> int:
    """How many lines the writers of a logger have dropped."""
    handlers = (root or logging.getLogger()).handlers
    return sum(handler.dropped for handler in handlers if isinstance(handler, LineWriter))
