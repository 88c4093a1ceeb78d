"""What a ``fail_msg`` means: its class, its template, a rule for it.

Pure: text in, text out; must not know jobs or metrics.
"""

from exporter.failures.builtin import BUILTIN_RULES, ClassPattern
from exporter.failures.classify import (
    CLASSIFIED_LIMIT,
    NO_MESSAGE,
    UNCLASSIFIED,
    Classifier,
    compile_rule,
    template,
)
from exporter.failures.recent_failures import RecentFailures, UnclassifiedTemplate
from exporter.failures.suggest import as_yaml
from exporter.failures.tally import ClassTally, Comparison, TallyView, matched_part

__all__ = [
    "BUILTIN_RULES",
    "CLASSIFIED_LIMIT",
    "NO_MESSAGE",
    "UNCLASSIFIED",
    "ClassPattern",
    "ClassTally",
    "Classifier",
    "Comparison",
    "RecentFailures",
    "TallyView",
    "UnclassifiedTemplate",
    "as_yaml",
    "compile_rule",
    "matched_part",
    "template",
]
