"""Decides what one poll of a target asks the API for, and what its answers prove (docs/counting.md).

Knows windows of creation time, pages, rechecks of open jobs and budgets of requests; must not know HTTP or
SQL.

A ``Poller`` polls one target. A poll consists of *head reads* (the newest records: ``head.py``), *settle
reads* (every record once more, later and in order: ``settle.py``), *rechecks* (open jobs that no other read
showed: ``recheck.py``) and, at a first start, the time before it (``history.py``). ``planner.py`` chooses the
requests, a ``Reader`` reads one window, and ``PollRun`` records and commits what it showed.
"""

from exporter.polling.budget import Budget
from exporter.polling.paging import PageMemory
from exporter.polling.planner import MANY, Window
from exporter.polling.poller import Poller, PollSettings
from exporter.polling.source import JobSource
from exporter.polling.windows import Reader

__all__ = ["MANY", "Budget", "JobSource", "PageMemory", "PollSettings", "Poller", "Reader", "Window"]
