"""Hands and eyes of the simulator's tests: a clock that stands still, and clients without a network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import msgspec

from exporter.simulator.api import build_app
from exporter.simulator.arrivals import WorldOptions
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY, RawRequest, signature_of
from exporter.simulator.simulation import PROJECT_ID, Options, Simulation
from exporter.simulator.world import World

NOON = 1_760_000_000.0
"""When most tests take place."""
JOBS = f"/v1/{PROJECT_ID}/ttsc/tts-jobs"
T = TypeVar("T")


class Wall:
    """A clock that goes only when it is told to."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def small_world(
    seed: int = 1, *, minutes: float = 10.0, rate: float = 60.0, **options: bool | float
) -> tuple[World, Wall]:
    """A world with some minutes behind it, and its clock."""
    world = World(
        seed,
        start=NOON - minutes * 60.0,
        rate=rate,
        project_id=PROJECT_ID,
        options=msgspec.convert({"rhythm": 0.0, **options}, WorldOptions),
    )
    world.advance(NOON)
    return world, Wall()


def open_simulation(world: World, wall: Callable[[], float], options: Options | None = None) -> Simulation:
    """One that lets everybody in."""
    made = Simulation(world, options, clock=wall)
    made.auth.required = False
    return made


def talk(simulation: Simulation, conversation: Callable[[httpx.AsyncClient], Awaitable[T]]) -> T:
    """Run a conversation with the app, without a network."""

    async def run() -> T:
        transport = httpx.ASGITransport(app=build_app(simulation))
        async with httpx.AsyncClient(transport=transport, base_url="http://metastudio.test") as client:
            return await conversation(client)

    return asyncio.run(run())


def ask(
    simulation: Simulation,
    path: str = JOBS,
    method: str = "GET",
    **request: Any,
) -> httpx.Response:
    """One request, without a network."""
    return talk(simulation, lambda client: client.request(method, path, **request))


def list_all(simulation: Simulation, **params: str | int) -> list[dict[str, Any]]:
    """Every record, page by page."""

    async def pages(client: httpx.AsyncClient) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        while True:
            answer = await client.get(JOBS, params={"limit": 100, "offset": len(records), **params})
            assert answer.status_code == 200, answer.text
            page = answer.json()["data"]
            if not page:
                return records
            records += page

    return talk(simulation, pages)


def signed(
    path: str,
    params: dict[str, str] | None = None,
    *,
    now: float = NOON,
    ak: str = ACCESS_KEY,
    sk: str = SECRET_KEY,
    project_id: str | None = PROJECT_ID,
    **extra: str,
) -> dict[str, Any]:
    """Arguments of a GET request signed with AK/SK."""
    query = urlencode(sorted((params or {}).items()))
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    headers = {"host": "metastudio.test", "x-sdk-date": date} | {
        name.replace("_", "-"): value for name, value in extra.items()
    }
    if project_id is not None:
        headers["x-project-id"] = project_id
    names = sorted(headers)
    signature = signature_of(RawRequest("GET", path, query, headers), names, date, sk)
    headers["authorization"] = (
        f"SDK-HMAC-SHA256 Access={ak}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return {"path": f"{path}?{query}" if query else path, "headers": headers}
