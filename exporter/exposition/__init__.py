"""Published values as the bytes of one scrape.

Knows every metric, the two text formats and compression; must not know where the numbers come from.
"""

from exporter.exposition.api_stats import ApiMetrics, ApiView, FailedRequest
from exporter.exposition.publisher import Publisher
from exporter.exposition.render import Exposition, process_view
from exporter.exposition.samples import JOB_STATES, ProcessView
from exporter.exposition.text import Format, bound_label

__all__ = [
    "JOB_STATES",
    "ApiMetrics",
    "ApiView",
    "Exposition",
    "FailedRequest",
    "Format",
    "ProcessView",
    "Publisher",
    "bound_label",
    "process_view",
]
