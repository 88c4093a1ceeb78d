"""More targets than a core carries: several processes, each with its part of them (docs/capacity.md)."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from testkit.processes import Exporter, simulator, total, wait_for, write_config

pytestmark = pytest.mark.e2e
PROJECTS = {f"t{number}": f"{number:032x}" for number in range(1, 5)}


def configured(folder: Path, url: str) -> Exporter:
    """In a folder of its own, so with a store of its own."""
    folder.mkdir()
    target = {"region": "cn-north-4", "endpoint": url, "iam_endpoint": url, "rate_limit": 100}
    target["auth"] = {"aksk": {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}}
    targets = [{"name": name, "project_id": project, **target} for name, project in PROJECTS.items()]
    return Exporter(write_config(folder, url, targets=targets), folder)


def created(exporter: Exporter) -> dict[str, float] | None:
    """Jobs by target, of those that this process has."""
    samples = exporter.samples() or {}
    found = {name: total(samples, "metastudio_tts_jobs_created_total", target=name) for name in PROJECTS}
    return {name: jobs for name, jobs in found.items() if jobs} or None


def test_each_shard_goes_on_counting_with_a_copy_of_the_store(tmp_path: Path) -> None:
    """A target keeps its counts in whichever process it is now; the API is away, so they are the old ones."""
    flags = [f"--project={project}" for project in PROJECTS.values()]
    with simulator(tmp_path, "--rate=600", *flags) as url:
        whole = configured(tmp_path / "whole", url)
        shards = [configured(tmp_path / f"shard{number}", url) for number in range(2)]
        whole.start()
        try:
            wait_for("jobs of each", lambda: len(created(whole) or {}) == len(PROJECTS))
            before = created(whole) or {}
            whole.stop()
        finally:
            whole.kill()
    try:
        for number, shard in enumerate(shards):
            shutil.copy(tmp_path / "whole" / "books.db", tmp_path / f"shard{number}" / "books.db")
            shard.start(f"--shard={number}/2")
        parts = [wait_for("the stored counts", partial(created, shard)) for shard in shards]
    finally:
        for shard in shards:
            shard.kill()
    assert sorted(name for part in parts for name in part) == sorted(PROJECTS)
    assert all(jobs >= before[name] for part in parts for name, jobs in part.items())
