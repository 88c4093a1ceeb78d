"""Looks at the open jobs that no other read has shown (rule R9), the cheaper way for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exporter.errors import ApiError
from exporter.ledger.changes import MARGIN
from exporter.ledger.watermarks import floor_second
from exporter.polling import planner as plan
from exporter.polling.due import FAR, Look, RecordCounts
from exporter.polling.paging import MAX_WINDOW_RECORDS, PAGE_LIMIT, Verdict
from exporter.polling.planner import Window
from exporter.polling.poll_run import OF_ONE_REQUEST, Booking
from exporter.polling.windows import BudgetSpentError, WindowResult
from exporter.units import MINUTE, SECOND

LOOKS: Final = "looks"
FAILURES: Final = 3
"""Looks of one poll that may fail, one after the other, before the rest waits for the next."""


async def look(booking: Booking, head: int) -> None:
    """Whatever the budget does not allow waits for the next poll, longest unseen first.

    A look that fails waits, too, and keeps no other from being tried. Raises BudgetSpentError where something
    is due and the poll has no request left.
    """
    due = booking.due()
    unread = booking.unread.pop(LOOKS, None)
    failed: list[str] = []
    failures = 0
    spent: BudgetSpentError | None = None
    if unread is not None:
        spent = await _go_on(booking, unread, due)
        due = booking.due()
    for step, most in _steps(booking, due, head) if spent is None else ():
        if failures >= FAILURES:
            break
        try:
            if isinstance(step, Window):
                await _list(booking, step, due, most)
            else:
                await booking.look_up(step.job_id)
            failures = 0
        except BudgetSpentError as error:
            spent = error
            break
        except ApiError as error:
            if error.kind not in OF_ONE_REQUEST:
                raise
            failures += 1
            booking.problem = booking.problem or error
            failed += [job.job_id for job in _jobs(step, due)]
    if booking.reads:  # otherwise it is not these jobs that the API cannot show
        booking.looks_failed(failed)
        booking.ledger.absences.crowded |= booking.failing
    if due:
        await booking.commit()
    if spent is not None:
        raise spent


async def _go_on(booking: Booking, unread: WindowResult, due: list[Look]) -> BudgetSpentError | None:
    """Go on with the stretch that a poll's budget ended; what else ends it makes it due again."""
    try:
        await _list(booking, unread, due, MAX_WINDOW_RECORDS)
    except BudgetSpentError as error:
        return error
    except ApiError as error:
        if error.kind not in OF_ONE_REQUEST:
            raise
        booking.problem = booking.problem or error
    return None


def _steps(booking: Booking, due: list[Look], head: int) -> Iterator[tuple[Window | Look, int]]:
    """What to list or to look up, in order, and how many records a listed stretch may turn out to hold."""
    if not due:
        return
    ledger = booking.ledger
    single = ledger.absences.still_crowded() | booking.failing
    reach = min(due[0].since, max(ledger.times.history, due[0].since - FAR * MINUTE))
    before = RecordCounts(ledger, reach - MARGIN, head, 0.0).before
    together = [job for job in due if job.job_id not in single]
    looks = plan.plan_looks(together, before, alone=[job for job in due if job.job_id in single])
    for step in looks.steps:  # one at a time: there may be thousands, and requests for a few
        if not single or not any(job.job_id in single for job in _jobs(step, due)):
            wide = plan.widened(Window(step.since, step.until), before, reach)
            if isinstance(step, Window) or ledger.jobs.open_between(*wide) > 1:
                step = wide
        known = before(step.until + SECOND) - before(step.since - MARGIN)
        yield step, min(MAX_WINDOW_RECORDS, PAGE_LIMIT + int(2 * known))


def _jobs(step: Window | Look, due: list[Look]) -> list[Look]:
    """The due jobs that it shows."""
    if isinstance(step, Look):
        return [step]
    return [job for job in due if step.since <= job.since and job.until <= step.until]


async def _list(booking: Booking, window: Window | WindowResult, due: list[Look], most: int) -> None:
    """Jobs among many more than are known of, which would take many requests, are asked for alone later."""
    absences = booking.ledger.absences
    stack = [window]
    while stack:
        unread = stack.pop()
        part = unread.window if isinstance(unread, WindowResult) else unread
        looks = _jobs(part, due)
        jobs = [job.job_id for job in looks]
        short = part.until - part.since <= SECOND
        limit = MAX_WINDOW_RECORDS if short else most
        if isinstance(unread, WindowResult):
            result = await booking.reader.go_on(unread, booking.deadline)
        else:
            result = await booking.reader.read(part, booking.deadline, most=limit)
        await booking.book(result)
        if result.complete:
            absences.asked(jobs, result.begun)
        if isinstance(result.error, BudgetSpentError):
            booking.unread[LOOKS] = result
        await booking.commit_read(result)
        middle = floor_second((part.since + part.until) // 2)
        if result.complete:
            continue
        if not short and (result.reason == Verdict.TOO_LARGE.value or any(job.unsure for job in looks)):
            absences.crowded.update(jobs)
        elif part.since < middle:
            stack += [Window(part.since, middle), Window(middle, part.until)]
        else:
            booking.doubt(result)
