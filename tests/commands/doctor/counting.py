"""The exporter on a simulated API, configured as doctor proposes: does it count what is true?

The real client, reader, poller, ledger and store, on a clock that moves by itself; the lines go through a
configuration file.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from msgspec.structs import replace

from exporter.config import Config, load_config
from exporter.runtime.target import classifier, ledger_scope, ledger_settings, new_reader, poll_settings
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from exporter.simulator.simulation import PROJECT_ID
from exporter.units import SECOND
from testkit.world import FakeClock, TargetHarness, quick_store
from tests.commands.doctor.support import ENDPOINT, MovingTime, SimulatedCloud

MINUTES: Final = 4
"""Of jobs, after the first start; then none for long enough that all are settled."""
POLL: Final = {"interval": "15s", "overlap": "2m", "window": "10m", "timeout": "1m", "max_catch_up": "2h"}


class SimulatedClock(FakeClock):
    """The simulated cloud's clock in milliseconds, as the harness moves it."""

    def __init__(self, time: MovingTime) -> None:
        super().__init__()
        self._time = time

    @property
    def ms(self) -> int:
        return round(self._time.now * SECOND)

    @ms.setter
    def ms(self, value: int) -> None:
        self._time.now = value / SECOND


def config_of(tmp_path: Path, lines: Iterable[str], poll: str = "") -> Config:
    """The configuration of a target with these lines added, and this one of ``poll``, from its file."""
    target: dict[str, Any] = {
        "name": "t",
        "region": "cn-north-4",
        "endpoint": ENDPOINT,
        "iam_endpoint": ENDPOINT,
        "project_id": PROJECT_ID,
        "rate_limit": 50,
        "auth": {"aksk": {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}},
    }
    section = {**POLL, **(yaml.safe_load(poll) or {})} if poll else POLL
    text = yaml.safe_dump({"poll": section, "targets": [target]}, sort_keys=False)
    path = tmp_path / "exporter.yaml"
    path.write_text(text + "".join(f"  {line}\n" for line in lines))
    return load_config(path)


def difference(
    cloud: SimulatedCloud,
    lines: Iterable[str],
    tmp_path: Path,
    *,
    jobs_per_minute: float = 300.0,
    poll: str = "",
) -> str:
    """Where the counts and the truth differ; empty where they do not. ``cloud`` has no jobs yet."""
    config = config_of(tmp_path, lines, poll)
    settings = config.targets[0]
    client = cloud.client(settings)
    harness = TargetHarness(
        client,
        quick_store(Path(tempfile.mkdtemp(dir=tmp_path)) / "books.db"),
        SimulatedClock(cloud.time),
        replace(poll_settings(config, settings), budget=int(settings.rate_limit * config.poll.interval)),
        ledger_settings(config, settings, classifier(config)),
        scope=ledger_scope(settings),
        trust_count=new_reader(client, settings).memory.trust_count,
    )

    async def life() -> None:
        try:
            await harness.poll(12)
            cloud.world.rate = jobs_per_minute
            await harness.poll(4 * MINUTES)
            cloud.world.rate = 0.0
            await harness.poll(60)
        finally:
            await client.aclose()

    asyncio.run(life())
    if not harness.views:
        return "nothing was ever counted"
    sums = cloud.simulation.truth.expected()
    view = harness.view
    told = {
        "created": (_folded(view.created), _folded(sums.created)),
        "finished": (_folded(view.finished), _folded(sums.finished)),
        "characters": (_folded(view.synthesized_characters), _folded(sums.synthesized_characters)),
    }
    if sum(sums.created.values()) < MINUTES * jobs_per_minute / 2:
        return f"too few jobs to judge by: {sum(sums.created.values())}"
    return "; ".join(
        f"{name}: {sum(ours.values())} of {sum(truth.values())}"
        for name, (ours, truth) in told.items()
        if ours != truth
    )


def _folded(sums: Any) -> Counter[tuple[str, ...]]:
    """Without zeros; a label that is none is ``other``."""
    folded: Counter[tuple[str, ...]] = Counter()
    for labels, number in sums.items():
        if number:
            folded[tuple(it if it.isascii() else "other" for it in labels)] += number
    return folded


def fresh_cloud(corner: Any) -> SimulatedCloud:
    """The same API before its first job."""
    world = {**corner.world, "noise": 0.0}
    return SimulatedCloud(corner.options, world, rate=0.0, hours=0.0, seed=7)
