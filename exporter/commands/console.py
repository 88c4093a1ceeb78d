"""How commands that take a while speak to people and to scripts: tables, progress, JSON, files, Ctrl-C.

Tables and JSON go to standard output; progress goes to standard error, and only where that is a terminal.
``NO_COLOR`` and a standard output that is no terminal mean: no colours. Knows rich, so it is imported by the
commands that need it alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO, TypeVar

import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from exporter.cloud import run_event_loop
from exporter.errors import ExporterError
from exporter.process import reason

T = TypeVar("T")

_FILE_WIDTH: Final = 160
"""Columns of a table that is no terminal's."""
_WIDEST: Final = 10_000


def new_console(out: TextIO) -> Console:
    """For tables and text."""
    width = None if out.isatty() else _FILE_WIDTH
    return Console(file=out, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def print_table(table: Table, to: Console) -> None:
    """A table whose words stay whole, to be copied and searched for: if need be wider than the terminal.

    One column may wrap, between words.
    """
    columns = to.width
    wide = to.options.update_width(_WIDEST)
    to.width = max(columns, Measurement.get(to, wide, table).minimum)
    to.print(table)
    to.width = columns


def counted_noun(number: int, noun: str) -> str:
    """A number and what is counted, as ``1 job`` or ``2 jobs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(value: object, out: TextIO) -> None:
    """One JSON document, readable."""
    out.write(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


@contextmanager
def progress(err: TextIO, total: float | None, what: str) -> Iterator[Callable[[str], None]]:
    """A bar with an estimate; call what it gives after each step, with the name of the next."""
    console = Console(file=err, highlight=False, emoji=False)
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not err.isatty()) as bar:
        task = bar.add_task(what, total=total)
        made = 0

        def step(name: str) -> None:
            nonlocal made
            bar.update(task, completed=made, description=f"{what}: {name}")
            made += 1

        yield step


@contextmanager
def bar(err: TextIO, total: float, what: str) -> Iterator[Callable[[float], None]]:
    """A bar with an estimate of the time that is left; call what it gives with the progress made."""
    console = Console(file=err, highlight=False, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not err.isatty()) as shown:
        task = shown.add_task(what, total=total)
        yield lambda made: shown.advance(task, made)


def run(work: Coroutine[Any, Any, T]) -> T | None:
    """What the work returns; ``None`` after Ctrl-C, once it has cleaned up behind itself."""
    try:
        return run_event_loop(work)
    except KeyboardInterrupt:
        return None


def check_folder(path: Path) -> None:
    """Raises ExporterError where a file could not be written: better before the work than after it."""
    if path.is_dir():
        raise ExporterError(f"cannot write {path}: it is a folder")
    try:
        if is_stream(path):
            return
    except OSError as error:
        raise ExporterError(f"cannot write {path}: {reason(error)}") from error
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise ExporterError(f"cannot write {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExporterError(f"cannot write {path}: no permission to write to {folder}")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete: a full disk or Ctrl-C leaves what was there before.

    A link stays, and its file is written. A FIFO or a device is written to as it is.
    Raises ExporterError when it cannot be written.
    """
    try:
        if is_stream(path):
            with path.open("ab") as file:
                yield file
            return
        target = Path(os.path.realpath(path))
        half = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with half.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            half.replace(target)
        finally:
            with suppress(OSError):
                half.unlink(missing_ok=True)
    except OSError as error:
        raise ExporterError(f"cannot write {path}: {reason(error)}") from error


def is_stream(path: Path) -> bool:
    """Whether it is written to as it is: no regular file, or a name of an open file as /dev/stdout.

    Raises OSError where that cannot be seen, as of a link that leads to itself.
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False
    return not regular or str(path).startswith(("/dev/std", "/dev/fd/", "/proc/"))
