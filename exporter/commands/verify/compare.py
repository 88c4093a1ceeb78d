"""Compares what was counted of one minute with what is listed of it now, and says why the two differ.

Pure. The store keeps for each cell (``cells.py``) how many jobs ended, and the sum of their ids
(``id_number``): where that differs by few jobs, it says which ones. What that proves stands as a table in
docs/decisions/0007-sums-of-ids.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import combinations
from operator import eq
from typing import Final, NamedTuple

from exporter.commands.verify.cells import EXPIRED, Count, MinuteCell
from exporter.commands.verify.id_sums import NAMED, Exact, can_search, find_exact
from exporter.ledger import FAILED, FINAL_STATES, IDS_MASK, Record, id_number

_STRAYS: Final = 8
"""Jobs at most, known to be counted elsewhere or not at all, of which all choices are tried."""


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


_LIKELY: Final = (
    (Cause.STATE_REGRESSION, True),  # nothing else makes an open job of one that is counted
    (Cause.LABEL_CHANGED, True),
    (Cause.RULES_CHANGED, False),
    (Cause.LABEL_CHANGED, False),
    (Cause.EXPIRED_THEN_FINISHED, False),  # from there to any final state, with any labels
    (Cause.STATE_REGRESSION, False),
)
"""Why a job is listed elsewhere, and whether it is open there: the fewest places that it fits first."""
_OR_LATE: Final = "or listed late, and one of the others deleted: no sum of ids tells these apart"
_MIX: Final = "; deleted ones together with late ones would look like that, too"


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
        given_up: bool = False,
        label_changes: bool = False,
        late_lengths: bool = False,
    ) -> None:
        """``late_records``: this API is known to list records later than ``poll.overlap``.

        ``regressions``: it is known to take final states back; ``label_changes``: to change labels;
        ``late_lengths``: to list jobs without their text_length. ``given_up``: the exporter gave jobs up.
        """
        self.differences: list[Difference] = []
        self._minute = minute
        self._late_records = late_records
        self._mix = _MIX if late_records else ""
        self._api = {
            *((Cause.STATE_REGRESSION,) if regressions else ()),
            *((Cause.EXPIRED_THEN_FINISHED,) if regressions or given_up else ()),
            *((Cause.LABEL_CHANGED,) if label_changes else ()),
        }
        """Why a job is listed elsewhere, as far as it is known that this API does so."""
        self._known = {Cause.RULES_CHANGED, *self._api}
        """Why a job is listed elsewhere, even where more are counted there than listed: these are deleted."""
        self._unresolved: set[MinuteCell] = set()
        """Cells of which the sum of ids does not say which jobs differ."""
        self._late_lengths = late_lengths
        self._ids = {record.job_id: cell for cell, found in listed.items() for record in found}
        self._counted = {cell: count.jobs for cell, count in counted.items()}
        self._sums = {cell: count.ids for cell, count in counted.items()}
        self._listed = {
            cell: [record.job_id for record in listed.get(cell, ())] for cell in sorted({*counted, *listed})
        }
        """By cell: what is listed there, and not known to be counted elsewhere or not at all."""
        self._astray: dict[MinuteCell, list[str]] = defaultdict(list)
        """By cell: what is listed there, known not to be counted there, and not yet found elsewhere."""
        self._doubtful: dict[MinuteCell, tuple[str, ...]] = {}
        """Of those astray: some are counted elsewhere, and it is not known which."""
        self._characters = {cell: count.characters for cell, count in counted.items()}
        self._lengths = {record.job_id: record.text_length for found in listed.values() for record in found}
        self._incomparable = {cell for cell, found in listed.items() if _without_length(found)}
        """Cells where not every job that is counted there is known, with its characters."""
        if any(self._differs(cell) for cell in self._listed):
            self._numbers_alone()
            self._by_ids()
            self._numbers_alone()
            self._unresolved = {cell for cell in self._listed if self._differs(cell)}
            self._by_numbers()
            self._one_sided()
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

    def _by_ids(self) -> None:
        """What the sums of ids prove: jobs that are counted in a cell and not listed there, or reverse."""
        while True:
            exact = {cell: found for cell in self._listed if (found := self._exact(cell)) is not None}
            if not any(more or fewer for more, fewer in exact.values()):
                return
            for cell, (_, fewer) in exact.items():
                for job_id in fewer:
                    self._listed[cell].remove(job_id)
                    self._astray[cell].append(job_id)
            for cell, (more, _) in exact.items():
                for job_id in more:
                    self._uncount(cell, job_id, proven=self._ids[job_id] in exact)

    def _exact(self, cell: MinuteCell) -> Exact | None:
        """The fewest jobs that make up for the difference of the cell; ``None`` where none are found."""
        more, off, own = -self._missing(cell), self._off(cell), self._listed[cell]
        if off is None:
            return None
        if not more and not off:
            return Exact((), ())
        mine = {id_number(name): name for name in own if name is not None}
        if own and more == -len(own) == -len(mine) and (off + sum(mine)) & IDS_MASK == 0:
            return Exact((), tuple(mine.values()))  # nothing is counted here
        every = {id_number(name): name for name in self._ids if name is not None}
        strays = [name for other, names in self._astray.items() if other != cell for name in names]
        for known in _subsets(strays):
            left = (off - sum(map(id_number, known))) & IDS_MASK
            pair = find_exact(every, mine, left, more - len(known), NAMED - (len(known) > 1))
            if pair is not None and not {*pair[0]} & {*known}:
                return Exact((*known, *pair[0]), pair[1])
        return None

    def _uncount(self, cell: MinuteCell, job_id: str, *, proven: bool) -> None:
        """Note a job that is counted in the cell and listed in another one.

        ``proven``: of that one it is known which jobs are not counted there.
        """
        other = self._ids[job_id]
        cause = self._cause_of(cell, other)
        astray, listed = self._astray[other], self._listed[other]
        if job_id in astray:
            astray.remove(job_id)
            self._add(cause, cell, other, 1, (job_id,))
        elif job_id in listed and not proven and (self._missing(other) >= 0 or cause in self._known):
            listed.remove(job_id)
            self._add(cause, cell, other, 1, (job_id,))
        else:
            note = "counted twice"
            if job_id in listed and not proven and cause is not Cause.UNEXPLAINED:
                note += f", or {cause} and one more of the others deleted"
            self._add(Cause.UNEXPLAINED, cell, other, 1, (job_id,), note=note)
        self._counted[cell] -= 1
        if (characters := self._lengths[job_id]) is None:
            self._incomparable.add(cell)
        else:
            self._characters[cell] -= characters
        if (ids := self._sums.get(cell)) is not None:
            self._sums[cell] = (ids - id_number(job_id)) & IDS_MASK

    def _numbers_alone(self) -> None:
        """The ids agree and the numbers do not: no job that was deleted, late or moved does that."""
        for cell, ids in self._listed.items():
            if (missing := self._missing(cell)) and self._off(cell) == 0:
                self._add(
                    Cause.UNEXPLAINED, cell, cell, abs(missing), note="the ids agree, the number does not"
                )
                self._counted[cell] = len(ids)

    def _by_numbers(self) -> None:
        """What the sums of ids do not name, by numbers alone, what is most likely first."""
        movable = {cell: self._movable(cell) for cell in self._listed}
        for cell in self._listed:
            if not self._missing(cell) and self._off(cell):
                came_from = [it for it in movable if self._may_have_come(it, cell, movable[it])]
                went_to = [it for it in movable if self._astray[it] and self._cause_of(cell, it) in self._api]
                if came_from:  # as one came, another one was deleted
                    likely = max(came_from, key=lambda it: sum(map(eq, it, cell)))
                    self._take(self._cause_of(likely, cell), likely, cell, 1)
                    movable[likely] -= 1
                elif went_to and self._late_records:  # as one went, another one came late
                    self._take(self._cause_of(cell, went_to[0]), cell, went_to[0], 1)
                else:
                    self._not_the_same(cell)
        for wanted in _LIKELY:
            for counted in self._listed:
                for listed in self._listed:
                    jobs = min(movable[counted], self._lacking(listed))
                    if jobs > 0 and self._likelihood(counted, listed) == wanted:
                        self._take(wanted[0], counted, listed, jobs)
                        movable[counted] -= jobs

    def _one_sided(self) -> None:
        """Not counted at all, or not listed any more."""
        for cell in self._listed:
            astray = self._astray[cell]
            if astray and cell in self._doubtful:
                self._add(self._uncounted_cause(), None, cell, len(astray), among=self._doubtful[cell])
            else:
                for job_id in astray:
                    self._add(self._uncounted_cause(), None, cell, 1, (job_id,))
            if (more := -self._missing(cell)) > 0:
                self._add(Cause.DELETED, cell, None, more)  # listed nowhere in this minute
                self._counted[cell] -= more
                self._sums[cell] = None
            elif (fewer := self._missing(cell)) > 0:
                self._too_few(cell, fewer)

    def _may_have_come(self, counted: MinuteCell, cell: MinuteCell, movable: int) -> bool:
        """One may be counted there and listed here: where many are late, as many may have left as came."""
        cause = self._cause_of(counted, cell)
        if movable > 0:
            return cause in self._known
        return movable < 0 and self._late_records and counted in self._unresolved and cause in self._api

    def _likelihood(self, counted: MinuteCell, listed: MinuteCell) -> tuple[Cause, bool]:
        return self._cause_of(counted, listed), listed.state == EXPIRED

    def _lacking(self, cell: MinuteCell) -> int:
        """Jobs that are listed here and may be counted elsewhere."""
        return len(self._astray[cell]) or self._missing(cell)

    def _movable(self, cell: MinuteCell) -> int:
        """Jobs at most that are counted here and listed elsewhere.

        If all were, and they are few, the sum of ids would have named them: then one at least is deleted, and
        it must not hide one that is lost.
        """
        more, off = -self._missing(cell), self._off(cell)
        return more - 1 if off is not None and can_search(len(self._ids), more) else more

    def _not_the_same(self, cell: MinuteCell) -> None:
        note = "as many as are listed, but not the same"
        self._add(Cause.UNEXPLAINED, cell, cell, 1, note=note + self._mix)
        self._sums[cell] = None

    def _take(self, cause: Cause, counted: MinuteCell, listed: MinuteCell, jobs: int) -> None:
        astray = self._astray[listed]
        if 0 < jobs < len(astray):
            self._doubtful.setdefault(listed, tuple(astray))
        names = self._doubtful.get(listed, astray or self._listed[listed])
        whole = len(names) == jobs
        ids = tuple(name for name in names if name is not None) if whole else ()
        note = _OR_LATE if self._late_records else ""
        self._add(cause, counted, listed, jobs, ids, () if whole else names, note)
        self._counted[counted] -= jobs
        self._sums[counted] = None  # which of them it was is not known
        if astray:
            del astray[:jobs]
        else:
            self._counted[listed] = self._counted.get(listed, 0) + jobs
            self._sums[listed] = None

    def _too_few(self, cell: MinuteCell, fewer: int) -> None:
        """Not counted. Late records are listed: it is none where all were tried and none fits."""
        names = self._listed[cell]
        if self._off(cell) is not None and self._all_tried(cell, fewer):
            note = "the ids of none of these fit" + self._mix
            self._add(Cause.UNEXPLAINED, None, cell, fewer, among=names, note=note)
        else:
            self._add(self._uncounted_cause(), None, cell, fewer, among=names)

    def _all_tried(self, cell: MinuteCell, fewer: int) -> bool:
        """Were all choices of so many tried, with those that may be counted here and are listed elsewhere?"""
        others = [it for it in self._listed if it != cell]
        if any(it in self._unresolved and self._cause_of(cell, it) in self._api for it in others):
            return False
        known = sum(len(self._astray[it]) for it in others if self._cause_of(cell, it) != Cause.UNEXPLAINED)
        return can_search(len(self._listed[cell]), fewer + known + (known > 1))

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
        return Cause.STATE_REGRESSION if went_back and Cause.STATE_REGRESSION in self._known else cause

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


def _subsets(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Smallest first."""
    for number in range(len(names) + 1 if len(names) <= _STRAYS else 1):
        yield from combinations(names, number)


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
