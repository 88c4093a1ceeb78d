"""The manifests agree with each other, with the image and with the program."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter import __version__
from exporter.cli import DEFAULT_LISTEN
from exporter.config import AkskAuth, Config, load_config
from exporter.web.lifecycle import HEALTHY_PATH, READY_PATH
from tests.conftest import Tool
from tests.deploy.files import BASE, CONFIG, KUBERNETES, OVERLAYS, ROOT, STATE, USER, load, manifests

PORT = int(DEFAULT_LISTEN.removeprefix(":"))
NAME = "metastudio-tts-exporter"
SELECTOR = {"matchLabels": {"app.kubernetes.io/name": NAME}}
RULE = KUBERNETES / "operator" / "prometheusrule.yaml"

SINGLE = manifests("single")
REPLICAS = manifests("replicas")
CONFIG_MAP = SINGLE["ConfigMap"]
DEPLOYMENT = SINGLE["Deployment"]
STATEFUL_SET = REPLICAS["StatefulSet"]
SECRET = load(KUBERNETES / "secret.yaml.example")
POD = DEPLOYMENT["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
MOUNTS = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}


def test_everything_has_the_same_name_and_label() -> None:
    """So that each selector finds the pod, and Prometheus gets the job name that the alerts expect."""
    operator = [load(path) for path in (KUBERNETES / "operator").glob("*.yaml")]
    for manifest in [*SINGLE.values(), *REPLICAS.values(), *operator, SECRET]:
        assert manifest["metadata"] == {"name": NAME, "labels": SELECTOR["matchLabels"]}, manifest["kind"]
    spread = STATEFUL_SET["spec"]["template"]["spec"]["topologySpreadConstraints"]
    selectors = [
        DEPLOYMENT["spec"]["selector"],
        STATEFUL_SET["spec"]["selector"],
        *(constraint["labelSelector"] for constraint in spread),
        {"matchLabels": DEPLOYMENT["spec"]["template"]["metadata"]["labels"]},
        {"matchLabels": load(BASE / "service.yaml")["spec"]["selector"]},
        load(BASE / "networkpolicy.yaml")["spec"]["podSelector"],
        load(BASE / "poddisruptionbudget.yaml")["spec"]["selector"],
        load(KUBERNETES / "operator" / "servicemonitor.yaml")["spec"]["selector"],
    ]
    assert selectors == [SELECTOR] * len(selectors)


def test_the_port_has_one_name() -> None:
    """Container, service, policy and monitor speak of the port that the exporter listens on."""
    service = load(BASE / "service.yaml")["spec"]["ports"][0]
    policy = load(BASE / "networkpolicy.yaml")["spec"]["ingress"][0]["ports"][0]
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
    assert load(BASE / "poddisruptionbudget.yaml")["spec"]["maxUnavailable"] == 1


def test_replicas_lose_one_at_a_time() -> None:
    """Pods with names that stay, on different nodes and in different zones, without volumes."""
    spec = STATEFUL_SET["spec"]
    assert spec["replicas"] == 3
    assert REPLICAS["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "strategy" not in spec
    assert spec["serviceName"] == REPLICAS["Service"]["metadata"]["name"]
    spread = spec["template"]["spec"]["topologySpreadConstraints"]
    assert {constraint["topologyKey"] for constraint in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["template"]["spec"]["volumes"]} == {
        "configMap",
        "secret",
    }
    assert not {"PersistentVolumeClaim", "Deployment"} & REPLICAS.keys()
    assert "volumeClaimTemplates" not in spec


def test_replicas_reach_their_database(tmp_path: Path) -> None:
    """The configuration loads and names what the secret holds; the policy opens the port."""
    loaded = configured(REPLICAS, tmp_path)
    assert loaded.storage.url.startswith("postgresql://exporter@db.example.com/")
    assert loaded.storage.password is not None
    names = {"access-key", "secret-key", "database-password", "database-ca"}
    text = REPLICAS["ConfigMap"]["data"]["exporter.yaml"]
    assert set(re.findall(rf"{MOUNTS['secrets']}/([\w-]+)", text)) == names
    example = (KUBERNETES / "secret.yaml.example").read_text(encoding="utf-8")
    assert all(f"--from-file={name}" in example for name in names)
    opened = [port["port"] for rule in REPLICAS["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]
    assert 5432 in opened
    assert 5432 not in [
        port["port"] for rule in SINGLE["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]
    ]


def configured(overlay: dict[str, Any], folder: Path) -> Config:
    """Its configuration, with every secret in ``folder``."""
    text = overlay["ConfigMap"]["data"]["exporter.yaml"]
    for name in set(re.findall(rf"{MOUNTS['secrets']}/([\w-]+)", text)):
        (folder / name).write_text("a-secret", encoding="utf-8")
    path = folder / "exporter.yaml"
    path.write_text(text.replace(MOUNTS["secrets"], str(folder)), encoding="utf-8")
    return load_config(path)


@pytest.mark.parametrize("pod", [f"{NAME}-0", f"{NAME}-2", f"{NAME}-7d9f8b6c5-x2x2x"])
def test_a_series_goes_on_over_a_change_of_pods(pod: str) -> None:
    """``instance`` is the pod's name where that stays, and always the same where there is one pod."""
    (endpoint,) = load(KUBERNETES / "operator" / "servicemonitor.yaml")["spec"]["endpoints"]
    always, own, _ = endpoint["relabelings"]
    assert (always["targetLabel"], always["replacement"]) == ("instance", NAME)
    assert (own["targetLabel"], own["sourceLabels"], own["replacement"]) == ("instance", ["pod"], "$1")
    kept = re.fullmatch(own["regex"], pod)
    assert (kept[1] if kept else always["replacement"]) == (pod if pod[-2:-1] == "-" else NAME)


@pytest.mark.parametrize("overlay", ["single", "replicas"])
def test_kustomize_makes_what_these_tests_look_at(overlay: str) -> None:
    """By kubectl itself where there is a new one, which not every system has."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("no kubectl")
    command = [kubectl, "kustomize", str(OVERLAYS / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert {each["kind"]: each for each in yaml.safe_load_all(done.stdout)} == manifests(overlay)


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
    replica = STATEFUL_SET["spec"]["template"]["spec"]["containers"][0]
    assert all(mount["readOnly"] for mount in replica["volumeMounts"])


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
    for made in (SINGLE, REPLICAS):
        assert "Secret" not in [*folder, *made]
        assert not {"ServiceMonitor", "PrometheusRule"} & {*folder, *made}


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
