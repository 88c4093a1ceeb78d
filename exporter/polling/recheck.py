"""Rechecks the open jobs that no other read has shown, each in the cheaper way (R9, docs/counting.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exporter.errors import ApiError
from exporter.ledger import WINDOW_MARGIN, floor_second
from exporter.polling import planner
from exporter.polling.due import NEIGHBOUR_MINUTES, Recheck, RecordCounts
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT, ReadState
from exporter.polling.planner import Window
from exporter.polling.poll_run import OF_ONE_REQUEST, PollRun
from exporter.polling.windows import BudgetSpentError, WindowResult
from exporter.units import MINUTE, SECOND

RECHECKS: Final = "rechecks"
MAX_FAILED_RECHECKS: Final = 3
"""After so many failures in a row the other rechecks wait for the next poll."""


async def recheck(run: PollRun, head: int) -> None:
    """Recheck what is due, first what was not checked for longest. The rest waits for the next poll.

    One that fails waits, too, and the others are tried all the same. Raises BudgetSpentError where something
    is due and the poll has no request left.
    """
    due = run.due()
    unread = run.unread.pop(RECHECKS, None)
    failed: list[str] = []
    failures = 0
    spent: BudgetSpentError | None = None
    if unread is not None:
        spent = await _go_on(run, unread, due)
        due = run.due()
    for step, most in _steps(run, due, head) if spent is None else ():
        if failures >= MAX_FAILED_RECHECKS:
            break
        try:
            if isinstance(step, Window):
                await _list(run, step, due, most)
            else:
                await run.look_up(step.job_id)
            failures = 0
        except BudgetSpentError as error:
            spent = error
            break
        except ApiError as error:
            if error.kind not in OF_ONE_REQUEST:
                raise
            failures += 1
            run.note(error)
            failed += [job.job_id for job in _jobs(step, due)]
    if run.reads:  # otherwise the whole API fails, and not these jobs alone
        run.rechecks_failed(failed)
        run.ledger.missing_jobs.look_up_alone |= run.failing
    if due:
        await run.commit()
    if spent is not None:
        raise spent


async def _go_on(run: PollRun, unread: WindowResult, due: list[Recheck]) -> BudgetSpentError | None:
    """Go on with the stretch that the last poll's budget ended. After an error its jobs are due again."""
    try:
        await _list(run, unread, due, MAX_WINDOW_RECORDS)
    except BudgetSpentError as error:
        return error
    except ApiError as error:
        if error.kind not in OF_ONE_REQUEST:
            raise
        run.note(error)
    return None


def _steps(run: PollRun, due: list[Recheck], head: int) -> Iterator[tuple[Window | Recheck, int]]:
    """What to list or to look up, in order, and how many records a listed stretch may turn out to hold."""
    if not due:
        return
    ledger = run.ledger
    single = ledger.missing_jobs.still_look_up_alone() | run.failing
    reach = min(due[0].since, max(ledger.watermarks.history, due[0].since - NEIGHBOUR_MINUTES * MINUTE))
    before = RecordCounts(ledger, reach - WINDOW_MARGIN, head, 0.0).before
    together = [job for job in due if job.job_id not in single]
    rechecks = planner.plan_rechecks(together, before, alone=[job for job in due if job.job_id in single])
    for step in rechecks.steps:  # widened one at a time: there may be thousands, and requests for a few
        if not single or not any(job.job_id in single for job in _jobs(step, due)):
            wide = planner.widened(Window(step.since, step.until), before, reach)
            if isinstance(step, Window) or ledger.jobs.open_between(*wide) > 1:
                step = wide
        known = before(step.until + SECOND) - before(step.since - WINDOW_MARGIN)
        yield step, min(MAX_WINDOW_RECORDS, PAGE_LIMIT + int(2 * known))


def _jobs(step: Window | Recheck, due: list[Recheck]) -> list[Recheck]:
    """The due jobs that this step shows."""
    if isinstance(step, Recheck):
        return [step]
    return [job for job in due if step.since <= job.since and job.until <= step.until]


async def _list(run: PollRun, window: Window | WindowResult, due: list[Recheck], most: int) -> None:
    """List a stretch; in halves where it cannot be listed completely.

    Jobs among far more records than we knew of would take many requests: they are looked up alone later.
    """
    missing_jobs = run.ledger.missing_jobs
    stack = [window]
    while stack:
        unread = stack.pop()
        part = unread.window if isinstance(unread, WindowResult) else unread
        rechecks = _jobs(part, due)
        jobs = [job.job_id for job in rechecks]
        short = part.until - part.since <= SECOND
        limit = MAX_WINDOW_RECORDS if short else most
        if isinstance(unread, WindowResult):
            result = await run.reader.go_on(unread, run.deadline)
        else:
            result = await run.reader.read(part, run.deadline, most=limit)
        await run.record(result)
        if result.complete:
            missing_jobs.asked(jobs, result.begun)
        if isinstance(result.error, BudgetSpentError):
            run.unread[RECHECKS] = result
        await run.commit_read(result)
        middle = floor_second((part.since + part.until) // 2)
        if result.complete:
            continue
        if not short and (
            result.reason == ReadState.TOO_LARGE.value or any(job.may_hold_many for job in rechecks)
        ):
            missing_jobs.look_up_alone.update(jobs)
        elif part.since < middle:
            stack += [Window(part.since, middle), Window(middle, part.until)]
        else:
            run.note_unlistable(result)
