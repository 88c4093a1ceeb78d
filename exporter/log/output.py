"""What the program prints, without secrets, whoever prints it. Must not know which secrets there are."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from exporter.log.redactor import Redactor


@contextmanager
def redacted_output(redactor: Redactor) -> Iterator[None]:
    """Within this block, what is printed to standard output and standard error is redacted.

    After an exception it stays so: its traceback is printed later.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", _Redacted(sys.stdout, redactor))
    sys.stderr = cast("TextIO", _Redacted(sys.stderr, redactor))
    yield
    sys.stdout, sys.stderr = streams


class _Redacted:
    """A stream that is written by way of a redactor. A secret is in one piece: no two calls make one."""

    def __init__(self, stream: TextIO, redactor: Redactor) -> None:
        self._stream = stream
        self._redactor = redactor

    def write(self, text: str) -> int:
        self._stream.write(self._redactor.redact(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else the stream can do
        return getattr(self._stream, name)
