"""docs/high-availability.md: what it tells to type does what it says."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest
import yaml

from exporter.ledger import StoredLedger
from exporter.store.postgres import PostgresStore
from testkit.postgres import PostgresServer, server_programs
from tests.conftest import Tool
from tests.deploy.files import ROOT
from tests.fake_api import PollerHarness

PAGE: Final = (ROOT / "docs" / "high-availability.md").read_text(encoding="utf-8")
DATABASE: Final = "metastudio"


def typed(section: str) -> list[list[str]]:
    """The commands of that section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.replace("\\\n", "").splitlines()
    ]


def books(url: str) -> StoredLedger:
    """Everything of the target, and nobody holds it."""
    with closing(PostgresStore(url)) as store:
        stored = store.load("t", "region=cn-north-4", 0, 0)
        store.resign()
    return msgspec.structs.replace(stored, minutes=tuple(sorted(stored.minutes)), by_others=0)


@pytest.mark.slow
def test_a_backup_is_restored(postgres: PostgresServer, tool: Tool, tmp_path: Path) -> None:
    """With the commands as they stand there: afterwards the books are those of the time of the backup."""
    programs = server_programs() or tool("initdb").parent
    environ = {
        **os.environ,
        "PGHOST": str(postgres.folder),
        "PGPORT": str(postgres.port),
        "PGUSER": "postgres",
    }

    def run(command: list[str]) -> None:
        given = [str(programs / command[0]), *command[1:]]
        done = subprocess.run(
            given, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr

    postgres.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
    postgres.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
    url = postgres.url(DATABASE)
    dump, *restore = typed("Backup and restore")
    with closing(PostgresStore(url)) as store:
        harness = PollerHarness(store)
        asyncio.run(harness.poll(3))
        for _ in range(3):
            harness.api.create()
        asyncio.run(harness.poll(3))
        run(dump)
    before = books(url)
    assert before.jobs
    with closing(PostgresStore(url)) as store:
        harness.store = store
        harness.restart()
        harness.api.create()
        asyncio.run(harness.poll(3))
    assert books(url) != before
    for command in restore:
        run(command)
    assert books(url) == before
    postgres.execute(f"DROP DATABASE {DATABASE}")


def test_what_is_applied_in_kubernetes_exists() -> None:
    """Folders of the commands; and the keys of the secret are those that the configuration names."""
    create, *apply = typed("Kubernetes")
    for command in apply:
        assert (ROOT / command[3]).is_dir()
    named = {word.partition("=")[2] for word in create if word.startswith("--from-file=")}
    text = (ROOT / "deploy/kubernetes/overlays/replicas/configmap.yaml").read_text(encoding="utf-8")
    assert named == set(re.findall(r"/run/secrets/metastudio-tts-exporter/([\w-]+)", text))


def test_the_scrape_job_is_one(release: Tool, tmp_path: Path) -> None:
    """Prometheus takes it."""
    blocks = re.findall(r"^```yaml\n(scrape_configs:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (job,) = yaml.safe_load(blocks[0])["scrape_configs"]
    assert job["job_name"].startswith("metastudio-tts")
    (tmp_path / "prometheus.yml").write_text(blocks[0])
    command = [str(release("promtool")), "check", "config", str(tmp_path / "prometheus.yml")]
    subprocess.run(command, capture_output=True, timeout=30, check=True)
