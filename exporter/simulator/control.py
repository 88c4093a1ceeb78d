"""The control paths under ``/simulator``: truth, faults, incidents, options, clock. Loopback only."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .faults import Fault
from .incidents import INCIDENTS
from .simulation import Simulation
from .truth import Truth, job_facts, rows

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")


class _BadControlError(Exception):
    """A control request cannot be carried out; the text says why."""


class _Begin(msgspec.Struct, forbid_unknown_fields=True):
    incident: str
    duration: float = 60.0


class _Jump(msgspec.Struct, forbid_unknown_fields=True):
    jump: float


class _Rate(msgspec.Struct, forbid_unknown_fields=True):
    rate: float


class _CountFrom(msgspec.Struct, forbid_unknown_fields=True):
    count_from: float


def control_routes(simulation: Simulation) -> list[Route]:
    """Every control path."""
    control = Control(simulation)
    return [
        Route("/simulator", _guarded(control.overview), methods=["GET"]),
        Route("/simulator/truth", _guarded(control.truth), methods=["GET", "POST"]),
        Route("/simulator/faults", _guarded(control.faults), methods=["GET", "POST", "DELETE"]),
        Route("/simulator/incidents", _guarded(control.incidents), methods=["GET", "POST", "DELETE"]),
        Route("/simulator/options", _guarded(control.options), methods=["GET", "POST"]),
        Route("/simulator/clock", _guarded(control.clock), methods=["GET", "POST"]),
        Route("/simulator/rate", _guarded(control.rate), methods=["POST"]),
        Route("/simulator/tokens", _guarded(control.tokens), methods=["DELETE"]),
    ]


class Control:
    """The endpoints."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    async def overview(self, _request: Request) -> Response:
        """What happens at the moment."""
        simulation, now = self._simulation, self._simulation.now()
        return _json(
            {
                "now": now,
                "projects": {
                    project_id: {"listed": len(world.listing), "rate": world.rate}
                    for project_id, world in simulation.worlds.items()
                },
                "requests": [
                    [operation, status, number]
                    for (operation, status), number in sorted(simulation.requests.items())
                ],
                "incidents": [running.name for running in simulation.incidents.running(now)],
            }
        )

    async def truth(self, request: Request) -> Response:
        """``?project_id=&since=&until=&at=&jobs=true``; POST ``{"count_from": seconds}``."""
        simulation = self._simulation
        now = simulation.now()
        name = request.query_params.get("project_id", simulation.world.project_id)
        if name not in simulation.truths:
            raise _BadControlError(f"no such project: {name[:64]}")
        truth = simulation.truths[name]
        if request.method == "POST":
            truth.count_from((await _body(request, _CountFrom)).count_from)
            return _json({"ok": True})
        since = _seconds(request, "since", -math.inf)
        until = _seconds(request, "until", math.inf)
        at = _seconds(request, "at", now)
        wanted = request.query_params.get("jobs") == "true"
        return _json(describe_truth(truth, now, since, until, at, jobs=wanted))

    async def faults(self, request: Request) -> Response:
        """List, add (a fault or a list of them), clear (all or ``?id=``)."""
        faults, now = self._simulation.faults, self._simulation.now()
        if request.method == "POST":
            asked = await _body(request, Fault | list[Fault])  # type: ignore[arg-type]  # a union is no class
            added = [asked] if isinstance(asked, Fault) else asked
            return _json({"ids": [faults.add(fault, now) for fault in added]})
        if request.method == "DELETE":
            wanted = request.query_params.get("id")
            if wanted is None:
                faults.clear()
            elif wanted.isdigit():
                faults.remove(int(wanted))
        return _json({"faults": [[fault_id, fault] for fault_id, fault in faults.items()]})

    async def incidents(self, request: Request) -> Response:
        """List, begin ``{"incident": name, "duration": seconds}``, end all (and the script)."""
        incidents, now = self._simulation.incidents, self._simulation.now()
        if request.method == "POST":
            asked = await _body(request, _Begin)
            if asked.incident not in INCIDENTS:
                raise _BadControlError(f"unknown incident; there are {', '.join(INCIDENTS)}")
            incidents.begin(asked.incident, now, asked.duration)
        elif request.method == "DELETE":
            incidents.stop_all()
        return _json(
            {
                "running": [[running.name, running.end] for running in incidents.running(now)],
                "known": {name: incident.summary for name, incident in INCIDENTS.items()},
            }
        )

    async def options(self, request: Request) -> Response:
        """Show, or change those given."""
        simulation = self._simulation
        if request.method == "POST":
            changed = msgspec.to_builtins(simulation.options) | await _body(request, dict[str, object])
            simulation.options = msgspec.convert(changed, type(simulation.options))
        return _json(simulation.options)

    async def clock(self, request: Request) -> Response:
        """Tell the time, or step the clock: ``{"jump": seconds}``."""
        if request.method == "POST":
            jump = getattr(self._simulation.clock, "jump", None)
            if jump is None:
                raise _BadControlError("this clock cannot be stepped")
            jump((await _body(request, _Jump)).jump)
        return _json({"now": self._simulation.now()})

    async def rate(self, request: Request) -> Response:
        """Change the day's average of jobs per minute, from now on: ``{"rate": 60.0}``."""
        simulation = self._simulation
        asked = await _body(request, _Rate)
        if not 0.0 <= asked.rate < math.inf:
            raise _BadControlError("the rate is a number of jobs per minute, 0 or more")
        simulation.now()
        for world in simulation.worlds.values():
            world.rate = asked.rate
        return _json({"ok": True})

    async def tokens(self, _request: Request) -> Response:
        """Revoke every IAM token."""
        self._simulation.auth.revoke_tokens()
        return _json({"ok": True})


def describe_truth(
    truth: Truth,
    now: float,
    since: float = -math.inf,
    until: float = math.inf,
    at: float | None = None,
    *,
    jobs: bool = True,
) -> dict[str, object]:
    """The truth as it is at ``at`` (default: now), ready for JSON."""
    at = now if at is None else at
    sums = truth.expected(since, None if until == math.inf else until, at)
    described: dict[str, object] = {"now": now, "expected": rows(sums)}
    if jobs:
        described["jobs"] = [job_facts(job, at) for job in truth.jobs(since, until, at)]
    return described


def _guarded(endpoint: Endpoint) -> Endpoint:
    """Refuses what is not from loopback, not JSON, or from a web page (DNS rebinding, too)."""

    async def guarded(request: Request) -> Response:
        host = request.client.host if request.client else ""
        try:
            if not ipaddress.ip_address(host).is_loopback:
                return _json({"error": "loopback only"}, 403)
        except ValueError:
            return _json({"error": "loopback only"}, 403)
        if "origin" in request.headers:  # browsers send it; no page of ours asks for anything here
            return _json({"error": "not for web pages"}, 403)
        if request.method == "POST" and not request.headers.get("content-type", "").startswith(
            "application/json"
        ):
            return _json({"error": "send application/json"}, 415)
        try:
            return await endpoint(request)
        except (_BadControlError, msgspec.MsgspecError, ValueError) as error:
            return _json({"error": str(error)}, 400)

    return guarded


async def _body(request: Request, kind: type[T]) -> T:
    return msgspec.json.decode(await request.body(), type=kind)


def _seconds(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name)
    return default if text is None else float(text)


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, {"content-type": "application/json"})
