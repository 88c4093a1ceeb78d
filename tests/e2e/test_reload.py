"""Reloading the real program: every kind of change, under continuous scraping, on the real simulator."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from testkit.processes import Exporter, Samples, end_all, get, post, simulator, total, wait_for, write_config
from tests.e2e.test_differential import COUNTERS, SCALE, counted, expected

LIFECYCLE = "--web.enable-lifecycle"
SUCCESSFUL = "metastudio_exporter_config_last_reload_successful"
SUCCESS_TIME = "metastudio_exporter_config_last_reload_success_timestamp_seconds"
CREATED = "metastudio_tts_jobs_created_total"

Edit = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def running(tmp_path: Path, config: Path, *flags: str) -> Iterator[Exporter]:
    program = Exporter(config, tmp_path)
    program.start(*flags)
    try:
        wait_for("the first answer", lambda: get(f"{program.url}/-/ready"))
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def cloud(tmp_path: Path, *flags: str) -> Iterator[str]:
    with simulator(tmp_path, "--seed=7", "--history=0", *(flags or ("--rate=600",))) as address:
        yield address


def reload(program: Exporter, method: str = "POST") -> tuple[int, str]:
    """Status and body."""
    request = urllib.request.Request(f"{program.url}/-/reload", method=method)  # noqa: S310 - loopback
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - loopback
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def hang_up(program: Exporter) -> None:
    """SIGHUP, and wait until it has been served."""
    assert program.process is not None
    before = total(program.samples() or {}, SUCCESS_TIME)
    program.process.popen.send_signal(signal.SIGHUP)
    wait_for("the reload", lambda: total(program.samples() or {}, SUCCESS_TIME) > before)


def edited(path: Path, edit: Edit) -> None:
    """Change the file as an operator does."""
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config, indent=1))


def second_target(config: dict[str, Any]) -> None:
    config["targets"].append({**config["targets"][0], "name": "u"})


def of_target(samples: Samples, name: str) -> Samples:
    return {key: value for key, value in samples.items() if ("target", name) in key[1]}


class Watch:
    """Scrapes without a pause in a thread of its own; ``problems`` is what no reload may show."""

    def __init__(self, program: Exporter) -> None:
        self._program = program
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._last: Samples = {}
        self.scrapes = 0
        self.problems: list[str] = []

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            samples = self._program.samples()
            if samples is None:
                self.problems.append("no answer")
            else:
                self.scrapes += 1
                self._compare(samples)

    def _compare(self, samples: Samples) -> None:
        """``t`` is in every page; ``u`` comes and goes, and comes back with at least what it had."""
        for name in ("t", "u"):
            mine = of_target(samples, name)
            if not mine and name == "u":
                continue
            created = total(mine, CREATED)
            ended = total(mine, "metastudio_tts_jobs_finished_total")
            if created != ended + total(mine, "metastudio_tts_open_jobs"):
                self.problems.append(f"the books of {name} do not balance")
            for key, value in of_target(self._last, name).items():
                # A class that is no longer configured, and has counted nothing, has no series.
                if key[0] in COUNTERS and mine.get(key, 0 if "everything" in str(key) else -1) < value:
                    self.problems.append(f"{key} went back from {value} to {mine.get(key)}")
        self._last = {**self._last, **samples}


def add_class(config: dict[str, Any]) -> None:
    config["fail_msg_classes"] = [{"class": "everything", "match": "."}]


def remove_classes(config: dict[str, Any]) -> None:
    del config["fail_msg_classes"]


def change_poll(config: dict[str, Any]) -> None:
    config["poll"]["overlap"] = "50s" if config["poll"]["overlap"] == "60s" else "60s"
    config["poll"]["window"] = "11m" if config["poll"]["window"] == "10m" else "10m"


def change_rate(config: dict[str, Any]) -> None:
    config["targets"][0]["rate_limit"] += 1


def remove_second(config: dict[str, Any]) -> None:
    config["targets"].pop()


@pytest.mark.e2e
def test_every_kind_of_change_again_and_again_loses_no_count(tmp_path: Path) -> None:
    """Under load and continuous scraping: each target ends with exactly what the simulator knows."""
    world = json.dumps({"late": 0.1, "late_seconds": 40.0, "stuck": 0.0, "rhythm": 0.0})
    flags = ["--rate=0", f"--time-scale={SCALE}", f"--epoch={time.time() - 7200}", f"--world={world}"]
    with cloud(tmp_path, *flags) as address:
        path = write_config(tmp_path, address)
        edited(path, second_target)
        with running(tmp_path, path, LIFECYCLE) as program, Watch(program) as watch:
            wait_for("both baselines", lambda: len(counted_until(program)) == 2)
            post(f"{address}/simulator/rate", {"rate": 240.0})
            edits = (add_class, change_poll, remove_second, change_rate, second_target, remove_classes)
            for number, edit in enumerate(edits * 2):
                edited(path, edit)
                if number % 4 == 3:
                    hang_up(program)
                else:
                    assert reload(program, "PUT" if number % 4 else "POST")[0] == 200
                time.sleep(0.2)
            end_all(address, 240.0)
            last = json.loads(get(f"{address}/simulator") or "")["now"]
            wait_for("the end of every job", lambda: done(address, program, last), 60)
            final = program.samples()
        assert final is not None
        truth = without_classes(expected(address))
        assert sum(truth["created"].values()) > 30
        for name in ("t", "u"):
            assert without_classes(counted(of_target(final, name))) == truth, name
        assert watch.problems == []
        assert watch.scrapes > 10


def counted_until(program: Exporter) -> list[float]:
    samples = program.samples() or {}
    return [value for (name, _), value in samples.items() if "counted_until" in name]


def done(address: str, program: Exporter, last: float) -> bool:
    truth = json.loads(get(f"{address}/simulator/truth", timeout=20) or "")
    samples = program.samples()
    if truth["expected"]["open"] or samples is None:
        return False
    settled = counted_until(program)
    return total(samples, "metastudio_tts_open_jobs") == 0 and len(settled) == 2 and min(settled) > last + 60


def without_classes(sums: dict[str, Counter[tuple[str, ...]]]) -> dict[str, dict[tuple[str, ...], int]]:
    """Failures by pair: which class they got depends on when the rules changed. Without zeros."""
    failures: Counter[tuple[str, ...]] = Counter()
    for (job_type, service, _), value in sums["failures"].items():
        failures[job_type, service] += value
    return {name: dict(+counter) for name, counter in {**sums, "failures": failures}.items()}


def new_buckets(config: dict[str, Any]) -> None:
    config["metrics"] = {"text_length_buckets": [7, 70]}


@pytest.mark.e2e
def test_new_buckets_start_a_new_histogram_and_nothing_else(tmp_path: Path) -> None:
    """No old bucket stays, no bucket holds what another one counted, and the counters go on."""
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        with running(tmp_path, path, LIFECYCLE) as program:
            name = "metastudio_tts_text_length_characters"
            before = wait_for("jobs", lambda: some(program, f"{name}_count", 20))
            edited(path, new_buckets)
            assert reload(program) == (200, "configuration reloaded\n")
            after = wait_for("jobs in the new histogram", lambda: some(program, f"{name}_count", 1))
    bounds = {dict(labels)["le"] for sample, labels in after if sample == f"{name}_bucket"}
    assert bounds == {"7.0", "70.0", "+Inf"}
    new_jobs = total(after, CREATED) - total(before, CREATED)
    assert total(after, f"{name}_count") <= new_jobs
    assert total(after, "metastudio_tts_jobs_finished_total") >= total(
        before, "metastudio_tts_jobs_finished_total"
    )


def some(program: Exporter, name: str, least: int) -> Samples | None:
    samples = program.samples() or {}
    return samples if total(samples, name) >= least else None


def two_mistakes(config: dict[str, Any]) -> None:
    config["poll"]["interval"] = "often"
    config["targets"][0]["colour"] = "red"


def other_storage(config: dict[str, Any]) -> None:
    config["storage"]["url"] = "sqlite:///other.db"


def other_scope(config: dict[str, Any]) -> None:
    second_target(config)
    config["targets"][0]["filters"] = {"job_type": "PRELOAD"}


def other_project(config: dict[str, Any]) -> None:
    config["targets"][0]["project_id"] = "5a1de0000000000000000000000000ff"


NEW_NAME = "use a new target name, so that different things are not added up"
REFUSED = {
    "mistakes": (
        two_mistakes,
        ("poll.interval: must be a duration", "targets[0].colour: is unknown"),
    ),
    "storage": (other_storage, ("storage.url cannot change while the exporter runs: restart it",)),
    "scope": (
        other_scope,
        (f"target 't': its region, project, app user or filters changed: {NEW_NAME}",),
    ),
    "project": (
        other_project,
        (f"target 't': its region, project, app user or filters changed: {NEW_NAME}",),
    ),
}


@pytest.mark.e2e
@pytest.mark.parametrize(("edit", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_over_changes_nothing(tmp_path: Path, edit: Edit, said: tuple[str, ...]) -> None:
    """500 with every problem, the metrics say so, polling goes on as before; a good file ends it."""
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        good = path.read_text()
        with running(tmp_path, path, LIFECYCLE) as program:
            before = wait_for("jobs", lambda: some(program, CREATED, 10))
            edited(path, edit)
            status, body = reload(program)
            assert status == 500
            heading, *problems = body.splitlines()
            assert heading == "reload failed, the old configuration stays in force:"
            assert len(problems) == len(said)
            for line, words in zip(problems, said, strict=True):
                assert words in line
            samples = wait_for("more jobs", lambda: some(program, CREATED, int(total(before, CREATED)) + 10))
            assert total(samples, SUCCESSFUL) == 0
            assert total(samples, SUCCESS_TIME) == total(before, SUCCESS_TIME)
            assert not of_target(samples, "u")
            path.write_text(good)
            hang_up(program)
            assert total(program.samples() or {}, SUCCESSFUL) == 1
        for words in said:
            assert words in program.log().replace('\\"', '"')


@pytest.mark.program
def test_a_removed_target_finds_its_counts_when_it_comes_back(tmp_path: Path) -> None:
    """Not one series of it stays; added again it goes on, and under its name no other scope is let in."""
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        with running(tmp_path, path, LIFECYCLE) as program:
            wait_for("jobs", lambda: some(program, CREATED, 10))
            edited(path, second_target)
            reload(program)
            before = wait_for("jobs of the second", lambda: second_with(program, 5))
            edited(path, remove_second)
            reload(program)
            gone = program.samples() or {}
            assert of_target(gone, "t")
            assert not of_target(gone, "u")
            edited(path, second_target)
            edited(path, lambda config: config["targets"][1].update(filters={"job_type": "PRELOAD"}))
            status, body = reload(program)
            assert status == 500
            assert "use a new target name" in body
            assert not of_target(program.samples() or {}, "u")
            edited(path, lambda config: config["targets"][1].pop("filters"))
            assert reload(program)[0] == 200
            again = of_target(program.samples() or {}, "u")
            assert total(again, CREATED) >= total(before, CREATED)


def second_with(program: Exporter, least: int) -> Samples | None:
    mine = of_target(program.samples() or {}, "u")
    return mine if total(mine, CREATED) >= least else None


@pytest.mark.program
def test_simultaneous_reloads_are_served_one_after_the_other(tmp_path: Path) -> None:
    """Twenty at once, while the file changes: each is answered, and the last word is the file's."""
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        with running(tmp_path, path, LIFECYCLE) as program, Watch(program) as watch:
            wait_for("jobs", lambda: some(program, CREATED, 5))
            with ThreadPoolExecutor(20) as clients:
                answers = [clients.submit(reload, program) for _ in range(20)]
                edited(path, second_target)
                answers.append(clients.submit(reload, program))
            assert {answer.result()[0] for answer in answers} <= {200, 500}  # a file half written is bad
            assert answers[-1].result() == (200, "configuration reloaded\n")
            assert of_target(program.samples() or {}, "u")
        assert watch.problems == []


