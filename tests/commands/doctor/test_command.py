"""The real program: exit codes, JSON, tables, signals, and what it says when it cannot ask."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY
from testkit.processes import bare_environ, exporter, get, simulator, total, wait_for, write_config

pytestmark = pytest.mark.program
ENVIRON = bare_environ()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulator(tmp_path_factory.mktemp("cloud"), "--rate=60", "--history=1800") as address:
        yield address


@pytest.fixture
def config(cloud: str, tmp_path: Path) -> Path:
    return write_config(tmp_path, cloud)


def run(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", "doctor", *map(str, arguments)],
        env={**ENVIRON, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_usable_target_ends_with_zero_and_a_plain_table(config: Path) -> None:
    """No colour, no progress: it is no terminal."""
    ended = run(f"--config.file={config}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\x1b" not in ended.stdout
    assert "t: usable" in ended.stdout
    assert SECRET_KEY not in ended.stdout


def test_findings_are_json_for_machines(config: Path) -> None:
    """One document, nothing else on standard output."""
    ended = run(f"--config.file={config}", "--json", "--target=t")
    report = json.loads(ended.stdout)["targets"][0]
    assert (report["target"], report["usable"], ended.returncode) == ("t", True, 0)
    assert {"name", "verdict", "text", "config", "poll"} == set(report["findings"][0])


def test_an_unusable_target_ends_with_one(cloud: str, tmp_path: Path) -> None:
    """An empty list is such: nothing would ever be counted."""
    with simulator(tmp_path, "--rate=0", "--history=1", '--options={"isolated": true}') as empty:
        ended = run(f"--config.file={write_config(tmp_path, empty)}")
    assert ended.returncode == 1
    assert "t: not usable" in ended.stdout


def test_a_region_is_enough(cloud: str) -> None:
    """Keys from the environment, the project from IAM; both are named."""
    ended = run(
        "--region=cn-north-4",
        f"--endpoint={cloud}",
        "--json",
        HUAWEICLOUD_SDK_AK=ACCESS_KEY,
        HUAWEICLOUD_SDK_SK=SECRET_KEY,
        HUAWEICLOUD_SDK_IAM_ENDPOINT=cloud,
    )
    findings = {it["name"]: it for it in json.loads(ended.stdout)["targets"][0]["findings"]}
    assert "HUAWEICLOUD_SDK_AK" in findings["credentials"]["text"]
    assert findings["project"]["config"] == ['project_id: "5a1de0000000000000000000000000a1"']
    assert ended.returncode == 0


def test_wrong_keys_are_sent_once_for_all_targets_that_use_them(tmp_path: Path) -> None:
    """The second target with the same credentials is not asked at all."""
    with simulator(tmp_path, "--rate=0", "--history=1") as cloud:
        path = write_config(tmp_path, cloud)
        config = json.loads(path.read_text())
        target = config["targets"][0]
        target["auth"]["aksk"]["secret_key"] = "wrong"
        config["targets"].append({**target, "name": "second"})
        path.write_text(json.dumps(config))
        ended = run(f"--config.file={path}")
        asked: list[Any] = json.loads(get(f"{cloud}/simulator") or "")["requests"]
    assert asked == [["list_jobs", "401", 1]]
    assert ended.returncode == 1
    assert "not asked: the same credentials were refused for target t" in ended.stdout


def test_keys_that_are_not_there_are_not_called_refused(tmp_path: Path) -> None:
    """Nothing was sent; the second target with the same keys is not tried, and is told why."""
    path = write_config(tmp_path, "http://127.0.0.1:1")
    config = json.loads(path.read_text())
    target = config["targets"][0]
    target["auth"] = {"agency": {}}
    config["targets"].append({**target, "name": "second"})
    path.write_text(json.dumps(config))
    ended = run(f"--config.file={path}", "--json", HC_CONTAINER_CREDENTIALS_FULL_URI="http://127.0.0.1:1")
    first, second = json.loads(ended.stdout)["targets"]
    credentials = next(it for it in first["findings"] if it["name"] == "credentials")
    assert credentials["text"].endswith("not available there; see access")
    assert second["findings"][0]["text"] == "not asked: the same credentials are not available for target t"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--target=nobody"], "no target is named 'nobody'; there are t"),
        (["--region=cn-north-4", "--target=t"], "--region asks without a configuration: leave out --target"),
        (["--region=No Region"], "--region: "),
        (["--region=cn-north-4", "--endpoint=http://example.com"], "--endpoint: "),
        (["--endpoint=https://example.com"], "--endpoint goes with --region"),
        (["--config.file=missing.yaml"], "missing.yaml"),
    ],
    ids=lambda it: it[0] if isinstance(it, list) else "",
)
def test_what_cannot_be_asked_is_said_in_one_line(config: Path, flags: list[str], says: str) -> None:
    """With exit code 1 and without a traceback."""
    ended = run(f"--config.file={config}", *flags)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert says in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_without_any_configuration_the_way_without_one_is_named(tmp_path: Path) -> None:
    """The first command of a newcomer."""
    ended = subprocess.run(
        [sys.executable, "-m", "exporter", "doctor"],
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "metastudio-tts-exporter: there is no exporter.yaml here: name one with --config.file, or ask without"
        " one: --region cn-north-4\n"
    )


def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    """With 130, as of a shell, while a request hangs."""
    hang = '--faults=[{"kind": "hang", "times": 1}]'
    with simulator(tmp_path, "--rate=0", "--history=1", hang) as cloud:
        program = subprocess.Popen(
            [sys.executable, "-m", "exporter", "doctor", f"--config.file={write_config(tmp_path, cloud)}"],
            env=ENVIRON,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell lets what it starts in the background ignore the signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        faults = f"{cloud}/simulator/faults"
        wait_for("the request that hangs", lambda: json.loads(get(faults) or "")["faults"] == [] or None)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=20)
    assert (program.returncode, out, err) == (130, "", "")


def test_the_exporter_itself_loads_neither_doctor_nor_rich() -> None:
    """It runs for months; the commands run for a minute."""
    code = "import sys, exporter.app, exporter.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True
    )
    modules = set(loaded.stdout.split())
    assert "exporter.app" in modules
    assert not modules & {"rich", "exporter.commands.console", "exporter.commands.doctor"}


def test_what_was_saved_is_played_back_by_the_simulator(config: Path, tmp_path: Path) -> None:
    """From the one program to the other, by a file."""
    file = tmp_path / "answers.jsonl"
    first = json.loads(run(f"--config.file={config}", "--json", f"--save={file}").stdout)
    with simulator(tmp_path, f"--from={file}") as played:
        second = json.loads(run(f"--config.file={write_config(tmp_path, played)}", "--json").stdout)
    verdicts = [
        [
            (it["name"], it["verdict"], it["config"])
            for it in report["targets"][0]["findings"]
            if it["name"] != "failures"  # a template may be of another class
        ]
        for report in (first, second)
    ]
    assert verdicts[0] == verdicts[1]


def test_a_file_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    """And nothing half-written is left."""
    path = write_config(tmp_path, "http://127.0.0.1:1")  # nothing is asked
    ended = run(f"--config.file={path}", "--json", f"--save={tmp_path / 'no' / 'folder'}")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("metastudio-tts-exporter: cannot write")
    assert ended.stderr.count("\n") == 1


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ("http://127.0.0.1:1", "cannot connect"),
        ("https://no-such-name.invalid", "cannot resolve the name"),
        ("https:", "TLS"),
    ],
    ids=["port", "name", "tls"],
)
def test_what_is_wrong_with_the_connection_is_a_finding(
    endpoint: str, says: str, cloud: str, tmp_path: Path
) -> None:
    """Not only the reason why nothing else is known."""
    target = endpoint if endpoint != "https:" else cloud.replace("http:", "https:")
    ended = run(f"--config.file={write_config(tmp_path, target)}", "--json")
    network = next(it for it in findings_of(ended) if it["name"] == "network")
    assert (network["verdict"], ended.returncode) == ("unusable", 1)
    assert says in network["text"]


def test_a_dead_proxy_is_a_finding(tmp_path: Path) -> None:
    """It is named."""
    config = write_config(tmp_path, "https://metastudio.example")
    ended = run(f"--config.file={config}", "--json", HTTPS_PROXY="http://127.0.0.1:1")
    network = next(it for it in findings_of(ended) if it["name"] == "network")
    assert network["verdict"] == "unusable"
    assert "cannot connect to the proxy 127.0.0.1:1" in network["text"]


def test_a_region_without_a_project_says_how_to_name_one(tmp_path: Path) -> None:
    """There is no configuration to write it into."""
    keys = {"HUAWEICLOUD_SDK_AK": ACCESS_KEY, "HUAWEICLOUD_SDK_SK": SECRET_KEY}
    iam = {"HUAWEICLOUD_SDK_IAM_ENDPOINT": "http://127.0.0.1:1"}
    ended = run("--region=cn-north-4", "--endpoint=http://127.0.0.1:1", "--json", **keys, **iam)
    found = {it["name"]: it for it in findings_of(ended)}
    assert "HUAWEICLOUD_SDK_PROJECT_ID" in found["project"]["text"]
    assert found["iam"]["verdict"] == "unusable"


def test_ctrl_c_ends_a_watch_with_what_was_seen(config: Path, tmp_path: Path) -> None:
    """The findings stand there before it begins; those of the watch and the file follow."""
    file = tmp_path / "answers.jsonl"
    program = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "exporter",
            "doctor",
            f"--config.file={config}",
            "--watch=1h",
            f"--save={file}",
        ],
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert program.stdout is not None
    before = ""
    while "usable" not in before.split("\nt: ")[-1] or "\nt: " not in before:
        line = program.stdout.readline()
        assert line, "the findings never came"
        before += line
    program.send_signal(signal.SIGINT)
    after, err = program.communicate(timeout=60)
    assert "visibility" in before
    assert "late records" in after
    assert (program.returncode, err) == (130, "")
    assert len(file.read_text().splitlines()) > 20


@pytest.mark.e2e
def test_watching_adds_its_findings(config: Path) -> None:
    """Ten seconds of it."""
    ended = run(f"--config.file={config}", "--json", "--watch=10s")
    findings = json.loads(ended.stdout)["targets"][0]["findings"]
    names = [it["name"] for it in findings]
    assert "listings over 10s" in findings[-1]["text"]
    assert names[-4:] == ["late records", "vanished records", "changed labels", "final states"]
    assert ended.returncode == 0


@pytest.mark.parametrize("time", ["5", "1s", "25h", "m", "-5m"])
def test_a_wrong_time_to_watch_is_a_wrong_flag(time: str) -> None:
    """Exit code 2, and an example."""
    ended = run(f"--watch={time}")
    assert ended.returncode == 2
    assert "such as 5m" in ended.stderr


def test_the_estimate_of_series_fits_what_is_scraped(config: Path, tmp_path: Path) -> None:
    """As ``check --estimate`` counts them: before any job is seen, and with all pairs."""
    text = next(
        it["text"] for it in findings_of(run(f"--config.file={config}", "--json")) if it["name"] == "cost"
    )
    first, full = map(int, re.findall(r"(\d+) to (\d+) series", text)[0])
    with exporter(config, tmp_path) as program:
        wait_for(
            "the first poll",
            lambda: total(program.samples() or {}, "metastudio_exporter_polls_total") or None,
        )
        samples = program.samples() or {}
    assert first <= sum(("target", "t") in labels for _, labels in samples) <= full


def findings_of(ended: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ended.stdout)["targets"][0]["findings"]
    return found
