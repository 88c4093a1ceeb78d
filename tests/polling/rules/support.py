"""Polls of a scripted API, for the tests of the rules of counting."""

from __future__ import annotations

import asyncio

from tests.fake_api import PollerHarness


def run(harness: PollerHarness, polls: int = 1) -> str:
    return asyncio.run(harness.poll(polls))


def started(harness: PollerHarness) -> PollerHarness:
    """The first start is over, a minute has passed."""
    run(harness, 4)
    return harness
