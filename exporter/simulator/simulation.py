"""Start reading here: a simulated cloud, put together.

    clock      the time of the simulated cloud; may run faster than ours
    worlds     the jobs of each project, and the ``truth`` about them
    auth       who may call
    options    how the API behaves where the documentation leaves it open
    faults     what goes wrong with requests
    incidents  what goes wrong with jobs, or with everything, by name or by script

``api.build_app`` makes one ASGI application of it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import msgspec

from .arrivals import WorldOptions
from .auth import Accounts, Authenticator
from .faults import Faults
from .incidents import Incidents, Script
from .truth import Truth
from .wire import FilterTimeFormat, Rounding, WireStyle, WireTimeFormat
from .world import World

PROJECT_ID = "5a1de0000000000000000000000000a1"
REGION = "cn-north-4"


class Options(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the documentation leaves open. May be changed while running."""

    order: Literal["newest", "oldest", "random"] = "newest"
    """``random``: another order in every answer."""
    time_filters_work: bool = True
    filter_time_formats: tuple[FilterTimeFormat, ...] = ("rfc3339", "unix", "unix_ms")
    """The formats in which ``create_since`` and ``create_until`` are understood."""
    other_filter_times: Literal["refused", "ignored"] = "refused"
    """What happens to a bound in another format."""
    filter_zone_ignored: bool = False
    """A bound in RFC 3339 is taken for a time in ``zone_hours``, whatever zone it names."""
    ignored_filters: tuple[Literal["job_id", "job_type", "tts_service_enum", "business_type"], ...] = ()
    """Filters without effect."""
    since_inclusive: bool = True
    until_inclusive: bool = True
    count: Literal["records", "page", "none", "zero"] = "records"
    """What ``count`` is: the number of records, of those on the page, left out, or always 0."""
    count_respects_filters: bool = True
    """``False``: ``count`` is the number of all records of the project."""
    largest_limit: int = 100
    """A request with a larger ``limit`` is refused."""
    limit_clip: int | None = None
    """Pages silently hold at most this many."""
    offset_counts: Literal["records", "pages", "nothing"] = "records"
    """``pages``: of ``limit`` records, the first is 0; ``nothing``: every page is the first."""
    max_offset: int | None = None
    """Records behind this many are never served."""
    deep_offsets: Literal["empty", "refused"] = "empty"
    """The answer to an ``offset`` of ``max_offset`` or more."""
    count_stops_at_max_offset: bool = False
    isolated: bool = False
    """The account isolates IAM users, and whoever asks is one: other users' jobs are not listed."""
    own_share: float = 0.0
    """The share of jobs that belong to whoever asks, where that is an isolated IAM user."""
    app_user_id_filters: bool = False
    """A request with ``X-App-UserId`` lists the jobs of that user only: half of all."""
    service_configs: Literal["shown", "denied", "missing"] = "shown"
    """The answer to a request for the settings of the tenant, which say whether users are isolated."""
    preload_filter: bool = False
    """Accept ``job_type=PRELOAD``, which is documented in answers only."""
    time_format: WireTimeFormat = "rfc3339"
    create_time_rounding: Rounding = "down"
    """How a creation time that is stored to the millisecond is shown by a format of whole seconds."""
    zone_hours: float = 0.0
    zone: str = ""
    """IANA name of the zone that times are written in, with its daylight saving."""
    files: bool = True
    metadata_tokens: Literal["supported", "required", "unsupported"] = "supported"
    agency: bool = True
    """``False``: the machine has no agency, and so no keys."""

    @property
    def style(self) -> WireStyle:
        return WireStyle(self.time_format, self.zone_hours, self.files, self.create_time_rounding, self.zone)


class Clock:
    """The simulator's clock: seconds since 1970 UTC, ``scale`` times as fast as ``wall``, from ``epoch``."""

    def __init__(
        self, wall: Callable[[], float] = time.time, *, scale: float = 1.0, epoch: float | None = None
    ) -> None:
        self.scale = scale
        self._wall = wall
        self._wall_zero = wall()
        self._epoch = self._wall_zero if epoch is None else epoch

    def __call__(self) -> float:
        return self._epoch + (self._wall() - self._wall_zero) * self.scale

    def jump(self, seconds: float) -> None:
        """Step the clock. Stepping it back undoes nothing."""
        self._epoch += seconds


class Simulation:
    """One simulated cloud."""

    def __init__(
        self,
        worlds: World | Iterable[World],
        options: Options | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        script: Script | None = None,
        seed: int | str = 0,
    ) -> None:
        """``clock`` returns the simulated time; ``sleep`` takes real seconds, for slow answers."""
        self.worlds = {w.project_id: w for w in ([worlds] if isinstance(worlds, World) else worlds)}
        self.truths = {project_id: Truth(world) for project_id, world in self.worlds.items()}
        self.options = options or Options()
        self.clock = clock
        self.sleep = sleep
        names = [REGION] + [f"{REGION}_{number}" for number in range(1, len(self.worlds))]
        self.auth = Authenticator(Accounts(projects=dict(zip(self.worlds, names, strict=True))))
        self.rng = random.Random(f"{seed}/answers")  # noqa: S311  a simulation, not a secret
        self.faults = Faults(random.Random(f"{seed}/faults"))  # noqa: S311  a simulation, not a secret
        self.incidents = Incidents(self.worlds.values(), self.faults, script, start=clock())
        self.requests: Counter[tuple[str, str]] = Counter()
        """Answers by operation and HTTP status (``none``: no whole answer was sent)."""
        self._request_number = 0

    @property
    def world(self) -> World:
        """The first project's."""
        return next(iter(self.worlds.values()))

    @property
    def truth(self) -> Truth:
        """The first project's."""
        return next(iter(self.truths.values()))

    def now(self) -> float:
        """The simulated time, after everything has happened that happens until then."""
        now = self.clock()
        self.incidents.advance(now)
        for world in self.worlds.values():
            world.advance(now)
        return now

    def next_request_id(self) -> str:
        """Unique, and as long as a real one."""
        self._request_number += 1
        return f"{self.rng.getrandbits(96):024x}{self._request_number:08x}"


def new_simulation(
    *,
    seed: int | str = 0,
    rate: float = 60.0,
    history: float = 7200.0,
    projects: tuple[str, ...] = (PROJECT_ID,),
    options: Options | None = None,
    world_options: WorldOptions | None = None,
    script: Script | None = None,
    time_scale: float = 1.0,
    epoch: float | None = None,
    wall: Callable[[], float] = time.time,
) -> Simulation:
    """An ordinary simulation that began ``history`` seconds ago."""
    clock = Clock(wall, scale=time_scale, epoch=epoch)
    start = clock() - history
    worlds = [
        World(seed, start=start, rate=rate, project_id=project_id, options=world_options)
        for project_id in projects
    ]
    simulation = Simulation(worlds, options, clock=clock, script=script, seed=seed)
    # A client signs by its own clock, which is not faster: it may be behind by as much of its time as ever.
    simulation.auth.date_tolerance *= max(1.0, time_scale)
    return simulation
