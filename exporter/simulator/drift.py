"""Changes the list between two pages of a client that reads it, just where it is reading.

A record that is deleted was served just before, so that a client that believes every answer has seen it.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from .faults import Fault
from .job import FAILED, SUCCEED, SimulatedJob
from .world import World

LIST_FAULTS: Final = ("vanish", "appear", "drift")


class _Served(msgspec.Struct):
    job_id: str = ""
    job_state: str = ""


class _ServedPage(msgspec.Struct):
    data: list[_Served] = []


def change_list(world: World, fault: Fault, body: bytes, now: float, rng: random.Random) -> None:
    """Delete one of the records served in ``body``, or list another job next to one of them."""
    served = msgspec.json.decode(body, type=_ServedPage).data
    kind = rng.choice(("vanish", "appear")) if fault.kind == "drift" else fault.kind
    if kind == "vanish":
        ids = [row.job_id for row in served if fault.open_too or row.job_state in (SUCCEED, FAILED)]
        jobs = _jobs(world, ids)
        if jobs:
            world.delete(rng.choice(jobs), now)
        return
    jobs = _jobs(world, [row.job_id for row in served])
    jobs = [job for job in jobs if now - job.created_ms / 1000 < fault.seconds]
    if jobs:
        beside = rng.choice(jobs)
        world.add(
            created=beside.created_ms / 1000,
            job_type=beside.job_type,
            service=beside.tts_service_enum,
            text_length=rng.randint(1, 500),
            finished=now + rng.uniform(0.0, 30.0),
        )


def _jobs(world: World, ids: list[str]) -> list[SimulatedJob]:
    return [job for job in map(world.find, ids) if job is not None]
