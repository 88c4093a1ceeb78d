"""Reads again and again what other replicas commit of a target: after the first time, only what changed.

Each total and each count of a minute has the version of the commit that wrote it. Deleted rows leave no
trace: minutes are deleted only when nobody needs them any more, and of totals the target keeps when that was.
Open jobs are read all: they are few, and come and go. When the target was taken since, everything is read
again: after a promotion of a standby the same versions may mean something else.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from exporter.ledger import StoredLedger, series_labels, total_key
from exporter.store.loading import first_minute
from exporter.store.postgres import schema
from exporter.store.postgres.database import Transaction
from exporter.store.postgres.reading import read_ledger, read_target


class Followed(NamedTuple):
    """What was read of a target."""

    taking: str
    """Of whoever held it."""
    first_minute: int
    """From here on there are all minutes."""
    ledger: StoredLedger
    """Without the jobs that are not open."""


def read_followed(
    transaction: Transaction,
    address: str,
    key: int,
    target: str,
    now: int,
    keep: int,
    former: Followed | None,
) -> Followed:
    """As it is now; ``former`` is what this returned before."""
    taking, totals_deleted_version = transaction.execute(schema.GET_TAKING, (key,)).fetchone() or ("", 0)
    if former is not None and former.taking == taking and former.ledger.version >= totals_deleted_version:
        row = read_target(transaction, address, key, target, only_open=True)
        first = first_minute(row, now, keep)
        if former.first_minute <= first and row.version >= former.ledger.version:
            return Followed(taking, first, _changed(transaction, key, former.ledger, row, first))
    ledger = read_ledger(transaction, address, key, target, now, keep, only_open=True)
    return Followed(taking, first_minute(ledger, now, keep), ledger)


def _changed(
    transaction: Transaction, key: int, former: StoredLedger, row: StoredLedger, first: int
) -> StoredLedger:
    """``row`` with the former totals and minutes, and what was written since."""
    since = former.version
    totals = former.totals.copy()
    for name, job_type, service, detail, value in transaction.execute(schema.GET_NEW_TOTALS, (key, since)):
        totals[total_key(name, job_type, service, detail)] = value
    found = transaction.execute(schema.GET_NEW_MINUTES, {"target": key, "first": first, "since": since})
    new = [
        (minute, series_labels(job_type, service, state), jobs)
        for minute, job_type, service, state, jobs in found
    ]
    changed = {minute for minute, *_ in new}
    old = (count for count in former.minutes if count[0] >= first and count[0] not in changed)
    return replace(row, totals=totals, minutes=(*old, *new))
