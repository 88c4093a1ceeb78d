"""The simulator as a process of its own, and as a witness that depends on nobody."""

from __future__ import annotations

import ast
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from exporter import simulator
from exporter.simulator.__main__ import main
from exporter.simulator.simulation import PROJECT_ID

FOLDER = Path(str(simulator.__file__)).parent
pytestmark = pytest.mark.program
RUN = (sys.executable, "-m", "exporter.simulator")


def test_it_runs_and_leaves_the_truth(tmp_path: Path) -> None:
    """It prints its address, answers, ends on SIGTERM with 0, and leaves a truth that lists every job."""
    truth = tmp_path / "truth.json"
    flags = (
        "--seed=5",
        "--rate=600",
        "--history=300",
        "--no-auth",
        f"--truth-file={truth}",
        "--epoch=1.76e9",
    )
    oddities = (
        "--incident=failure_burst",
        '--options={"order":"oldest"}',
        '--faults=[{"kind":"date_missing"}]',
    )
    with subprocess.Popen((*RUN, *flags, *oddities), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with httpx.Client(base_url=address, trust_env=False) as client:
            answer = client.get(f"/v1/{PROJECT_ID}/ttsc/tts-jobs")
            assert client.get("/simulator").json()["incidents"] == ["failure_burst"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert "date" not in answer.headers
    described = json.loads(truth.read_bytes())[PROJECT_ID]
    oldest = [record["job_id"] for record in answer.json()["data"]]
    assert [job["job_id"] for job in described["jobs"][:10]] == oldest
    assert all(job["listed"] <= described["now"] for job in described["jobs"])
    assert sum(row[-1] for row in described["expected"]["created"]) == len(described["jobs"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--options", '{"order":"sideways"}'), "Invalid enum value 'sideways'"),
        (("--faults", "[{}]"), "missing required field `kind`"),
        (("--port", "70000"), "70000 is not from 0 to 65535"),
        (("--rate", "-1"), "-1 is not from 0 to"),
        (("--time-scale", "nan"), "nan is not from"),
    ],
    ids=["option", "fault", "port", "rate", "scale"],
)
def test_wrong_flags(
    flags: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong flags end it with code 2 and one line that names what is wrong."""
    monkeypatch.setattr(sys, "argv", ["simulator", *flags])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_a_port_in_use() -> None:
    """A port that is taken ends it with code 1 and one line, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = (f"--port={taken.getsockname()[1]}", "--history=1")
        done = subprocess.run((*RUN, *flags), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot run the simulator: ")
    assert done.stderr.count("\n") == 1


def test_too_few_files() -> None:
    """One line that says what to raise."""
    limited = ("sh", "-c", 'ulimit -n 6; exec "$@"', "sh", *RUN)
    done = subprocess.run(limited, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "cannot run the simulator: too many open files: raise the limit of this process (ulimit -n)\n",
    )


def test_it_depends_on_nothing_of_the_exporter() -> None:
    """Its modules import the standard library, starlette, uvicorn, msgspec and each other, nothing else."""
    allowed = sys.stdlib_module_names | {"starlette", "uvicorn", "msgspec"}
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").partition(".")[0] in allowed, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1, path
