"""All rows of a store, in one form for every kind of store: what ``store copy`` reads, writes and compares.

A row begins with the name of its target, whose number differs between stores; then come the columns as in
``checksums.COLUMNS``. Knows nothing of how rows are kept, nor what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from typing import Final, Protocol

from exporter.errors import StoreError
from exporter.store.loading import STEP

Row = tuple[int | str | None, ...]

TARGETS: Final = "targets"
LABEL_SETS: Final = "label_sets"
BREAKERS: Final = "breakers"
OWNED: Final = ("jobs", "totals", "minutes", LABEL_SETS)
"""Tables whose rows belong to a target."""
TABLES: Final = (TARGETS, *OWNED, BREAKERS)
"""In the order in which they can be written."""

KEYS: Final = {
    "jobs": "created, job_id",
    "totals": "name, job_type, tts_service_enum, detail",
    "minutes": "minute, job_type, tts_service_enum, state, detail",
    LABEL_SETS: "place, job_type, tts_service_enum",
}
"""By what the rows of a target are sorted."""


class StoredRows(Protocol):
    """The rows of a store that no exporter uses meanwhile, within one transaction. Raises StoreError."""

    address: str

    def count(self) -> int:
        """How many rows it holds."""

    def read(self, table: str) -> Iterator[list[Row]]:
        """Some rows at a time, sorted by target and key. A label set's last column is its position among the
        target's: 0, 1, 2 and so on.
        """

    def write(self, table: str, rows: list[Row]) -> None:
        """Add new ones, as ``read`` gives them."""

    def finish(self) -> None:
        """All is written."""


def copy_rows(source: StoredRows, destination: StoredRows, advance: Callable[[int], None]) -> None:
    """Write all rows of one to the other, which is empty; then read both and compare every value.

    ``advance`` is called with numbers of rows: each counts once when written, and once when compared. Raises
    StoreError, also where they are not equal afterwards: the caller's transaction takes all back.
    """
    for table in TABLES:
        for rows in source.read(table):
            destination.write(table, rows)
            advance(len(rows))
    destination.finish()
    for table in TABLES:
        compared = 0
        for one, other in zip_longest(_each(source, table), _each(destination, table)):
            if one != other:
                raise StoreError(
                    f"{destination.address}: what was written is not what {source.address} holds"
                    f" (table {table}): nothing was copied; please report this"
                )
            compared += 1
            if compared % STEP == 0:
                advance(STEP)
        advance(compared % STEP)


def _each(store: StoredRows, table: str) -> Iterator[Row]:
    return chain.from_iterable(store.read(table))
