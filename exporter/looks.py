"""Looks at the open jobs that no other read has shown (rule R9), the cheaper way for each."""

from __future__ import annotations

from exporter.booking import Booking
from exporter.ledger import plan
from exporter.ledger.due import RecordCounts
from exporter.ledger.times import floor_second


async def look(booking: Booking, head: int) -> None:
    """Whatever the budget does not allow waits for the next poll, longest unseen first."""
    ledger = booking.ledger
    due = booking.due()
    if not due:
        return
    looks = plan.plan_looks(due, RecordCounts(ledger, due[0].since, head, 0.0).before)
    for step in looks.steps:
        if booking.budget_left <= 0:
            break
        if isinstance(step, plan.Window):
            await _list(booking, step)
        else:
            await booking.look_up(step.job_id)
    await booking.commit()


async def _list(booking: Booking, window: plan.Window) -> None:
    stack = [window]
    while stack and booking.budget_left > 0:
        part = stack.pop()
        result = await booking.reader.read(part, booking.deadline)
        await booking.book(result)
        await booking.commit_read(result)
        middle = floor_second((part.since + part.until) // 2)
        if not result.complete and part.since < middle:
            stack += [plan.Window(part.since, middle), plan.Window(middle, part.until)]
        elif not result.complete:
            booking.doubt(result)
