"""Reads backwards the time before the baseline, when counting began (R4, docs/counting.md).

Its jobs are shown in the gauge of recent jobs, and not counted.
"""

from __future__ import annotations

from typing import Final

from exporter.ledger import history_start
from exporter.polling import planner
from exporter.polling.poll_run import PollRun
from exporter.polling.windows import BudgetSpentError

HISTORY: Final = "history"


async def read_history(run: PollRun, density: planner.Density) -> None:
    """Read the next stretches, with at most half of what is left of the budget: everything else is more
    urgent.

    Raises BudgetSpentError where something is left to read and the poll has no request left.
    """
    limit = max(1, run.budget_left // 2)
    ledger, reader, unread = run.ledger, run.reader, run.unread
    spent = reader.requests
    while (left := limit - (reader.requests - spent)) > 0:
        window = planner.history_window(ledger, density, history_start(ledger, run.now()), left * 100)
        if window is None:
            return
        if (result := unread.pop(HISTORY, None)) is not None:
            window = result.window
            await reader.go_on(result, run.deadline)
        else:
            result = await reader.read(window, run.deadline)
        run.check_two_times(result, window.since)
        if result.complete:
            ledger.see_history(result.listing, window.since, result.sighting)
            density.learn(window, len(result.inside))
        elif isinstance(result.error, BudgetSpentError):
            unread[HISTORY] = result
        elif result.error is not None:
            density.shrink(window)  # it may be its size that fails
        await run.commit_read(result)
        if not result.complete and not run.halve(density, window, result):
            return
