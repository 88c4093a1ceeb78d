"""What goes wrong on the wire, seen from the other end of a real loopback connection."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from benchmarks.simulator import OneWriteProtocol
from exporter.simulator.api import build_app
from exporter.simulator.faults import Fault, Faults, Kind
from exporter.simulator.life import SERVICES
from exporter.simulator.server import serve_simulator
from exporter.simulator.simulation import Options, Simulation

from .support import JOBS, NOON, Wall, ask, open_simulation, signed, small_world

pytestmark = pytest.mark.program

Conversation = Callable[[httpx.AsyncClient], Awaitable[Any]]


async def no_sleep(_seconds: float) -> None:
    """Time does not pass in here."""


def broken(*faults: Fault, options: Options | None = None) -> tuple[Simulation, Wall]:
    """A simulation in which this goes wrong."""
    world, wall = small_world(minutes=5)
    simulation = open_simulation(world, wall, options)
    simulation.sleep = no_sleep
    for fault in faults:
        simulation.faults.add(fault, NOON)
    return simulation, wall


def test_head_and_body_arrive_together() -> None:
    """In benchmarks an answer is sent in one piece: a client that reads once has all of it."""
    simulation, _ = broken()
    simulation.auth.required = False

    def read_once(address: str) -> bytes:
        host, port = address.removeprefix("http://").split(":")
        path = f"/v1/{simulation.world.project_id}/ttsc/tts-jobs?limit=1"
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            return connection.recv(65536)

    async def run() -> bytes:
        async with serve_simulator(build_app(simulation), protocol=OneWriteProtocol) as address:
            # In a thread: a client in the same event loop would look only after both were sent.
            return await asyncio.to_thread(read_once, address)

    head, _, body = asyncio.run(run()).partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert body.endswith(b"}")


def over_the_wire(simulation: Simulation, conversation: Conversation) -> Any:
    """Run a conversation over a real connection."""

    async def run() -> Any:
        async with (
            serve_simulator(build_app(simulation)) as address,
            httpx.AsyncClient(base_url=address, trust_env=False, timeout=5.0) as client,
        ):
            return await conversation(client)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "status", "headers", "body"),
    [
        (Fault(kind="throttle"), 429, {"retry-after": None}, "APIG.0308"),
        (Fault(kind="throttle", retry_after=7), 429, {"retry-after": "7"}, "limit:20,time:1 second"),
        (
            Fault(kind="throttle", retry_after=7, retry_after_date=True),
            429,
            {"retry-after": "Thu, 09 Oct 2025 08:53:27 GMT"},
            "throttling threshold",
        ),
        (Fault(kind="error"), 503, {"content-type": "application/json;charset=UTF-8"}, "Backend unavailable"),
        (Fault(kind="error", status=504, code="APIG.0202"), 504, {}, "APIG.0202"),
        (Fault(kind="html", status=502), 502, {"content-type": "text/html"}, "<html>"),
        (Fault(kind="error_200", code="MSS.000000002"), 200, {}, '"error_code":"MSS.000000002"'),
        (Fault(kind="empty"), 200, {}, '{"count":0,"data":[]}'),
        (Fault(kind="empty_body"), 200, {"content-length": "0"}, ""),
        (Fault(kind="redirect"), 302, {"location": "https://elsewhere.invalid/"}, ""),
        (Fault(kind="null_data"), 200, {}, '"data":null'),
        (Fault(kind="gzip"), 200, {"content-encoding": "gzip"}, '"data":[{"job_id"'),
        (Fault(kind="huge", size=100_000), 200, {}, "x" * 100_000),
        (Fault(kind="drip"), 200, {}, '"data":[{"job_id"'),
        (Fault(kind="slow"), 200, {}, '"data":[{"job_id"'),
        (Fault(kind="date_missing"), 200, {"date": None}, ""),
        (Fault(kind="date_text", message="soon"), 200, {"date": "soon"}, ""),
        (Fault(kind="date_skew", seconds=-3600), 200, {"date": "Thu, 09 Oct 2025 07:53:20 GMT"}, ""),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_answers(fault: Fault, status: int, headers: dict[str, str | None], body: str) -> None:
    """Each of these faults gives the answer that its name promises, dated and numbered."""
    answer = over_the_wire(broken(fault)[0], lambda client: client.get(JOBS))
    assert answer.status_code == status
    assert body in answer.text
    assert {name: answer.headers.get(name) for name in headers} == headers
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("reset", httpx.ReadError),
        ("cut", httpx.RemoteProtocolError),
        ("cut_chunked", httpx.RemoteProtocolError),
        ("hang", httpx.ReadTimeout),
    ],
)
def test_broken_connections(kind: Any, error: type[Exception]) -> None:
    """Resets, cut bodies and hangs are what the client sees; the next request is answered."""
    simulation, _ = broken(Fault(kind=kind, times=1))

    async def conversation(client: httpx.AsyncClient) -> int:
        with pytest.raises(error):
            await client.get(JOBS, timeout=0.3)
        return (await client.get(JOBS)).status_code

    assert over_the_wire(simulation, conversation) == 200
    assert simulation.requests["list_jobs", "none"] == 1
    assert simulation.requests["list_jobs", "200"] == 1


def test_invalid_json_has_a_fitting_length() -> None:
    """Invalid JSON arrives whole, as far as HTTP is concerned."""
    answer = over_the_wire(broken(Fault(kind="invalid_json"))[0], lambda client: client.get(JOBS))
    assert answer.status_code == 200
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        answer.json()


def test_faults_combine() -> None:
    """Padding and compression make an answer that is small on the wire and large when decompressed."""
    simulation, _ = broken(Fault(kind="huge", size=1 << 20), Fault(kind="gzip"))

    async def conversation(client: httpx.AsyncClient) -> bytes:
        async with client.stream("GET", JOBS) as answer:
            return b"".join([chunk async for chunk in answer.aiter_raw()])

    raw = over_the_wire(simulation, conversation)
    assert len(raw) < 20_000
    assert len(gzip.decompress(raw)) > 1 << 20


def test_a_cached_date() -> None:
    """A frozen Date stays where it was when the fault began, and Age tells when asked to."""
    simulation, wall = broken(Fault(kind="date_frozen", age=True))
    wall.now += 90
    answer = ask(simulation)
    assert (answer.headers["date"], answer.headers["age"]) == ("Thu, 09 Oct 2025 08:53:20 GMT", "90")


def test_a_real_rate_limit() -> None:
    """So many requests within the window are answered, more are throttled, and the window moves on."""
    simulation, wall = broken(Fault(kind="rate_limit", limit=3, window=10.0))
    statuses = [ask(simulation).status_code for _ in range(5)]
    wall.now += 10.0
    assert [*statuses, ask(simulation).status_code] == [200, 200, 200, 429, 429, 200]


def test_time_operation_and_times() -> None:
    """A fault fires within its time, for its operation, so often, and is gone afterwards."""
    faults = Faults(random.Random(0))
    faults.add(Fault(kind="empty", start=10.0, duration=5.0), 0.0)
    faults.add(Fault(kind="html", operation="get_job", times=2), 0.0)

    def kinds(operation: str, now: float) -> list[str]:
        return [fault.kind for fault in faults.firing(operation, now)]

    assert kinds("list_jobs", 9.0) == []
    assert kinds("list_jobs", 10.0) == ["empty"]
    assert kinds("get_job", 14.9) == ["empty", "html"]
    assert kinds("get_job", 15.0) == ["html"]
    assert kinds("get_job", 16.0) == []
    assert faults.items() == []


def test_probability() -> None:
    """A fault fires about as often as its probability says, and the same way for the same seed."""

    def run() -> list[bool]:
        faults = Faults(random.Random(1))
        faults.add(Fault(kind="empty", probability=0.3), 0.0)
        return [bool(faults.firing("list_jobs", 1.0)) for _ in range(1000)]

    assert 250 < sum(run()) < 350
    assert run() == run()


def test_faults_over_http() -> None:
    """Faults are added, listed and cleared over the control path, which itself never fails."""
    simulation, _ = broken()
    path = "/simulator/faults"
    added = ask(simulation, path, "POST", json=[{"kind": "reset"}, {"kind": "error", "status": 500}]).json()
    assert len(added["ids"]) == 2
    ask(simulation, path, "DELETE", params={"id": added["ids"][0]})
    assert ask(simulation).status_code == 500
    assert ask(simulation, path, "DELETE").json() == {"faults": []}
    assert ask(simulation).status_code == 200


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_page_drift(order: Any) -> None:
    """Between two pages a record already served vanishes, or another appears next to it: pages shift."""
    vanish, _ = broken(Fault(kind="vanish", times=1), options=Options(order=order))
    before = len(vanish.world.listing)
    first = ask(vanish, params={"limit": 100}).json()["data"]
    gone = [job for job in vanish.world.jobs if job.deleted == NOON]
    assert len(gone) == 1
    assert gone[0].job_id in {record["job_id"] for record in first}
    assert len(vanish.world.listing) == before - 1

    appear, _ = broken(Fault(kind="appear", times=1, seconds=1e9), options=Options(order=order))
    known = {job.job_id for job in appear.world.listing}
    ask(appear, params={"limit": 100})
    new = [job for job in appear.world.listing if job.job_id not in known]
    assert len(new) == 1
    assert new[0].created_ms < NOON * 1000
    assert new[0] in appear.truth.jobs()


def test_records_change_after_they_were_served() -> None:
    """A finished one is shown as PROCESSING, an unfinished one with another service; the truth stays."""
    back, _ = broken(Fault(kind="regress", times=1))
    first, second = (ask(back, params={"limit": 100}).json()["data"] for _ in range(2))
    changed = [(row, then) for row, then in zip(first, second, strict=True) if row != then]
    assert [(row["job_state"] in ("SUCCEED", "FAILED"), then["job_state"]) for row, then in changed] == [
        (True, "PROCESSING")
    ]
    assert {name for row in back.truth.expected().finished for name in row[2:]} <= {"SUCCEED", "FAILED"}

    other, _ = broken(Fault(kind="relabel", times=1))
    job = other.world.add(service="a service of its own")
    shown = [ask(other, params={"job_id": job.job_id}).json()["data"][0] for _ in range(2)]
    first_service, last_service = (row.pop("tts_service_enum") for row in shown)
    assert (first_service, last_service in SERVICES) == (job.tts_service_enum, True)
    assert shown[0] == shown[1]


def test_the_clock_jumps() -> None:
    """The simulator's clock can be stepped, and takes the jobs with it."""
    from exporter.simulator.simulation import new_simulation

    made = new_simulation(wall=Wall(), history=60.0)
    made.auth.required = False
    before = len(made.world.jobs)
    assert ask(made, "/simulator/clock", "POST", json={"jump": 600}).json()["now"] == pytest.approx(
        NOON + 600
    )
    assert len(made.world.jobs) > before + 300
    assert ask(made).headers["date"] == "Thu, 09 Oct 2025 09:03:20 GMT"


