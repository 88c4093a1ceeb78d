"""Recent failures: bounded, and nothing before its commit."""

from __future__ import annotations

import pytest

from exporter.failures.recent_failures import KEPT_TEMPLATES, SHOWN, RecentFailures

MINUTE = 60_000
NOW = 30_000_000 * MINUTE


def test_nothing_is_shown_before_its_commit() -> None:
    """And what a failed commit dropped is not shown at all."""
    recent = RecentFailures()
    recent.failed(NOW, "unclassified", "voice 1234567 is gone")
    assert (recent.failures(NOW), recent.unclassified()) == ({}, ())
    recent.dropped()
    recent.committed()
    assert recent.failures(NOW) == {}
    recent.failed(NOW, "unclassified", "voice 1234567 is gone")
    recent.failed(NOW, "timeout", "timed out")
    recent.failed(NOW + 1, "unclassified", "voice 7654321 is gone")
    recent.committed()
    assert recent.failures(NOW) == {"unclassified": 2, "timeout": 1}
    (shown,) = recent.unclassified()
    assert (shown.template, shown.jobs, shown.last_seen) == ("voice <number> is gone", 2, NOW + 1)


def test_messages_that_one_rule_would_take_are_one() -> None:
    """Though their templates differ in a short number."""
    recent = RecentFailures()
    for score in ("0.78", "0.31", "1.5"):
        recent.failed(NOW, "unclassified", f"rejected (score {score})")
    recent.committed()
    (shown,) = recent.unclassified()
    assert (shown.template, shown.jobs) == ("rejected (score 0.78)", 3)


def test_failures_are_those_of_the_last_hour() -> None:
    """An hour later they are gone, from memory too."""
    recent = RecentFailures()
    for minute in range(200):
        recent.failed(NOW + minute * MINUTE, "timeout", "")
        recent.committed()
    assert recent.failures(NOW + 199 * MINUTE) == {"timeout": 60}
    assert len(recent.minutes) == 60
    assert recent.failures(NOW + 300 * MINUTE) == {}


@pytest.mark.slow
def test_a_flood_of_messages_is_bounded() -> None:
    """The rarest make room."""
    recent = RecentFailures()
    for number in range(3000):
        word = "".join(chr(97 + int(digit)) for digit in str(number))
        recent.failed(NOW + number, "unclassified", f"{word} is wrong")
        if number % 100 < 3:
            recent.failed(NOW + number, "unclassified", "the voice is gone")
        recent.committed()
    assert len(recent.templates) == KEPT_TEMPLATES
    assert len(recent.unclassified()) == SHOWN
    assert recent.unclassified()[0].template == "the voice is gone"
    assert recent.unclassified()[0].jobs == 90


def test_templates_that_new_rules_know_are_dropped() -> None:
    """Whoever pasted the rule and reloaded sees that it works."""
    recent = RecentFailures()
    recent.failed(NOW, "unclassified", "voice is gone")
    recent.failed(NOW, "unclassified", "text is odd")
    recent.committed()
    recent.reclassify(lambda text: "voice" if "voice" in text else "unclassified")
    assert [shown.template for shown in recent.unclassified()] == ["text is odd"]
