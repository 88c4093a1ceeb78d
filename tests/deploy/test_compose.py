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

from testkit.postgres import PostgresServer
from testkit.processes import free_port, get, parse, total, wait_for
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


@pytest.mark.e2e
def test_the_replicas_work_together(postgres: PostgresServer, tmp_path: Path) -> None:
    """As the profile starts them, each target is polled by one of the three, and all show the same."""
    simulator = free_port()
    text = (FOLDER / "replicas.yaml").read_text(encoding="utf-8")
    database = postgres.tcp_url(postgres.empty_database())
    text = text.replace("postgresql://postgres@database/postgres?sslmode=disable", database)
    text = text.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{simulator}")
    (tmp_path / "exporter.yaml").write_text(text, encoding="utf-8")
    ports = {f"replica-{number}": free_port() for number in (1, 2, 3)}
    python = [sys.executable, "-m", "exporter"]
    names = {target["name"] for target in load(FOLDER / "replicas.yaml")["targets"]}
    with ExitStack() as ends:
        cloud = command("simulator", {"--port": str(simulator)})
        ends.enter_context(program([*python, *cloud], tmp_path / "simulator.log"))
        wait_for("the simulator", lambda: get(f"http://127.0.0.1:{simulator}/simulator/truth"), 60)
        for service, port in ports.items():
            changes: dict[str, str | Path] = {
                "--config.file": tmp_path / "exporter.yaml",
                "--web.listen-address": f"127.0.0.1:{port}",
            }
            ends.enter_context(program([*python, *command(service, changes)], tmp_path / f"{service}.log"))

        def held() -> list[set[str]]:
            scraped = [parse(get(f"http://127.0.0.1:{port}/metrics") or "") for port in ports.values()]
            return [
                {name for name in names if total(samples, "metastudio_exporter_lease_held", target=name)}
                for samples in scraped
                if total(samples, "metastudio_tts_jobs_created_total") > 0
            ]

        wait_for("a target for each", lambda: sorted(map(len, held())) == [1, 1, 1], 90)
        assert set().union(*held()) == names


def test_the_replicas_fit_together() -> None:
    """They listen where the ports of the simulator are published, and where Prometheus looks."""
    replicas = {name: settings for name, settings in SERVICES.items() if name.startswith("replica-")}
    listening = {
        flag.rpartition(":")[2] for each in replicas.values() for flag in each["command"] if ":" in flag
    }
    published = {port.rpartition(":")[2] for port in SERVICES["simulator"]["ports"]}
    jobs = load(FOLDER / "prometheus.yml")["scrape_configs"]
    scraped = {str(found["port"]) for job in jobs for found in job.get("dns_sd_configs", ())}
    assert len(replicas) == 3
    assert listening == published == scraped
    assert {settings["network_mode"] for settings in replicas.values()} == {"service:simulator"}
    assert {settings["image"] for settings in replicas.values()} == {SERVICES["exporter"]["image"]}
    assert {each for name in (*replicas, "simulator", "database") for each in SERVICES[name]["profiles"]} == {
        "replicas"
    }
    url = load(FOLDER / "replicas.yaml")["storage"]["url"]
    assert url.partition("@")[2].partition("/")[0] in SERVICES
