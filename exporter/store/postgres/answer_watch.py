"""Cuts a connection whose server does not answer: a network may drop packets without an error.

The kernel notices that (``tcp_user_timeout``) only where nothing acknowledges them. Must not know what is
asked.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress

import psycopg
from psycopg.rows import TupleRow


class AnswerWatch:
    """While it is entered."""

    def __init__(
        self, connection: psycopg.Connection[TupleRow], answer_seconds: float, begun: float, within: float
    ) -> None:
        """Seconds: ``answer_seconds`` for each statement, ``within`` for all of them since ``begun``."""
        self._answer_seconds, self._within, self._end = answer_seconds, within, begun + within
        # A descriptor of its own: that of the connection may belong to another one by the time of the cut.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store watch", daemon=True)
        self.cut = False

    def __enter__(self) -> AnswerWatch:
        self.restart()
        try:
            self._thread.start()
        except BaseException:
            self._socket.close()
            raise
        return self

    def restart(self) -> None:
        """A new statement begins."""
        self._deadline = min(time.monotonic() + self._answer_seconds, self._end)

    def _watch(self) -> None:
        while (left := self._deadline - time.monotonic()) > 0:
            if self._ended.wait(left):
                return
        self.cut = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._ended.set()
        self._thread.join()
        self._socket.close()
        if self.cut and isinstance(error, psycopg.OperationalError):
            seconds = min(self._answer_seconds, self._within)
            raise psycopg.OperationalError(f"no answer within {seconds:.3g} s") from None
