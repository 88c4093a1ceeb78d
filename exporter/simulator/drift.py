"""Changes the list between two pages of a client that reads it, just where it is reading.

A record that is deleted or changed was served just before: a client that believes every answer has seen it as
it was.
"""

from __future__ import annotations

import random
from typing import Final

import msgspec

from .faults import Fault
from .job import FAILED, SUCCEED, SimulatedJob
from .life import SERVICES
from .world import World

LIST_FAULTS: Final = ("vanish", "appear", "drift", "regress", "relabel")


class _Served(msgspec.Struct):
    job_id: str = ""
    job_state: str = ""


class _ServedPage(msgspec.Struct):
    data: list[_Served] = []


def change_list(world: World, fault: Fault, body: bytes, now: float, rng: random.Random) -> None:
    """Delete or change one of the records served in ``body``, or list another job next to one of them."""
    served = msgspec.json.decode(body, type=_ServedPage).data
    kind = rng.choice(("vanish", "appear")) if fault.kind == "drift" else fault.kind
    finished = [row.job_id for row in served if row.job_state in (SUCCEED, FAILED)]
    unfinished = [row.job_id for row in served if row.job_state not in (SUCCEED, FAILED)]
    if kind == "vanish":
        if jobs := _jobs(world, [*finished, *(unfinished if fault.open_too else ())]):
            world.delete(rng.choice(jobs), now)
    elif kind == "regress":
        if jobs := _jobs(world, finished):
            world.regress(rng.choice(jobs), now)
    elif kind == "relabel":
        if jobs := [job for job in _jobs(world, unfinished) if now < job.finished]:
            world.relabel(rng.choice(jobs), now, rng.choice(list(SERVICES)))
    elif jobs := [
        job for job in _jobs(world, [*finished, *unfinished]) if now - job.created_ms / 1000 < fault.seconds
    ]:
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
