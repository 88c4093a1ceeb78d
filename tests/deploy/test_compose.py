"""compose.yaml: its parts fit together. What a container engine would start is started here as processes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from testkit.processes import free_port, get, wait_for
from tests.conftest import Tool
from tests.deploy.files import COMPOSE, DOCKERFILE, ROOT, STATE, USER, load
from tests.prometheus.stack import program

SERVICES = load(COMPOSE)["services"]
FOLDER = ROOT / "deploy" / "compose"


def mounts(service: str) -> dict[str, Path]:
    """Place in the container -> place in this repository."""
    volumes = (volume.split(":") for volume in SERVICES[service]["volumes"])
    return {inside: ROOT / outside for outside, inside, _ in volumes}


def test_everything_that_is_mounted_exists() -> None:
    """Otherwise an engine makes an empty folder of that name."""
    for service in (name for name, settings in SERVICES.items() if "volumes" in settings):
        assert all(path.exists() for path in mounts(service).values()), service


@pytest.mark.parametrize("service", SERVICES)
def test_nothing_has_more_rights_than_it_needs(service: str) -> None:
    """A root that cannot be written, no capabilities, and ports for this machine only."""
    settings = SERVICES[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in settings.get("ports", ()))
    assert all(volume.endswith(":ro") for volume in settings.get("volumes", ()))


def test_images_are_of_a_certain_version() -> None:
    """Ours is built here; the others do not change under us."""
    assert SERVICES["exporter"]["build"] == "."
    assert DOCKERFILE.parent == COMPOSE.parent
    ours = SERVICES["exporter"]["image"]
    images = [settings["image"] for settings in SERVICES.values() if settings["image"] != ours]
    assert len(images) == 4
    assert all(re.fullmatch(r"[a-z/]+:(v?\d+\.\d+\.\d+|\d\d\.\d+)", image) for image in images)


def test_the_exporter_may_write_where_its_image_does() -> None:
    """The temporary books belong to the image's user."""
    assert SERVICES["exporter"]["tmpfs"] == [f"{STATE}:uid={USER},gid={USER},mode=0750"]


def test_grafana_finds_its_dashboards_and_its_prometheus() -> None:
    """Provisioning names the places that are mounted, and the service by its name and port."""
    inside = mounts("grafana")
    provisioning = inside["/etc/grafana/provisioning"]
    sources = [load(path)["datasources"][0] for path in provisioning.glob("datasources/*.y*ml")]
    assert [source["url"] for source in sources] == ["http://prometheus:9090"]
    providers = [load(path)["providers"][0] for path in provisioning.glob("dashboards/*.y*ml")]
    assert [provider["options"]["path"] in inside for provider in providers] == [True]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, name = home.rpartition("/")
    assert (inside[folder] / name).is_file()


def test_prometheus_reads_often_enough_for_the_dashboards() -> None:
    """The data source promises an interval; the scrapes keep it."""
    source = load(next((ROOT / "grafana" / "provisioning" / "datasources").glob("*.yaml")))["datasources"][0]
    config = load(FOLDER / "prometheus.yml")
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_alertmanager_accepts_its_configuration(tool: Tool) -> None:
    """By its own checker."""
    done = subprocess.run(
        [tool("amtool"), "check-config", FOLDER / "alertmanager.yml"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


def command(service: str, changes: dict[str, str | Path]) -> list[str]:
    """The service's flags, some with another value."""
    flags = [flag for flag in SERVICES[service]["command"] if flag.partition("=")[0] not in changes]
    return [*flags, *(f"{name}={value}" for name, value in changes.items())]


def ask(url: str) -> Any:
    text = get(url)
    return None if text is None else json.loads(text)["data"]


@pytest.mark.e2e
def test_the_parts_work_together(release: Tool, tmp_path: Path) -> None:
    """As compose.yaml starts them: Prometheus scrapes the demo, evaluates every rule, has whom to tell."""
    exporter, prometheus, alertmanager = (f"127.0.0.1:{free_port()}" for _ in range(3))
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8").replace("15s", "1s")
    text = text.replace("exporter:10047", exporter).replace("alertmanager:9093", alertmanager)
    text = text.replace("localhost:9090", prometheus)
    config = tmp_path / "prometheus.yml"
    config.write_text(text, encoding="utf-8")
    (tmp_path / "rules").mkdir()
    for path in mounts("prometheus")["/etc/prometheus/rules"].iterdir():
        hurried = re.sub(
            r"^( +interval): \S+$", r"\1: 1s", path.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        (tmp_path / "rules" / path.name).write_text(hurried, encoding="utf-8")
    demo = [sys.executable, "-m", "exporter", *SERVICES["exporter"]["command"]]
    served = {"--config.file": config, "--storage.tsdb.path": tmp_path / "data"}
    flags = {"--config.file": FOLDER / "alertmanager.yml", "--storage.path": tmp_path / "alerts"}
    processes = {
        "exporter": [*demo, f"--web.listen-address={exporter}"],
        "prometheus": [
            release("prometheus"),
            *command("prometheus", {**served, "--web.listen-address": prometheus}),
        ],
        "alertmanager": [
            release("prometheus-alertmanager"),
            *command("alertmanager", {**flags, "--web.listen-address": alertmanager}),
        ],
    }
    with ExitStack() as ends:
        for name, arguments in processes.items():
            ends.enter_context(program(arguments, tmp_path / f"{name}.log"))
        api = f"http://{prometheus}/api/v1"
        wait_for("both targets", lambda: up(ask(f"{api}/targets?state=active")))
        wait_for("the Alertmanager", lambda: (ask(f"{api}/alertmanagers") or {}).get("activeAlertmanagers"))
        rules = wait_for("the rules", lambda: evaluated(ask(f"{api}/rules")))
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}


def up(targets: Any) -> bool:
    found = {target["labels"]["job"]: target["health"] for target in (targets or {}).get("activeTargets", ())}
    return found == {"metastudio-tts": "up", "prometheus": "up"}


def evaluated(groups: Any) -> list[Any] | None:
    """Every rule, once each has been evaluated."""
    rules = [rule for group in (groups or {}).get("groups", ()) for rule in group["rules"]]
    return rules if rules and all(rule["health"] != "unknown" for rule in rules) else None
