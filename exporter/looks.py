"""Looks at the open jobs that no other read has shown (rule R9), the cheaper way for each."""

from __future__ import annotations

from typing import Final

from exporter.booking import Booking
from exporter.ledger import plan
from exporter.ledger.times import floor_second

DUE_LOOKS: Final = 500
"""Open jobs planned for at a time, longest unseen first."""


async def look(booking: Booking) -> None:
    """Whatever the budget does not allow waits for the next poll, longest unseen first."""
    ledger = booking.ledger
    due = plan.due_jobs(ledger, booking.now())
    if not due:
        return
    due = plan.longest_unseen(ledger, due, min(DUE_LOOKS, 100 * booking.budget_left))
    looks = plan.plan_looks(due, plan.RecordCounts(ledger, due[0].created, due[-1].created))
    for window in looks.windows:
        await _list(booking, window)
    for job_id in looks.lookups:
        if booking.budget_left <= 0:
            break
        await booking.look_up(job_id)
    await booking.commit()


async def _list(booking: Booking, window: plan.Window) -> None:
    stack = [window]
    while stack and booking.budget_left > 0:
        part = stack.pop()
        result = await booking.reader.read(part, booking.deadline)
        booking.book(result)
        await booking.commit_read(result)
        middle = floor_second((part.since + part.until) // 2)
        if not result.complete and part.since < middle:
            stack += [plan.Window(part.since, middle), plan.Window(middle, part.until)]
