"""The first-order test: what the simulator knows to be true against what the real exporter says.

The exporter is a real process, killed with SIGKILL at random moments, on an API that throttles, breaks,
lists late, shifts its pages and tells the time wrong. Time over there runs six times as fast.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.failures import BUILTIN_RULES, Classifier
from testkit.processes import (
    Exporter,
    Samples,
    end_all,
    exporter,
    get,
    post,
    simulator,
    total,
    wait_for,
    write_config,
)

SCALE = 6
BUCKETS = (50, 100, 200, 500, 1000, 2000, 3000, 5000, 10000)
COUNTERS = (
    "metastudio_tts_jobs_created_total",
    "metastudio_tts_jobs_finished_total",
    "metastudio_tts_job_failures_total",
    "metastudio_tts_jobs_expired_total",
    "metastudio_tts_synthesized_characters_total",
    "metastudio_tts_text_length_characters_bucket",
    "metastudio_tts_text_length_characters_sum",
    "metastudio_tts_job_duration_upper_bound_seconds_bucket",
    "metastudio_exporter_record_anomalies_total",
    "metastudio_exporter_polls_total",
)
WIRE_FAULTS = [
    {"kind": "throttle", "probability": 0.04},
    {"kind": "throttle", "probability": 0.02, "retry_after": 1},
    {"kind": "error", "probability": 0.04, "status": 503},
    {"kind": "html", "probability": 0.02, "status": 502},
    {"kind": "error_200", "probability": 0.02},
    {"kind": "reset", "probability": 0.03},
    {"kind": "cut", "probability": 0.03},
    {"kind": "cut_chunked", "probability": 0.02},
    {"kind": "invalid_json", "probability": 0.03},
    {"kind": "null_data", "probability": 0.02},
    {"kind": "empty_body", "probability": 0.02},
    {"kind": "empty", "probability": 0.03},
    {"kind": "gzip", "probability": 0.1},
    {"kind": "slow", "probability": 0.05, "delay": 0.3},
    {"kind": "date_skew", "probability": 0.05, "seconds": 90.0},
    {"kind": "date_skew", "probability": 0.05, "seconds": -90.0},
]
ODD_ANSWERS = [
    {"kind": "drip", "probability": 0.05, "delay": 0.3},
    {"kind": "huge", "probability": 0.02, "size": 5 << 20},
    {"kind": "rate_limit", "limit": 20, "window": 1.0},
    {"kind": "date_frozen", "probability": 0.03},
    {"kind": "date_frozen", "probability": 0.1, "age": True},
    {"kind": "date_missing", "probability": 0.1},
    {"kind": "date_text", "probability": 0.05, "message": "yesterday"},
]
ODD_RECORDS = {
    "no_job_id": 0.01,
    "no_create_time": 0.01,
    "no_text_length": 0.01,
    "unknown_state": 0.02,
    "unknown_type": 0.02,
    "unknown_service": 0.02,
    "twin": 0.01,
}
WORLD = {"late": 0.1, "late_seconds": 40.0, "stuck": 0.0, "rhythm": 0.0}
CLOCKS_SET_BACK = datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp()
"""In Europe/Berlin."""
LATE_NEIGHBOURS = {"kind": "appear", "probability": 0.1, "seconds": 40.0}
DRIFT = {"kind": "drift", "probability": 0.1, "seconds": 40.0}
CHANGES = [{"kind": "regress", "probability": 0.5}, {"kind": "relabel", "probability": 0.5}]


def balanced(samples: Samples) -> bool:
    created = total(samples, "metastudio_tts_jobs_created_total")
    finished = total(samples, "metastudio_tts_jobs_finished_total")
    expired = total(samples, "metastudio_tts_jobs_expired_total")
    return created == finished + expired + total(samples, "metastudio_tts_open_jobs")


class Witness:
    """Scrapes, and checks each scrape against the one before."""

    def __init__(self, program: Exporter) -> None:
        self.program = program
        self.last: Samples = {}
        self.scrapes = 0

    def look(self) -> Samples | None:
        samples = self.program.samples()
        if samples is None:
            return None
        self.scrapes += 1
        assert balanced(samples), "the books do not balance"
        for key, value in self.last.items():
            if key[0] in COUNTERS:
                assert samples.get(key, -1) >= value, f"{key} went back from {value} to {samples.get(key)}"
        self.last = samples
        return samples


def expected(cloud: str) -> dict[str, Counter[tuple[str, ...]]]:
    """Every counter by label, from the simulator's list of all jobs.

    Each event is counted under the labels shown with it (R1, docs/counting.md): creation and text length
    under the first, the end under the last. A label changes only while a job is open, after it was shown.
    """
    answer = json.loads(get(f"{cloud}/simulator/truth?jobs=true", timeout=20) or "")
    classify = Classifier(BUILTIN_RULES).classify
    sums: dict[str, Counter[tuple[str, ...]]] = {
        name: Counter() for name in ("created", "finished", "failures", "synthesized", "length", "length_sum")
    }
    for job in answer["jobs"]:
        label_set = (_label(job["job_type"]), _label(job["tts_service_enum"]))
        at_the_end = (label_set[0], _label(job["tts_service_enum_now"]))
        sums["created"][label_set] += 1
        sums["finished"][(*at_the_end, job["final_state"])] += 1
        length = job["text_length"]
        if "text_length" in job["lacks"]:
            length = 0
        else:
            sums["length_sum"][label_set] += length
            for bound in BUCKETS:
                sums["length"][(*label_set, f"{float(bound)}")] += length <= bound
            sums["length"][(*label_set, "+Inf")] += 1
        if job["final_state"] == "FAILED":
            sums["failures"][(*at_the_end, classify(job["fail_msg"]))] += 1
        else:
            sums["synthesized"][at_the_end] += length
    return sums


def _label(value: str) -> str:
    """A value that nobody documents is a label only if it looks like one."""
    return value if value.isascii() else "other"


def counted(samples: Samples) -> dict[str, Counter[tuple[str, ...]]]:
    """The same counters as the exporter shows them."""
    names = {
        "metastudio_tts_jobs_created_total": ("created", None),
        "metastudio_tts_jobs_finished_total": ("finished", "job_state"),
        "metastudio_tts_job_failures_total": ("failures", "fail_msg_class"),
        "metastudio_tts_synthesized_characters_total": ("synthesized", None),
        "metastudio_tts_text_length_characters_bucket": ("length", "le"),
        "metastudio_tts_text_length_characters_sum": ("length_sum", None),
    }
    sums: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name, _ in names.values()}
    for (sample, labels), value in samples.items():
        if sample in names:
            name, extra = names[sample]
            values = dict(labels)
            key = (values["job_type"], values["tts_service_enum"], *([values[extra]] if extra else []))
            sums[name][key] += int(value)
    return sums


def run(
    tmp_path: Path,
    *,
    seed: int,
    faults: list[dict[str, Any]],
    kills: bool,
    options: dict[str, Any],
    seconds: float,
    world: dict[str, Any] | None = None,
    target: dict[str, Any] | None = None,
    epoch: float | None = None,
    anomalies: tuple[str, ...] = (),
) -> None:
    """``anomalies``: which there must be, or the run has shown nothing."""
    rng = random.Random(seed)
    flags = [
        f"--seed={seed}",
        "--rate=0",
        "--history=0",
        f"--time-scale={SCALE}",
        f"--epoch={time.time() - 7200 if epoch is None else epoch}",
        f"--options={json.dumps(options)}",
        f"--world={json.dumps({**WORLD, **(world or {})})}",
    ]
    with (
        simulator(tmp_path, *flags) as cloud,
        exporter(write_config(tmp_path, cloud, target=target or {}), tmp_path) as program,
    ):
        witness = Witness(program)
        wait_for(
            "the first start",
            lambda: total(witness.look() or {}, "metastudio_tts_counted_until_timestamp_seconds") or None,
        )
        post(f"{cloud}/simulator/faults", faults)
        post(f"{cloud}/simulator/rate", {"rate": 360.0})
        end, next_kill, killed = time.monotonic() + seconds, time.monotonic() + 2.0, 0
        while time.monotonic() < end or (kills and killed < 3):
            witness.look()
            time.sleep(rng.uniform(0.01, 0.15))
            if kills and time.monotonic() > next_kill:
                program.kill()
                killed += 1
                time.sleep(rng.uniform(0.0, 1.5))
                program.start()
                next_kill = time.monotonic() + rng.uniform(0.7, 3.5)
        # Out of the hour that happens twice: a time that may mean two confirms no Date.
        end_all(cloud, 360.0, jump=600.0 if epoch is None else 3700.0)
        wait_for_the_end(cloud, witness)
        final = witness.look()
        assert final is not None
        assert differences(counted(final), expected(cloud)) == []
        assert total(final, "metastudio_tts_jobs_created_total") > 100
        assert witness.scrapes > 50
        assert killed >= 3 or not kills
        for anomaly in anomalies:
            assert total(final, "metastudio_exporter_record_anomalies_total", anomaly=anomaly)


def differences(
    ours: dict[str, Counter[tuple[str, ...]]], truth: dict[str, Counter[tuple[str, ...]]]
) -> list[str]:
    """Each series that is not what it should be; one that is shown as zero may be absent over there."""
    return [
        f"{name}{key}: {ours[name][key]} instead of {truth[name][key]}"
        for name in truth
        for key in sorted({*ours[name], *truth[name]})
        if ours[name][key] != truth[name][key]
    ]


def wait_for_the_end(cloud: str, witness: Witness) -> None:
    """Until no job is open over there, none is open here, and all that was listed late is settled.

    Only what is late can be missing then, and is read in one go without faults: with them it takes minutes.
    """
    last = float(json.loads(get(f"{cloud}/simulator") or "")["now"])

    def done() -> bool:
        truth = json.loads(get(f"{cloud}/simulator/truth", timeout=20) or "")
        samples = witness.look()
        if truth["expected"]["open"] or samples is None:
            return False
        if total(samples, "metastudio_tts_open_jobs"):
            return False
        post(f"{cloud}/simulator/faults", None, method="DELETE")
        settled = total(samples, "metastudio_tts_counted_until_timestamp_seconds")
        return settled > last

    try:
        wait_for("the end of every job", done, 200.0)
    except AssertionError as error:
        names = {"tts_open_jobs", "tts_counted_until_timestamp_seconds", "up"}
        state = {name: total(witness.last, f"metastudio_{name}") for name in names}
        now = json.loads(get(f"{cloud}/simulator") or "{}").get("now")
        raise AssertionError(
            f"{error}: {state}, over there it is {now}, asked since {last}; the log ends with:\n"
            f"{witness.program.log()[-8000:]}"
        ) from None


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("seed", "options"),
    [
        pytest.param(1, {"order": "newest"}, id="newest-first"),
        pytest.param(2, {"order": "oldest", "limit_clip": 37}, id="oldest-first-clipped"),
    ],
)
def test_counters_are_exact_through_faults_and_kills(
    tmp_path: Path, seed: int, options: dict[str, Any]
) -> None:
    """Killed at random moments on a faulty API, the exporter counts every job exactly once."""
    run(
        tmp_path, seed=seed, faults=[*WIRE_FAULTS, LATE_NEIGHBOURS], kills=True, options=options, seconds=10.0
    )


@pytest.mark.e2e
def test_counters_are_exact_while_records_come_and_go_on_pages(tmp_path: Path) -> None:
    """Records that vanish after the exporter was shown them stay counted, and hold nothing up."""
    options = {"limit_clip": 20, "count_respects_filters": False}
    run(tmp_path, seed=3, faults=[DRIFT], kills=False, options=options, seconds=10.0)


@pytest.mark.e2e
def test_counters_are_exact_while_records_go_back_or_change(tmp_path: Path) -> None:
    """A job that ended does not end again; whatever is seen of a job counts under the labels it has then."""
    anomalies = ("state_regression", "label_changed")
    run(
        tmp_path, seed=6, faults=[DRIFT, *CHANGES], kills=False, options={}, seconds=10.0, anomalies=anomalies
    )


@pytest.mark.e2e
def test_counters_are_exact_with_odd_records_answers_dates(tmp_path: Path) -> None:
    """Records that lack what they are known by, answers that trickle or are huge, dates that stand still."""
    faults = [*ODD_ANSWERS, LATE_NEIGHBOURS]
    run(tmp_path, seed=5, faults=faults, kills=False, options={}, seconds=12.0, world=ODD_RECORDS)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("options", "world", "target", "epoch"),
    [
        pytest.param(
            {"since_inclusive": False, "until_inclusive": False, "create_time_rounding": "nearest"},
            {"milliseconds": True},
            {"time_format": "unix"},
            None,
            id="exclusive-bounds-rounded-times",
        ),
        pytest.param(
            {"since_inclusive": False, "create_time_rounding": "up", "order": "oldest"},
            {"milliseconds": True},
            {"time_format": "unix_ms"},
            None,
            id="exclusive-begin-times-rounded-up",
        ),
        pytest.param({}, {"no_job_id": 1.0}, {}, None, id="no-job-ids"),
        pytest.param(
            {"time_format": "naive", "zone": "Europe/Berlin"},
            {},
            {"time_zone": "Europe/Berlin"},
            CLOCKS_SET_BACK - 40.0,
            id="clocks-set-back",
        ),
        pytest.param(
            {"time_filters_work": False, "limit_clip": 20},
            {},
            {"time_filters": False, "rate_limit": 10},
            None,
            id="whole-list-over-several-polls",
        ),
    ],
)
def test_counters_are_exact_whatever_the_documents_leave_open(
    tmp_path: Path,
    options: dict[str, Any],
    world: dict[str, Any],
    target: dict[str, Any],
    epoch: float | None,
) -> None:
    """Bounds, fractions of seconds, missing ids, an hour that happens twice, lists longer than a budget."""
    run(
        tmp_path,
        seed=4,
        faults=[],
        kills=False,
        options=options,
        seconds=8.0,
        world=world,
        target=target,
        epoch=epoch,
    )
