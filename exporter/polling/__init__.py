"""What one poll of a target asks for, and what the answers prove (docs/counting.md).

Knows windows, pages and request budgets; must not know HTTP or SQL.
"""

from exporter.polling.budget import Budget
from exporter.polling.paging import PageMemory
from exporter.polling.poller import Poller, PollSettings
from exporter.polling.windows import Reader

__all__ = ["Budget", "PageMemory", "PollSettings", "Poller", "Reader"]
