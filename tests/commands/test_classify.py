"""``classify`` as the real program: files, standard input, the API, other rules, and what users get wrong."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testkit.processes import bare_environ, get, post, simulator, wait_for, write_config

pytestmark = pytest.mark.program
ENVIRON = bare_environ()


def run(
    *arguments: str | Path, folder: Path, stdin: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", "classify", *map(str, arguments)],
        env={**ENVIRON, **environ},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with simulator(tmp_path_factory.mktemp("cloud"), "--rate=600", "--history=3600") as address:
        yield address


def test_lines_of_text_and_of_json_are_messages(tmp_path: Path) -> None:
    """Records of jobs that did not fail are none; the built-in rules serve where nothing is configured."""
    (tmp_path / "messages").write_text(
        'voice abc not found\nzork 123456789 fell\n{"job_id":"a","job_state":"SUCCEED"}\n'
        '{"job_id":"b","job_state":"FAILED","fail_msg":"zork 987654321\\nfell"}\n'
        '{"job_id":"c","job_state":"FAILED"}\n{"error":"json that is no record"}\n'
    )
    ended = run("messages", "--json", folder=tmp_path)
    result = json.loads(ended.stdout)
    assert ended.returncode == 0
    assert "exporter.yaml" in ended.stderr
    shown = {name: one["messages"] for name, one in result["classes"].items() if one["messages"]}
    assert shown == {"unclassified": 3, "voice_asset": 1, "no_message": 1}
    assert result["unclassified"][0]["match"] == "zork [0-9]{6,} fell"


def test_standard_input_and_explanations(tmp_path: Path) -> None:
    """Plain text: where the rule matched is marked; no colour in a pipe."""
    config = write_config(tmp_path, "http://127.0.0.1:1", fail_msg_classes=[{"class": "mine", "match": "b+"}])
    ended = run("-", "--explain", f"--config.file={config}", folder=tmp_path, stdin="abbbc\n")
    assert "a»bbb«c" in ended.stdout
    assert "fail_msg_classes[0]" in ended.stdout
    assert "\x1b" not in ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")


def test_other_rules_are_compared(tmp_path: Path) -> None:
    """The other file needs no targets."""
    other = tmp_path / "other.yaml"
    other.write_text("fail_msg_classes:\n  - {class: zork, match: zork}\n")
    ended = run(
        "-", "--compare", other, "--json", folder=tmp_path, stdin="zork 1\nzork 2\nvoice x not found\n"
    )
    assert json.loads(ended.stdout)["moves"] == [
        {"class": "unclassified", "other": "zork", "messages": 2, "sample": "zork 1"}
    ]


def test_past_failures_come_from_the_api(cloud: str, tmp_path: Path) -> None:
    """Every job of the stretch that has failed, and none of another state."""
    config = write_config(tmp_path, cloud)
    now = json.loads(get(f"{cloud}/simulator/clock") or "{}")["now"]
    since, until = int(now) - 3000, int(now) - 600

    def failed() -> int:
        truth = get(f"{cloud}/simulator/truth?since={since}&until={until - 0.001}") or "{}"
        return sum(row[-1] for row in json.loads(truth)["expected"]["failures"])

    before = failed()
    ended = run(f"--since={since}", f"--until={until}", "--json", f"--config.file={config}", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert 0 < before <= json.loads(ended.stdout)["messages"] <= failed()


def test_ctrl_c_shows_what_was_read(cloud: str, tmp_path: Path) -> None:
    """With 130 and a line that says so, while a request hangs."""
    config = write_config(tmp_path, cloud, target={"rate_limit": 60})  # so that it takes ten seconds
    program = subprocess.Popen(
        [sys.executable, "-m", "exporter", "classify", "--since=50m", "--json", f"--config.file={config}"],
        env=ENVIRON,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def faults() -> list[object]:
        left: list[object] = json.loads(get(f"{cloud}/simulator/faults") or "{}")["faults"]
        return left

    def listed() -> int:
        asked = json.loads(get(f"{cloud}/simulator") or "{}")["requests"]
        return sum(number for operation, _, number in asked if operation == "list_jobs")

    before = listed()
    wait_for("a third of it", lambda: listed() > before + 100 or None)
    post(f"{cloud}/simulator/faults", {"kind": "hang", "times": 1})
    wait_for("the request that hangs", lambda: faults() == [] or None)
    program.send_signal(signal.SIGINT)
    out, err = program.communicate(timeout=20)
    assert program.returncode == 130
    assert json.loads(out)["messages"] > 0
    assert err == "metastudio-tts-exporter: stopped; what is shown was read before\n"


@pytest.mark.e2e
def test_rubbish_takes_bounded_memory(tmp_path: Path) -> None:
    """Random bytes, long lines: what is kept does not grow with the file (resource usage of the child)."""
    draw = random.Random(3)
    content = draw.randbytes(3_000_000) + b"\n" + (b"zork " * 100_000 + b"\n") * 40
    (tmp_path / "bin.dat").write_bytes(content)
    measured = (
        "import resource, subprocess, sys;"
        "ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(ended.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", measured, sys.executable, "-m", "exporter", "classify", "bin.dat"]
    ended = subprocess.run(
        command, env=ENVIRON, capture_output=True, text=True, timeout=300, check=True, cwd=tmp_path
    )
    code, megabytes = map(int, ended.stdout.split())
    assert code == 0
    assert megabytes < 250


def test_one_message_is_not_called_messages(tmp_path: Path) -> None:
    """One of them, and one that is left."""
    assert run("-", folder=tmp_path, stdin="zork\n").stdout.split()[:3] == ["1", "failure", "message"]
    shown = run("-", "--top=1", folder=tmp_path, stdin="zork\nzork\nblam\n").stdout
    assert "and 1 message of further templates" in shown


def test_rubbish_alone_is_counted_without_a_rule(tmp_path: Path) -> None:
    """In the table and in JSON; no list of rules begins that would be empty."""
    shown = run("-", folder=tmp_path, stdin="\x00\x01\n\x02\n")
    assert "2 unclassified messages with nothing to be seen in them" in shown.stdout
    assert "fail_msg_classes" not in shown.stdout
    found = json.loads(run("-", "--json", folder=tmp_path, stdin="\x00\x01\n\x02\n").stdout)
    assert (found["messages"], found["unclassified"], found["further"]) == (2, [], 2)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.txt"], "cannot read nowhere.txt: No such file"),
        ([], "give either a FILE"),
        (["x", "--since=1h"], "give either a FILE"),
        (["x", "--target=t"], "--target and --until go with --since"),
        (["--since=1h", "--target=u", "--config.file=exporter.yaml"], "no target is named 'u'; there are t"),
        (["--since=1h", "--until=2h", "--config.file=exporter.yaml"], "must be before --until"),
        (["--since=2999-01-01", "--config.file=exporter.yaml"], "is in the future"),
        (["--since=yesterday", "--config.file=exporter.yaml"], "is no time"),
        (["--since=1h", "--config.file=exporter.yaml"], "read up to"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_what_users_get_wrong_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    """Exit code 1, no traceback; nobody listens at the endpoint of this configuration."""
    write_config(tmp_path, "http://127.0.0.1:1").rename(tmp_path / "exporter.yaml")
    ended = run(*arguments, folder=tmp_path)
    assert ended.returncode == 1
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
