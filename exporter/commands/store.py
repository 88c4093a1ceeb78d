"""``store copy``: the books of one store into another one, such as those of a SQLite file into PostgreSQL.

Knows its flags and messages; must not know how a store is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, TextIO

from exporter import log
from exporter.commands import console
from exporter.config import StorageConfig, ValueRefusedError, store_url
from exporter.errors import ExporterError
from exporter.runtime import source_rows, target_rows
from exporter.store import copy_rows


class CopyFlags(NamedTuple):
    """Those of ``store copy``."""

    source: str
    target: str
    password_file: Path | None = None


def copy_store(flags: CopyFlags, *, out: TextIO, err: TextIO, redactor: log.Redactor) -> int:
    """0 when the target holds every row of the source. Raises ExporterError; then nothing was copied."""
    source = _storage("FROM", flags.source, flags.password_file)
    target = _storage("TO", flags.target, flags.password_file)
    with (
        target_rows(target, redactor) as written,
        source_rows(source, redactor) as read,
    ):  # the source ends before the commit
        total = read.count()
        if total == 0:
            raise ExporterError(f"{read.address}: holds no books: there is nothing to copy")
        with console.bar(err, 2 * total, "copying, comparing") as advance:
            copy_rows(read, written, advance)
    url = f"sqlite:///{written.address}" if target.in_file else target.url
    print(
        f"copied {total:,} rows from {read.address} to {written.address}, and compared them: all are equal.\n"
        f"Next: set storage.url to {url} and start the exporter; never start one on the former store again:"
        " it would count the same jobs once more.",
        file=out,
    )
    return 0


def _storage(name: str, url: str, password: Path | None) -> StorageConfig:
    try:
        url = store_url(url)
    except ValueRefusedError as refused:
        raise ExporterError(f"{name} {refused}".replace("storage.password_file", "--password-file")) from None
    storage = StorageConfig(url=url)
    return storage if storage.in_file or password is None else StorageConfig(url=url, password=password)
