"""Which past jobs live counting has already: those that were open when it began (R4, docs/counting.md).

Pure. The store says how many of each label and text length ended in each minute.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.commands.verify.cells import Count, MinuteCell, cells_of
from exporter.commands.verify.id_sums import find_ids
from exporter.ledger import IDS_MASK, Record, id_number
from exporter.store import CountedPast
from exporter.units import MINUTE

_Placed = list[tuple[int, Record]]
"""Records with their places."""


def counted_live(
    records: Iterable[tuple[MinuteCell, Record]], baseline: int, counted: CountedPast
) -> set[int]:
    """The places of those records that were created before the baseline and are counted all the same, or of
    others that add the same to every series.

    ``counted`` has every minute of ``records``, and these are all that are listed there.
    """
    places: set[int] = set()
    by_cell: dict[tuple[int, MinuteCell], _Placed] = {}
    for place, (cell, record) in enumerate(records):
        if record.job_id in counted.open_jobs:
            places.add(place)
        else:
            by_cell.setdefault(((record.create_time or 0) // MINUTE, cell), []).append((place, record))
    for minute, rows in counted.minutes.items():
        for cell, count in cells_of(rows).items():
            here = by_cell.get((minute, cell), [])
            after = [record for _, record in here if (record.create_time or 0) >= baseline]
            before = [(place, record) for place, record in here if (record.create_time or 0) < baseline]
            number = min(count.jobs - len(after), len(before))
            if number > 0:
                places.update(_chosen(before, after, count, number))
    return places


def _chosen(before: _Placed, after: list[Record], count: Count, number: int) -> list[int]:
    """So many of ``before``: by text length, or by the sum of ids where a former version counted.

    Where neither says which ones, the first: their number is right.
    """
    left = dict(count.lengths)
    chosen, others = list[int](), list[int]()
    for place, record in before:
        length = -1 if record.text_length is None else record.text_length
        same = left.get(length, 0) > 0
        left[length] = left.get(length, 0) - same
        (chosen if same else others).append(place)
    if not count.lengths and count.ids is not None and number < len(before):
        own = sum(id_number(record.job_id) for record in after if record.job_id is not None)
        named = {record.job_id: place for place, record in before if record.job_id is not None}
        ids = find_ids(named, (count.ids - own) & IDS_MASK, number) or ()
        chosen = [named[name] for name in ids]
    return (chosen + others)[:number]
