"""Reads what is in a PostgreSQL store.

Knows the tables; must not know who holds a target. Equal labels become one object (``intern``).
"""

from __future__ import annotations

from sys import intern
from typing import Any

import msgspec

from exporter.errors import StoreConflictError, StoreCorruptError
from exporter.ledger import OPEN_STATES, Job, StoredLedger, Watermarks, series_labels, total_key
from exporter.store.loading import STEP, check_scope, first_minute
from exporter.store.past import MinuteCount
from exporter.store.postgres import schema
from exporter.store.postgres.database import Transaction


def find_target(transaction: Transaction, address: str, target: str, scope: str) -> int | None:
    """Its row id; ``None`` when it was never committed. Raises ScopeChangedError."""
    found = transaction.execute(schema.FIND_TARGET, (target,)).fetchone()
    if found is None:
        return None
    check_scope(address, target, found[1], scope)
    return int(found[0])


def read_ledger(
    transaction: Transaction,
    address: str,
    key: int,
    target: str,
    now: int,
    keep: int,
    *,
    only_open: bool = False,
) -> StoredLedger:
    """As ``base.Store.load`` has it; ``only_open``: without the jobs that are final."""
    stored = read_target(transaction, address, key, target, only_open=only_open)
    first = first_minute(stored, now, keep)
    return msgspec.structs.replace(
        stored,
        totals={
            total_key(name, job_type, service, detail): value
            for name, job_type, service, detail, value in transaction.execute(schema.GET_TOTALS, (key,))
        },
        minutes=tuple(
            (minute, series_labels(job_type, service, state), number)
            for minute, job_type, service, state, number in transaction.execute(
                schema.GET_MINUTES, (key, first)
            )
        ),
    )


def read_target(
    transaction: Transaction, address: str, key: int, target: str, *, only_open: bool
) -> StoredLedger:
    """All but totals and minutes."""
    row = transaction.execute(schema.GET_TARGET, (key,)).fetchone()
    if row is None:
        raise StoreConflictError(f"{address}: target {target!r} was removed at the same time")
    project_id, version, *stamps, catching_up, last_complete_poll, buckets = row
    try:
        bounds = msgspec.json.decode(buckets, type=dict[str, tuple[int, ...]])
    except (msgspec.MsgspecError, ValueError):
        raise StoreCorruptError(
            f"{address}: the stored books of target {target!r} were changed from outside: restore a"
            " backup, or use a new target name"
        ) from None
    return StoredLedger(
        version=version,
        project_id=project_id,
        watermarks=None if None in stamps else Watermarks(*(*stamps, catching_up or 0)),
        jobs=_jobs(transaction, key, only_open=only_open),
        label_sets=tuple(transaction.execute(schema.GET_LABEL_SETS, (key,))),
        last_complete_poll=last_complete_poll,
        buckets=bounds,
    )


def _jobs(transaction: Transaction, key: int, *, only_open: bool) -> dict[str, Job]:
    """All remembered jobs, or those that are open, in order of creation."""
    query, parameters = schema.GET_JOBS, list[Any]([key])
    if only_open:
        query, parameters = schema.GET_OPEN_JOBS, [key, list(OPEN_STATES)]
    return {
        job_id.decode(): Job(created, intern(state), intern(job_type), intern(service), *numbers)
        for step in transaction.stream(query, parameters, STEP)
        for job_id, created, state, job_type, service, *numbers in step
    }


def load_minutes(
    transaction: Transaction, key: int, since: int, until: int
) -> dict[int, dict[tuple[str, str, str, str], MinuteCount]]:
    """What was counted in the minutes from ``since`` to before ``until``."""
    minutes: dict[int, dict[tuple[str, str, str, str], MinuteCount]] = {}
    for minute, job_type, service, state, detail, *numbers in transaction.execute(
        schema.GET_MINUTES_OF, (key, since, until)
    ):
        labels = intern(job_type), intern(service), intern(state), intern(detail)
        minutes.setdefault(minute, {})[labels] = MinuteCount(*numbers)
    return minutes


def load_open_jobs(transaction: Transaction, key: int, since: int, until: int) -> dict[str, Job]:
    """The open ones created from ``since`` to before ``until``, milliseconds."""
    found = transaction.execute(schema.GET_OPEN_JOBS_OF, (key, list(OPEN_STATES), since, until))
    return {job_id.decode(): Job(*values) for job_id, *values in found}
