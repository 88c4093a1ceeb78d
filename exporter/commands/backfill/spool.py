"""Keeps increments on disk, one file for each series, until all is read: memory stays small.

A folder beside the output. What is in it counts as far as ``progress.json`` says: a run that was stopped goes
on from there, if it was for the same stretch and settings.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from exporter.commands.backfill.increments import SeriesKey
from exporter.commands.past import Past
from exporter.errors import ExporterError
from exporter.process import reason
from exporter.units import MINUTE

_PROGRESS: Final = "progress.json"
_BUFFERED: Final = 200_000
"""Increments in memory."""
_GOES_ON: Final = 24 * 60 * MINUTE
"""How much later than an unfinished run a run may begin that goes on with it."""


class Progress(msgspec.Struct):
    """What is in the folder."""

    purpose: str
    """Stretch and settings that it was made for."""
    past: Past
    reached: int
    """Everything created before is in it; milliseconds."""
    jobs: int = 0
    left_out: int = 0
    series: list[tuple[SeriesKey, int]] = msgspec.field(default_factory=list)
    """Each with the size of its file."""


class Spool:
    """Raises ExporterError when the disk refuses."""

    def __init__(self, folder: Path, purpose: str, past: Past) -> None:
        """``past``: of a run that goes on, that of the first one is taken, where they begin within a day.

        So ``--since 7d`` may go on, although it means another time by then.
        """
        self._folder = folder
        self._buffer: dict[SeriesKey, Counter[int]] = defaultdict(Counter)
        self._buffered = 0
        self.progress = Progress(purpose, past, past.since)
        try:
            found = self._found(purpose, past)
            if found is None:
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            else:
                self.progress = found
        except OSError as error:
            raise self._failed(error) from error
        self.saved_until = self.progress.reached
        """As ``progress.reached``, of what is on disk."""
        self._places = {key: place for place, (key, _) in enumerate(self.progress.series)}

    def _found(self, purpose: str, past: Past) -> Progress | None:
        try:
            found = msgspec.json.decode((self._folder / _PROGRESS).read_bytes(), type=Progress)
            if found.purpose != purpose or not 0 <= past.since - found.past.since <= _GOES_ON:
                return None
            for place, (_, size) in enumerate(found.series):
                with self._file(place).open("r+b") as file:
                    if file.seek(0, os.SEEK_END) < size:
                        return None  # power failed before it was on disk
                    file.truncate(size)  # what a killed run wrote after its last progress
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return found

    def add(self, key: SeriesKey, at: int, amount: int) -> None:
        """``at``: the number of the step that shows it first."""
        self._buffer[key][at] += amount
        self._buffered += 1

    def reached(self, until: int) -> None:
        """Everything created before ``until`` was added."""
        self.progress.reached = until
        if self._buffered > _BUFFERED:
            self.save()

    def save(self) -> None:
        """Write what is in memory, such that a later run may go on. Once it has failed, not again."""
        try:
            for key, steps in self._buffer.items():
                if key not in self._places:
                    self._places[key] = len(self.progress.series)
                    self.progress.series.append((key, 0))
                place = self._places[key]
                with self._file(place).open("ab") as file:
                    file.seek(self.progress.series[place][1])
                    file.truncate()  # a killed run may have begun it
                    file.writelines(b"%d %d\n" % step for step in sorted(steps.items()))
                    self.progress.series[place] = key, file.tell()
            self._buffer.clear()
            self._buffered = 0
            half = self._folder / f"{_PROGRESS}.part"
            half.write_bytes(msgspec.json.encode(self.progress))
            half.replace(self._folder / _PROGRESS)
            self.saved_until = self.progress.reached
        except OSError as error:
            raise self._failed(error) from error

    def series(self) -> list[SeriesKey]:
        return list(self._places)

    def steps(self, key: SeriesKey) -> Iterator[tuple[int, int]]:
        """Steps, ascending, with what is added in them; after ``save``."""
        with self._file(self._places[key]).open("rb") as file:
            for line in file:
                step, amount = line.split()
                yield int(step), int(amount)

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, place: int) -> Path:
        return self._folder / f"{place}.steps"

    def _failed(self, error: OSError) -> ExporterError:
        return ExporterError(f"cannot write {os.fspath(self._folder)}: {reason(error)}")