@pytest.mark.program
def test_without_the_flag_only_a_signal_reloads(tmp_path: Path) -> None:
    """403 that says what to do; 405 for a method that changes nothing; SIGHUP is always heard."""
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        with running(tmp_path, path) as program:
            for method in ("POST", "PUT"):
                status, body = reload(program, method)
                assert status == 403
                assert body == (
                    "the lifecycle API is not enabled: start with --web.enable-lifecycle, or send SIGHUP\n"
                )
            assert reload(program, "GET") == (405, "method not allowed: use POST or PUT\n")
            edited(path, second_target)
            hang_up(program)
            assert of_target(program.samples() or {}, "u")


@pytest.mark.program
def test_secrets_of_a_new_file_are_redacted_too(tmp_path: Path) -> None:
    """A key that only the reloaded file holds shows in no log line and in no answer."""
    secret = "n3w-s3cret-k3y"
    with cloud(tmp_path) as address:
        path = write_config(tmp_path, address)
        with running(tmp_path, path, LIFECYCLE, "--log.level=debug") as program:
            edited(path, second_target)
            edited(path, lambda config: config["targets"][1].update(auth={"token": {"token": secret}}))
            _, body = reload(program)
            wait_for("a refusal", lambda: "poll failed" in program.log())
            page = get(f"{program.url}/metrics") or ""
        assert secret not in program.log() + body + page
