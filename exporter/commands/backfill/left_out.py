"""Which past jobs live counting has already: those that were open when it began (R4, docs/counting.md).

Pure. The store says how many of each label ended in each minute, and the sum of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.commands.verify.cells import MinuteCell, cells_of
from exporter.commands.verify.id_sums import find_ids
from exporter.ledger import IDS_MASK, Record, id_number
from exporter.store import CountedPast
from exporter.units import MINUTE


def counted_live(
    records: Iterable[tuple[MinuteCell, Record]], baseline: int, counted: CountedPast
) -> set[int]:
    """The places of those records that were created before the baseline and are counted all the same.

    ``counted`` has every minute of ``records``, and these are all that are listed there. Where the sum of ids
    does not say which ones they are, the first so many with the same labels: their numbers are right.
    """
    places: set[int] = set()
    by_cell: dict[tuple[int, MinuteCell], list[tuple[int, Record]]] = {}
    for place, (cell, record) in enumerate(records):
        if record.job_id in counted.open_jobs:
            places.add(place)
        else:
            by_cell.setdefault(((record.create_time or 0) // MINUTE, cell), []).append((place, record))
    for minute, rows in counted.minutes.items():
        for cell, count in cells_of(rows).items():
            here = by_cell.get((minute, cell), [])
            after = [record for _, record in here if (record.create_time or 0) >= baseline]
            before = {record.job_id: place for place, record in here if (record.create_time or 0) < baseline}
            number = min(count.jobs - len(after), len(before))
            if number <= 0:
                continue
            names: tuple[str | None, ...] = tuple(before)[:number]
            if count.ids is not None and number < len(before):
                own = sum(id_number(record.job_id) for record in after if record.job_id is not None)
                wanted = (count.ids - own) & IDS_MASK
                known = [name for name in before if name is not None]
                names = find_ids(known, wanted, number) or names
            places.update(before[name] for name in names)
    return places
