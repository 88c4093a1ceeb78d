"""Incidents by name, for demonstrations, exercises and tests of alert rules; and scripts of them.

An incident is an effect on the jobs, a fault of requests, or both, for some time. Pure: ``now`` is an
argument.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from .arrivals import Effect
from .faults import Fault, Faults
from .world import World


class Incident(NamedTuple):
    """What happens."""

    summary: str
    effect: Effect | None = None
    fault: Fault | None = None


_REFUSED: Final = "Incorrect IAM authentication information: verify aksk signature fail"
_ARREARS: Final = Effect(fail_share=0.9, fail_kind="billing_quota")
_REMOVED: Final = Effect(fail_share=0.95, fail_kind="voice_asset", fail_service="GPU_CLONE")
_BACKEND: Final = Fault(kind="error", status=503, code="APIG.0201", message="Backend unavailable")
_CREDENTIALS: Final = Fault(kind="error", status=401, code="APIG.0301", message=_REFUSED)
_TIMEOUT: Final = Fault(
    kind="error", status=504, code="APIG.0202", message="Backend timeout", probability=0.4
)

INCIDENTS: Final[dict[str, Incident]] = {
    "failure_burst": Incident("60 % of new jobs fail inside the service", Effect(fail_share=0.6)),
    "sensitive_burst": Incident(
        "35 % of new jobs are refused for their text", Effect(fail_share=0.35, fail_kind="sensitive_content")
    ),
    "voice_removed": Incident("the cloned voices are gone: almost all of their jobs fail", _REMOVED),
    "arrears": Incident("the account is in arrears: 90 % of new jobs fail", _ARREARS),
    "stuck_queue": Incident("nothing starts or ends; afterwards the backlog drains", Effect(stuck=True)),
    "slow_service": Incident("everything takes eight times as long", Effect(slow_factor=8.0)),
    "traffic_spike": Incident("five times as many jobs arrive", Effect(rate_factor=5.0)),
    "silence": Incident("no jobs arrive", Effect(rate_factor=0.0)),
    "throttling": Incident(
        "60 % of requests get 429", None, Fault(kind="throttle", probability=0.6, retry_after=2.0)
    ),
    "outage": Incident("every request gets 503", None, _BACKEND),
    "flaky_gateway": Incident("40 % of requests get 504", None, _TIMEOUT),
    "expired_credentials": Incident("every request gets 401", None, _CREDENTIALS),
    "slow_api": Incident("every answer takes three seconds", None, Fault(kind="slow", delay=3.0)),
}


class Entry(NamedTuple):
    """One line of a script; seconds."""

    start: float
    """After the script's beginning."""
    duration: float
    incident: str


class Script(NamedTuple):
    """Incidents in time."""

    entries: tuple[Entry, ...]
    period: float | None = None
    """Begin again after this many seconds; longer than the last start."""

    def occurrences(self, since: float, until: float) -> Iterator[Entry]:
        """The entries that start in [since, until), which are seconds after the beginning, in order."""
        period = self.period or math.inf
        turn = 0.0 if self.period is None else max(0.0, since // period) * period
        while turn < until:
            for entry in sorted(self.entries):
                if since <= turn + entry.start < until:
                    yield entry._replace(start=turn + entry.start)
            turn += period


DEMO_SCRIPT: Final = Script(
    (
        Entry(45, 90, "failure_burst"),
        Entry(180, 75, "stuck_queue"),
        Entry(330, 60, "throttling"),
        Entry(450, 90, "voice_removed"),
        Entry(600, 60, "traffic_spike"),
        Entry(720, 40, "outage"),
        Entry(840, 90, "slow_service"),
        Entry(990, 60, "sensitive_burst"),
    ),
    period=1140,
)
"""Something to see within a minute, a quiet stretch after each, all of it again every 19 minutes."""


class Running(NamedTuple):
    """An incident under way."""

    name: str
    end: float
    effect: Effect | None
    fault_id: int | None


class Incidents:
    """Starts and ends incidents, by script and by hand."""

    def __init__(
        self, worlds: Iterable[World], faults: Faults, script: Script | None = None, *, start: float
    ) -> None:
        self.script = script
        self.start_time = start
        self._worlds = list(worlds)
        self._faults = faults
        self._scripted_until = start
        self._running: list[Running] = []

    def advance(self, now: float) -> None:
        """Start what the script wants until ``now``; before the worlds advance, so that they see it."""
        soon = math.floor(now) + 1.0  # worlds live whole seconds at once
        self._running = [running for running in self._running if running.end > now]
        if self.script is None or soon <= self._scripted_until:
            return
        since, until = self._scripted_until - self.start_time, soon - self.start_time
        for entry in self.script.occurrences(since, until):
            self.begin(entry.incident, self.start_time + entry.start, entry.duration)
        self._scripted_until = soon

    def begin(self, name: str, at: float, duration: float) -> None:
        """Let the incident happen in [at, at + duration). Raises KeyError for a name that does not exist."""
        incident = INCIDENTS[name]
        effect, fault_id = None, None
        if incident.effect is not None:
            effect = msgspec.structs.replace(incident.effect)
            for world in self._worlds:
                world.schedule(effect, at, at + duration)
        if incident.fault is not None:
            fault = msgspec.structs.replace(incident.fault, start=at, duration=duration)
            fault_id = self._faults.add(fault, at)
        self._running.append(Running(name, at + duration, effect, fault_id))

    def stop_all(self) -> None:
        """End every incident that is under way, and the script."""
        for running in self._running:
            if running.fault_id is not None:
                self._faults.remove(running.fault_id)
            if running.effect is not None:
                for world in self._worlds:
                    world.end_effects(running.effect)
        self._running = []
        self.script = None

    def running(self, now: float) -> list[Running]:
        """What is under way."""
        return [running for running in self._running if running.end > now]
