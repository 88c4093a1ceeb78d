"""The manifests agree with each other, with the image and with the program."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.cli import DEFAULT_LISTEN
from exporter.config import AkskAuth, load_config
from exporter.web.lifecycle import HEALTHY_PATH, READY_PATH
from tests.conftest import Tool
from tests.deploy.files import CONFIG, KUBERNETES, ROOT, STATE, USER, load

PORT = int(DEFAULT_LISTEN.removeprefix(":"))
NAME = "metastudio-tts-exporter"
SELECTOR = {"matchLabels": {"app.kubernetes.io/name": NAME}}
RULE = KUBERNETES / "operator" / "prometheusrule.yaml"

CONFIG_MAP = load(KUBERNETES / "configmap.yaml")
DEPLOYMENT = load(KUBERNETES / "deployment.yaml")
SECRET = load(KUBERNETES / "secret.yaml.example")
POD = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
MOUNTS = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}


def test_everything_has_the_same_name_and_label() -> None:
    """So that each selector finds the pod, and Prometheus gets the job name that the alerts expect."""
    files = [*KUBERNETES.rglob("*.yaml"), KUBERNETES / "secret.yaml.example"]
    for path in files:
        metadata = load(path)["metadata"]
        assert metadata == {"name": NAME, "labels": SELECTOR["matchLabels"]}, path
    selectors = [
        DEPLOYMENT["spec"]["selector"],
        {"matchLabels": DEPLOYMENT["spec"]["template"]["metadata"]["labels"]},
        {"matchLabels": load(KUBERNETES / "service.yaml")["spec"]["selector"]},
        load(KUBERNETES / "networkpolicy.yaml")["spec"]["podSelector"],
        load(KUBERNETES / "poddisruptionbudget.yaml")["spec"]["selector"],
        load(KUBERNETES / "operator" / "servicemonitor.yaml")["spec"]["selector"],
    ]
    assert selectors == [SELECTOR] * len(selectors)


def test_the_port_has_one_name() -> None:
    """Container, service, policy and monitor speak of the port that the exporter listens on."""
    service = load(KUBERNETES / "service.yaml")["spec"]["ports"][0]
    policy = load(KUBERNETES / "networkpolicy.yaml")["spec"]["ingress"][0]["ports"][0]
    monitor = load(KUBERNETES / "operator" / "servicemonitor.yaml")["spec"]["endpoints"][0]
    assert CONTAINER["ports"] == [{"name": "metrics", "containerPort": PORT}]
    assert (service["name"], service["port"], service["targetPort"]) == ("metrics", PORT, "metrics")
    assert policy["port"] == monitor["port"] == "metrics"
    probes = {kind: CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": HEALTHY_PATH,
        "liveness": HEALTHY_PATH,
        "readiness": READY_PATH,
    }


def test_one_writer() -> None:
    """SQLite has one process: the old pod ends before the new one begins."""
    assert DEPLOYMENT["spec"]["replicas"] == 1
    assert DEPLOYMENT["spec"]["strategy"] == {"type": "Recreate"}
    assert load(KUBERNETES / "poddisruptionbudget.yaml")["spec"]["maxUnavailable"] == 1


def test_no_privileges() -> None:
    """The image's user, a root that cannot be written, nothing of the cluster."""
    assert POD["securityContext"]["runAsUser"] == POD["securityContext"]["fsGroup"] == USER
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = [mount["mountPath"] for mount in CONTAINER["volumeMounts"] if not mount.get("readOnly")]
    assert writable == [STATE]


def test_the_version_is_ours() -> None:
    """The image is tagged with the version that these manifests belong to."""
    assert CONTAINER["image"] == f"registry.example.com/{NAME}:{__version__}"


def test_the_configuration_is_complete(tmp_path: Path) -> None:
    """It loads, its books are in the claim, and each secret it names is in the example."""
    text = CONFIG_MAP["data"]["exporter.yaml"]
    for name, value in SECRET["stringData"].items():
        assert f"{MOUNTS['secrets']}/{name}" in text
        (tmp_path / name).write_text(value, encoding="utf-8")
    config = tmp_path / "exporter.yaml"
    config.write_text(text.replace(MOUNTS["secrets"], str(tmp_path)), encoding="utf-8")
    loaded = load_config(config)
    assert isinstance(loaded.targets[0].auth, AkskAuth)
    assert loaded.storage.url.startswith(f"sqlite:///{MOUNTS['books']}/")
    assert (
        f"--config.file={MOUNTS['config']}/exporter.yaml" == f"--config.file={CONFIG}" == CONTAINER["args"][0]
    )


def test_the_example_secret_is_never_applied_with_its_folder() -> None:
    """Nor the operator's kinds where there is none: kubectl takes .yaml, .yml and .json of one folder."""
    folder = [
        load(path)["kind"] for path in KUBERNETES.iterdir() if path.suffix in (".yaml", ".yml", ".json")
    ]
    assert "Secret" not in folder
    assert not {"ServiceMonitor", "PrometheusRule"} & set(folder)


@pytest.fixture(scope="module")
def rule() -> Any:
    return load(RULE)


def test_the_rules_are_those_of_prometheus(rule: Any) -> None:
    """Written again, the file is the same (``make manifests``), and no group got lost on the way."""
    script = ROOT / "deploy" / "manifests.py"
    done = subprocess.run([sys.executable, script, "--print"], capture_output=True, timeout=30, check=True)
    assert RULE.read_text(encoding="utf-8") == done.stdout.decode(), "run `make manifests`"
    files = sorted((ROOT / "prometheus" / "rules").glob("*.yaml"))
    assert rule["spec"] == {"groups": [group for path in files for group in load(path)["groups"]]}
    assert rule["kind"] == "PrometheusRule"


def test_prometheus_accepts_the_rules(rule: Any, release: Tool, tmp_path: Path) -> None:
    """As the operator would hand them over."""
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]), encoding="utf-8")
    done = subprocess.run(
        [release("promtool"), "check", "rules", path], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
