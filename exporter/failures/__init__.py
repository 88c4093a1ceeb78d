"""What a ``fail_msg`` means: its class, its template, a rule for it.

Pure: text in, text out; must not know jobs or metrics.
"""

from exporter.failures.classify import BUILTIN_RULES, NO_MESSAGE, UNCLASSIFIED, Classifier, compile_rule
from exporter.failures.recent_failures import RecentFailures, UnclassifiedTemplate

__all__ = [
    "BUILTIN_RULES",
    "NO_MESSAGE",
    "UNCLASSIFIED",
    "Classifier",
    "RecentFailures",
    "UnclassifiedTemplate",
    "compile_rule",
]
