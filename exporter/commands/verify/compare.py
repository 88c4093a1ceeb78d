"""Compares what was counted of one minute with what is listed of it now, and says why the two differ.

Pure. The store keeps for each cell (``cells.py``) how many jobs ended, and the sum of their ids
(``id_number``): where that differs by few jobs, it says which ones. What that proves stands as a table in
docs/decisions/0007-sums-of-ids.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from typing import Final, NamedTuple

from exporter.commands.verify.cells import EXPIRED, Count, MinuteCell
from exporter.ledger import FAILED, FINAL_STATES, IDS_MASK, Record, id_number

NAMED: Final = 3
"""Jobs at most that a sum of ids is taken apart into."""
_SEARCHED: Final = 400
"""Listed jobs at most among which three are searched."""


class Cause(StrEnum):
    """Why a job is counted otherwise than it is listed: a closed set."""

    RULES_CHANGED = "rules_changed"
    EXPIRED_THEN_FINISHED = "expired_then_finished"
    LATE_RECORD = "late_record"
    DELETED = "deleted"
    LABEL_CHANGED = "label_changed"
    STATE_REGRESSION = "state_regression"
    LATE_TEXT_LENGTH = "late_text_length"
    UNEXPLAINED = "unexplained"


class Difference(NamedTuple):
    """Jobs that are counted otherwise than they are listed."""

    minute: int
    """Since 1970: when they were created."""
    cause: Cause
    counted: MinuteCell | None
    """``None``: not counted."""
    listed: MinuteCell | None
    """``None``: not listed any more."""
    jobs: int
    job_ids: tuple[str, ...]
    """Which; empty where that is not known."""
    among: tuple[str, ...] = ()
    """If not known: some of these."""
    note: str = ""


class MinuteComparison:
    """One minute, compared. Each step below takes away what it explains."""

    def __init__(
        self,
        minute: int,
        counted: Mapping[MinuteCell, Count],
        listed: Mapping[MinuteCell, Sequence[Record]],
        *,
        late_records: bool,
        regressions: bool = False,
        late_lengths: bool = False,
    ) -> None:
        """``late_records``: this API is known to list records later than ``poll.overlap``.

        ``regressions``: it is known to take final states back; ``late_lengths``: to list jobs without
        their text_length.
        """
        self.differences: list[Difference] = []
        self._minute = minute
        self._late_records = late_records
        self._regressions = regressions
        self._late_lengths = late_lengths
        self._ids = {record.job_id: cell for cell, found in listed.items() for record in found}
        self._counted = {cell: count.jobs for cell, count in counted.items()}
        self._sums = {cell: count.ids for cell, count in counted.items()}
        self._listed = {
            cell: [record.job_id for record in listed.get(cell, ())] for cell in sorted({*counted, *listed})
        }
        """By cell: what is listed there, and not known to be counted elsewhere or not at all."""
        self._characters = {cell: count.characters for cell, count in counted.items()}
        self._lengths = {record.job_id: record.text_length for found in listed.values() for record in found}
        self._incomparable = {cell for cell, found in listed.items() if _without_length(found)}
        """Cells where not every job that is counted there is known, with its characters."""
        if any(self._differs(cell) for cell in self._listed):
            self._swapped()
            self._numbers_alone()
            self._moved()
            self._numbers_alone()
            self._not_counted()
            self._numbers_alone()
            self._rest()
        self._compare_characters(listed)

    def _missing(self, cell: MinuteCell) -> int:
        """Jobs that are listed and not counted here, less those that are counted and not listed."""
        return len(self._listed[cell]) - self._counted.get(cell, 0)

    def _off(self, cell: MinuteCell) -> int | None:
        """The ids counted in the cell less those listed there; ``None`` where it is not known."""
        sum_of_ids = self._sums.get(cell, 0)
        if sum_of_ids is None:
            return None
        return (sum_of_ids - sum(_numbers(self._listed[cell]))) & IDS_MASK

    def _differs(self, cell: MinuteCell) -> bool:
        return bool(self._missing(cell) or self._off(cell))

    def _swapped(self) -> None:
        """As many jobs as are listed, but not the same ones."""
        for cell, ids in self._listed.items():
            off = self._off(cell)
            if self._missing(cell) or not off:
                continue
            others = {id_number(name): name for name in self._ids if name is not None and name not in ids}
            found = next(
                (
                    (name, others[number])
                    for name in ids
                    if name is not None and (number := (off + id_number(name)) & IDS_MASK) in others
                ),
                None,
            )
            if found is not None:
                self._uncount(cell, found[1])
            elif not self._regressions:
                self._not_the_same(cell)
                # The other one is not counted here: a later step finds it by the sum of ids.

    def _not_the_same(self, cell: MinuteCell) -> None:
        self._add(Cause.UNEXPLAINED, cell, cell, 1, note="as many as are listed, but not the same")
        self._sums[cell] = None

    def _uncount(self, cell: MinuteCell, job_id: str) -> None:
        """Note a job that is counted in the cell and listed in another one."""
        other = self._ids[job_id]
        self._add(self._cause_of(cell, other), cell, other, 1, (job_id,))
        self._counted[cell] -= 1
        if (characters := self._lengths[job_id]) is None:
            self._incomparable.add(cell)
        else:
            self._characters[cell] -= characters
        if (ids := self._sums.get(cell)) is not None:
            self._sums[cell] = (ids - id_number(job_id)) & IDS_MASK
        self._listed[other].remove(job_id)

    def _numbers_alone(self) -> None:
        """The ids agree and the numbers do not: no job that was deleted, late or moved does that."""
        for cell, ids in self._listed.items():
            if (missing := self._missing(cell)) and self._off(cell) == 0:
                self._add(
                    Cause.UNEXPLAINED, cell, cell, abs(missing), note="the ids agree, the number does not"
                )
                self._counted[cell] = len(ids)

    def _moved(self) -> None:
        """More are counted than listed: which of them are listed in cells where some are not counted?"""
        for cell in list(self._listed):
            more, off = -self._missing(cell), self._off(cell)
            if more <= 0 or off is None:
                continue
            pool = [
                name
                for other, names in self._listed.items()
                if self._missing(other) > 0 or self._may_hide(other, cell)
                for name in names
                if name is not None
            ]
            moved = find_some(pool, off, more)
            for job_id in moved:
                self._uncount(cell, job_id)
            if not moved and more == 1 and off:
                self._too_many(cell, more)  # listed nowhere: it must not hide one that is lost

    def _may_hide(self, listed: MinuteCell, counted: MinuteCell) -> bool:
        """Is the number right, and the ids are not: one is gone, and one that went back came for it?"""
        regression = self._cause_of(counted, listed) is Cause.STATE_REGRESSION
        return regression and not self._missing(listed) and bool(self._off(listed))

    def _not_counted(self) -> None:
        """Fewer are counted than listed: which ones are not?"""
        for cell, ids in self._listed.items():
            fewer, off = self._missing(cell), self._off(cell)
            if fewer <= 0 or off is None:
                continue
            names = [name for name in ids if name is not None]
            if self._surplus_like(cell):
                continue  # they are counted in another cell, and its sum did not say which
            for job_id in find_some(names, -off & IDS_MASK, fewer):
                ids.remove(job_id)
                self._add(self._uncounted_cause(), None, cell, 1, (job_id,))

    def _surplus_like(self, cell: MinuteCell) -> bool:
        """Does another cell have more counted than listed, such that a cause would explain both?"""
        return any(
            self._missing(other) < 0 and self._cause_of(other, cell) is not Cause.UNEXPLAINED
            for other in self._listed
        )

    def _rest(self) -> None:
        """What the sums of ids do not name, by numbers alone, what is most likely first."""
        for cell in self._listed:
            if not self._missing(cell) and self._off(cell):
                self._not_the_same(cell)
        likely = Cause.RULES_CHANGED, Cause.EXPIRED_THEN_FINISHED, Cause.LABEL_CHANGED, Cause.STATE_REGRESSION
        for wanted in likely:
            for counted in self._listed:
                for listed in self._listed:
                    jobs = min(-self._missing(counted), self._missing(listed))
                    if jobs > 0 and self._cause_of(counted, listed) is wanted:
                        self._take(wanted, counted, listed, jobs)
        for cell in self._listed:
            if (more := -self._missing(cell)) > 0:
                self._too_many(cell, more)
            elif (fewer := self._missing(cell)) > 0:
                self._too_few(cell, fewer)

    def _take(self, cause: Cause, counted: MinuteCell, listed: MinuteCell, jobs: int) -> None:
        names = self._listed[listed]
        whole = len(names) == jobs
        ids = tuple(name for name in names if name is not None) if whole else ()
        self._add(cause, counted, listed, jobs, ids, () if whole else names)
        self._counted[counted] -= jobs
        self._counted[listed] = self._counted.get(listed, 0) + jobs
        self._sums[counted] = self._sums[listed] = None  # which of them it was is not known

    def _too_many(self, cell: MinuteCell, more: int) -> None:
        """Counted, and listed nowhere in this minute: deleted, unless the sum of ids names a listed job."""
        off = self._off(cell)
        twice = None if off is None else find_ids([name for name in self._ids if name is not None], off, more)
        if not twice:
            self._add(Cause.DELETED, cell, None, more)
        for job_id in twice or ():
            self._counted_here_too(cell, job_id)
        self._counted[cell] -= more
        self._sums[cell] = None

    def _counted_here_too(self, cell: MinuteCell, job_id: str) -> None:
        """Listed in another cell: counted there as well, unless it was found not to be."""
        other = self._ids[job_id]
        known = [one for one in self.differences if one.counted is None and one.job_ids == (job_id,)]
        if known:
            self.differences.remove(known[0])
            self._add(self._cause_of(cell, other), cell, other, 1, (job_id,))
        else:
            self._add(Cause.UNEXPLAINED, cell, other, 1, (job_id,), note="counted twice")

    def _too_few(self, cell: MinuteCell, fewer: int) -> None:
        """Not counted. Late records are listed: it is none where all were tried and none fits."""
        names = self._listed[cell]
        if self._off(cell) is not None and can_search(names, fewer):
            self._add(Cause.UNEXPLAINED, None, cell, fewer, among=names, note="the ids of none of these fit")
        else:
            self._add(self._uncounted_cause(), None, cell, fewer, among=names)

    def _compare_characters(self, listed: Mapping[MinuteCell, Sequence[Record]]) -> None:
        """Of the cells whose jobs agree: of one that is deleted or not named, nobody knows the text."""
        for cell, names in self._listed.items():
            if cell in self._incomparable or self._missing(cell) or self._off(cell) != 0:
                continue
            left = set(names)
            lengths = [(it.job_id, it.text_length or 0) for it in listed.get(cell, ()) if it.job_id in left]
            now, then = sum(length for _, length in lengths), self._characters.get(cell, 0)
            if now == then:
                continue
            late = self._late_lengths and then < now
            fit = [name for name, length in lengths if length == now - then and name is not None]
            self._add(
                Cause.LATE_TEXT_LENGTH if late else Cause.UNEXPLAINED,
                cell,
                cell,
                1,
                fit if late and len(fit) == 1 else (),
                note=f"{then} characters counted, {now} listed",
            )

    def _cause_of(self, counted: MinuteCell, listed: MinuteCell) -> Cause:
        cause = cause_of_move(counted, listed)
        went_back = counted.state in FINAL_STATES and counted.state != listed.state
        return Cause.STATE_REGRESSION if self._regressions and went_back else cause

    def _uncounted_cause(self) -> Cause:
        return Cause.LATE_RECORD if self._late_records else Cause.UNEXPLAINED

    def _add(
        self,
        cause: Cause,
        counted: MinuteCell | None,
        listed: MinuteCell | None,
        jobs: int,
        job_ids: Iterable[str] = (),
        among: Iterable[str | None] = (),
        note: str = "",
    ) -> None:
        candidates = tuple(name for name in among if name is not None)
        difference = Difference(self._minute, cause, counted, listed, jobs, tuple(job_ids), candidates, note)
        self.differences.append(difference)


def cause_of_move(counted: MinuteCell, listed: MinuteCell) -> Cause:
    """Why a job may be counted in one cell and listed in another."""
    if counted.state == EXPIRED and listed.state in FINAL_STATES:
        return Cause.EXPIRED_THEN_FINISHED
    if counted.state != listed.state:
        return Cause.UNEXPLAINED  # a final state is final (R1): either the API or we are wrong
    if counted.label_set != listed.label_set:
        return Cause.LABEL_CHANGED
    return Cause.RULES_CHANGED if counted.state == FAILED else Cause.UNEXPLAINED


def can_search(names: Sequence[str | None], number: int) -> bool:
    """Can all choices of so many of the ids be tried?"""
    return number < NAMED or (number == NAMED and len(names) <= _SEARCHED)


def find_some(names: Sequence[str], wanted: int, number: int) -> tuple[str, ...]:
    """As many as ``number`` or, if there are none, fewer: the others differ for another cause."""
    found = (find_ids(names, wanted, some) for some in range(min(number, NAMED), 0, -1))
    return next(filter(None, found), ())


def find_ids(names: Sequence[str], wanted: int, number: int) -> tuple[str, ...] | None:
    """Those ``number`` of the ids whose numbers add up to ``wanted``; ``None`` where there are none."""
    by_number = {id_number(name): name for name in names}
    if number == 1:
        return (by_number[wanted],) if wanted in by_number else None
    if not can_search(names, number):
        return None
    for some in combinations(by_number, number - 1):
        last = (wanted - sum(some)) & IDS_MASK
        if last in by_number and last not in some:
            return (*(by_number[one] for one in some), by_number[last])
    return None


def _without_length(records: Iterable[Record]) -> bool:
    return any(record.text_length is None for record in records)


def _numbers(names: Iterable[str | None]) -> Iterable[int]:
    return (id_number(name) for name in names if name is not None)


def group(records: Iterable[tuple[MinuteCell, Record]]) -> dict[MinuteCell, list[Record]]:
    """By cell."""
    cells: dict[MinuteCell, list[Record]] = defaultdict(list)
    for cell, record in records:
        cells[cell].append(record)
    return cells
