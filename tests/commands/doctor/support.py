"""The simulator's API in this process, with a clock that moves when somebody sleeps.

Doctor and the exporter ask it by the real client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import msgspec

from exporter.cloud.client import Client
from exporter.cloud.shared_limits import SharedLimits
from exporter.commands.doctor.asking import Asker, AskEvents, Heard
from exporter.commands.doctor.examine import examine_facts
from exporter.commands.doctor.facts import Facts
from exporter.commands.doctor.findings import Finding
from exporter.commands.doctor.interview import Interview
from exporter.config import AkskAuth, Config, Filters, Secret, StorageConfig, TargetConfig
from exporter.simulator.api import build_app
from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from exporter.simulator.simulation import PROJECT_ID, Options, Simulation
from exporter.simulator.world import World
from tests.cloud.harness import client_of

ENDPOINT: Final = "https://metastudio.test"
NOON: Final = 1_760_000_000.0
LATENCY: Final = 0.05
"""Seconds that a request takes."""


class MovingTime:
    """Ours and the API's: moves when somebody sleeps, and with each request."""

    def __init__(self) -> None:
        self.now = NOON

    def monotonic(self) -> float:
        return self.now - NOON + 1000.0

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class SimulatedCloud:
    """One simulated API. ``options`` and ``world`` as the simulator's flags have them."""

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        world: Mapping[str, Any] | None = None,
        *,
        rate: float = 12.0,
        hours: float = 2.0,
        seed: int = 1,
    ) -> None:
        self.time = MovingTime()
        self.world = World(
            seed,
            start=NOON - hours * 3600,
            rate=rate,
            project_id=PROJECT_ID,
            options=msgspec.convert({"rhythm": 0.0, "stuck": 0.0, **(world or {})}, WorldOptions),
        )
        self.simulation = Simulation(
            self.world,
            msgspec.convert(dict(options or {}), Options),
            clock=self.time.wall,
            sleep=self.time.sleep,
        )
        self.simulation.now()
        self.app = build_app(self.simulation)
        self.requests: list[httpx.Request] = []
        self.ours_is_ahead = 0.0
        self.heard: Heard = lambda *_: None
        self.on_answer: Callable[[str], None] = lambda _: None
        self.first: dict[str, Finding] = {}

    def transport(self) -> httpx.AsyncBaseTransport:
        inner = httpx.ASGITransport(app=self.app)

        async def handle(request: httpx.Request) -> httpx.Response:
            self.requests.append(request)
            self.time.now += LATENCY
            answer = await inner.handle_async_request(request)
            await answer.aread()
            self.on_answer(answer.text)
            return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

        return httpx.MockTransport(handle)

    def client(self, target: TargetConfig, events: Any = None) -> Client:
        return client_of(
            target,
            events=events or AskEvents(),
            shared=SharedLimits(
                claims=None, monotonic=self.time.monotonic, wall=self.ours, sleep=self.time.sleep
            ),
            environ={},
            monotonic=self.time.monotonic,
            wall=self.ours,
            sleep=self.time.sleep,
            jitter=lambda: 0.5,
            transport=self.transport(),
        )

    def ours(self) -> float:
        """The clock of the machine that asks."""
        return self.time.wall() + self.ours_is_ahead

    def facts(self, **target: Any) -> Facts:
        """What doctor learns of it, for a target with these settings."""
        settings = new_target(**target)

        async def ask() -> Facts:
            events = AskEvents()
            asked = msgspec.structs.replace(settings, rate_limit=settings.rate_limit / 2)
            client = self.client(asked, events)
            asker = Asker(client, asked, heard=self.heard, monotonic=self.time.monotonic, wall=self.ours)
            try:
                facts = await Interview(configuration(settings), settings, asker, events).run()
                facts.project_id = client.project_id or ""
                return facts
            finally:
                await client.aclose()

        return asyncio.run(ask())

    def findings(self, **target: Any) -> dict[str, Finding]:
        """By name."""
        return {finding.name: finding for finding in examine_facts(self.facts(**target))}


def new_target(**settings: Any) -> TargetConfig:
    settings = {"rate_limit": 50.0, **settings}
    if "filters" in settings:
        settings["filters"] = Filters(**settings["filters"])
    return TargetConfig(
        **{
            "name": "t",
            "region": "cn-north-4",
            "endpoint": ENDPOINT,
            "iam_endpoint": ENDPOINT,
            "project_id": PROJECT_ID,
            "auth": AkskAuth(Secret(ACCESS_KEY), Secret(SECRET_KEY)),
            **settings,
        }
    )


def configuration(*targets: TargetConfig) -> Config:
    return Config(storage=StorageConfig(), targets=targets)