def test_time_can_be_compressed() -> None:
    """With a time scale the simulator's clock runs faster from its epoch."""
    from exporter.simulator.simulation import new_simulation

    wall = Wall()
    made = new_simulation(wall=wall, time_scale=60.0, epoch=1e9, history=0.0)
    wall.now += 10.0
    assert made.now() == 1e9 + 600.0


def test_a_late_page_costs_what_the_first_one_does() -> None:
    """Page 100 of a window in a list of 60,000: it is found, not counted up to."""
    world, wall = small_world(minutes=60, rate=1000)
    simulation = open_simulation(world, wall)

    async def conversation(client: httpx.AsyncClient) -> float:
        best = {0: 1e9, 10_000: 1e9}
        for offset in [0, 10_000] * 8:
            params = {"limit": "100", "offset": str(offset), "create_since": str(int(NOON) - 3000)}
            begin = time.perf_counter()
            assert len((await client.get(JOBS, params=params)).json()["data"]) == 100
            best[offset] = min(best[offset], time.perf_counter() - begin)
        return best[10_000] / best[0]

    assert over_the_wire(simulation, conversation) < 5.0


@pytest.mark.parametrize("kind", ["empty", "empty_body", "error_200"])
def test_no_fault_lets_anybody_in(kind: Kind) -> None:
    """An answer that lies behind the gateway goes to those only whom that lets in."""
    world, wall = small_world(minutes=1)
    simulation = Simulation(world, clock=wall)
    simulation.faults.add(Fault(kind=kind), NOON)
    assert ask(simulation, **signed(JOBS)).status_code == 200
    assert ask(simulation, **signed(JOBS, sk="wrong")).status_code == 401
