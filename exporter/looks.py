"""Looks at the open jobs that no other read has shown (rule R9), the cheaper way for each."""

from __future__ import annotations

from exporter.booking import Booking
from exporter.ledger import plan
from exporter.ledger.due import Look, RecordCounts
from exporter.ledger.reading import MAX_WINDOW_RECORDS, PAGE_LIMIT, Verdict
from exporter.ledger.times import SECOND, floor_second


async def look(booking: Booking, head: int) -> None:
    """Whatever the budget does not allow waits for the next poll, longest unseen first."""
    ledger = booking.ledger
    due = booking.due()
    if not due:
        return
    crowded = ledger.absences.still_crowded()
    before = RecordCounts(ledger, due[0].since, head, 0.0).before
    together = [job for job in due if job.job_id not in crowded]
    looks = plan.plan_looks(together, before, alone=[job for job in due if job.job_id in crowded])
    for step in looks.steps:
        if booking.budget_left <= 0:
            break
        if isinstance(step, plan.Window):
            known = before(step.until + SECOND) - before(step.since)
            await _list(booking, step, due, min(MAX_WINDOW_RECORDS, PAGE_LIMIT + int(2 * known)))
        else:
            await booking.look_up(step.job_id)
    await booking.commit()


async def _list(booking: Booking, window: plan.Window, due: list[Look], most: int) -> None:
    """Jobs among many more than are known of, which would take many requests, are asked for alone later."""
    absences = booking.ledger.absences
    stack = [window]
    while stack and booking.budget_left > 0:
        part = stack.pop()
        jobs = [job.job_id for job in due if part.since <= job.since and job.until <= part.until]
        short = part.until - part.since <= SECOND
        limit = MAX_WINDOW_RECORDS if short else most
        result = await booking.reader.read(part, booking.deadline, most=limit)
        await booking.book(result)
        if result.complete:
            absences.asked(jobs, result.begun)
        await booking.commit_read(result)
        middle = floor_second((part.since + part.until) // 2)
        if result.complete:
            continue
        if result.reason == Verdict.TOO_LARGE.value and not short:
            absences.crowded.update(jobs)
        elif part.since < middle:
            stack += [plan.Window(part.since, middle), plan.Window(middle, part.until)]
        else:
            booking.doubt(result)
