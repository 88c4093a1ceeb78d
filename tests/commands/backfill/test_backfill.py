"""What is written, what is left out, and what happens when a run is stopped.

The rule R4 stands in docs/counting.md.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from exporter.commands.backfill.command import BackfillFlags, spool_folder, stretch, too_recent
from exporter.commands.backfill.increments import Increments, SeriesKey
from exporter.commands.backfill.spool import Spool
from exporter.commands.past import IncompleteError, Past
from exporter.errors import ExporterError
from exporter.ledger import Record
from testkit.processes import bare_environ, get, simulator, wait_for, write_config
from testkit.world import MINUTE, SECOND
from tests.commands.backfill.support import HOUR, WithPast
from tests.fake_api import outage

SAMPLE = re.compile(r"(\S+) (\d+) (\d+)(?:\.(\d\d\d))?")
ENVIRON = bare_environ()


def samples(written: bytes) -> dict[str, list[tuple[int, int]]]:
    """By series: (milliseconds, value)."""
    series: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for line in written.decode().splitlines():
        if not line.startswith("#"):
            name, value, seconds, part = SAMPLE.fullmatch(line).groups()  # type: ignore[union-attr]
            series[name].append((int(seconds) * SECOND + int(part or 0), int(value)))
    return series


@pytest.fixture
def past(tmp_path: Path) -> WithPast:
    return WithPast(tmp_path)


@pytest.mark.slow
def test_each_series_ends_with_zero_where_live_counting_begins(past: WithPast) -> None:
    """From 0, one sample a minute, ascending, and 0 a millisecond behind the last one."""
    written, spool = past.backfill()
    text = written.decode()
    assert text.endswith("# EOF\n")
    assert text.count("# TYPE ") == 5
    for name, shown in samples(written).items():
        times, values = [at for at, _ in shown], [value for _, value in shown]
        assert times[:-2] == list(range(past.since, past.baseline, MINUTE)), name
        assert times[-2:] == [past.baseline, past.baseline + 1]
        assert values[0] == values[-1] == 0
        assert values[:-1] == sorted(values[:-1])
    assert spool.progress.left_out == sum(
        (past.harness.api.jobs[name].create_time or 0) < past.baseline for name in past.live
    )
    assert spool.progress.left_out > 0
    past.store.close()


@pytest.mark.slow
@pytest.mark.parametrize("busy", [0, 30, 300])
def test_of_many_that_were_open_no_text_is_there_twice(tmp_path: Path, busy: int) -> None:
    """However many of one minute with the same labels live counting has: the others are shown."""
    past = WithPast(tmp_path, busy=busy)
    shown: Counter[tuple[str, str]] = Counter()
    for name, values in samples(past.backfill()[0]).items():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
        if "text_length" in name or "synthesized" in name:
            shown[name.partition("{")[0].partition("metastudio_tts_")[2], labels.get("le", "")] += values[-2][
                1
            ]
    jobs = past.harness.api.jobs.items()
    left = [
        job
        for name, job in jobs
        if name not in past.live and past.since <= (job.create_time or 0) < past.baseline
    ]
    texts = [job.text_length or 0 for job in left]
    synthesized = sum(job.text_length or 0 for job in left if job.job_state == "SUCCEED")
    assert shown["text_length_characters_sum", ""] == sum(texts)
    assert shown["text_length_characters_count", ""] == len(texts)
    assert shown["synthesized_characters_total", ""] == synthesized
    bounds = [le for name, le in shown if name.endswith("_bucket")]
    assert len(bounds) > 5
    for le in bounds:
        assert shown["text_length_characters_bucket", le] == sum(text <= float(le) for text in texts), le
    past.store.close()


@pytest.mark.slow
def test_series_of_a_family_stand_together(past: WithPast) -> None:
    """As OpenMetrics wants it: a family once, a series once, buckets ascending."""
    lines = past.backfill()[0].decode().splitlines()
    names = [line.split("{")[0].split(" ")[-1] if line[0] != "#" else line.split()[2] for line in lines[:-1]]
    families = [re.sub("_(total|bucket|sum|count)$", "", name) for name in names]
    order = list(dict.fromkeys(families))
    assert [family for family in order for _ in range(families.count(family))] == families
    series = [line.split(" ")[0] for line in lines if line[0] != "#"]
    assert len(list(itertools.groupby(series))) == len(set(series))
    past.store.close()


@pytest.mark.slow
def test_a_run_goes_on_where_it_was_stopped(past: WithPast) -> None:
    """And writes what one run would have written."""
    whole, spool = past.backfill()
    spool.remove()
    past.harness.api.fail = lambda query: (
        outage(query) if (query.until or 0) > past.since + 2 * HOUR else None
    )
    with pytest.raises(IncompleteError):
        past.backfill()
    spool = Spool(past.folder / "spool", "test", Past(past.since, past.baseline))
    assert spool.progress.reached == past.since  # nothing was saved: as after a kill
    past.harness.api.fail = lambda query: None
    assert past.backfill()[0] == whole
    spool.remove()
    half, spool = past.backfill(until=past.since + HOUR)
    assert half != whole
    spool.progress.past = Past(past.since, past.baseline)
    spool.save()
    asked = len(past.harness.api.queries)
    assert past.backfill()[0] == whole
    assert all(
        query.since is None or query.since < 10**12 or query.since >= past.since + HOUR - SECOND
        for query in past.harness.api.queries[asked:]
    )
    past.store.close()


def one_job(folder: Path) -> Spool:
    """The spool of one job, saved."""
    spool = Spool(folder, "p", Past(0, HOUR))
    add_one(spool)
    spool.save()
    return spool


def add_one(spool: Spool) -> None:
    increments = Increments((50, 100), lambda text: text, lambda label_set: label_set)
    for key, amount in increments.of(Record("a", 0, "SUCCEED", "ASYNC_JOB", "TTS_LLM", 70)):
        spool.add(key, 1, amount)


def content(spool: Spool) -> dict[SeriesKey, list[tuple[int, int]]]:
    return {key: list(spool.steps(key)) for key in spool.series()}


def test_what_a_killed_run_wrote_last_is_dropped(tmp_path: Path) -> None:
    """It would count twice."""
    spool = one_job(tmp_path / "spool")
    for file in (tmp_path / "spool").glob("*.steps"):
        file.write_bytes(file.read_bytes() + b"1 1\n")
    again = Spool(tmp_path / "spool", "p", Past(0, HOUR))
    assert content(again) == content(spool)
    assert sum(amount for key in again.series() for _, amount in again.steps(key)) == 1 + 2 + 70 + 1 + 1 + 70
    assert Spool(tmp_path / "spool", "other", Past(0, HOUR)).series() == []


def test_a_series_that_a_killed_run_began_is_dropped(tmp_path: Path) -> None:
    """Its file is there, and no progress tells of it: what goes into it next would be added to."""
    once = content(one_job(tmp_path / "once"))
    spool = one_job(tmp_path / "spool")
    spool.progress.series.clear()
    (tmp_path / "spool" / "progress.json").write_bytes(msgspec.json.encode(spool.progress))
    again = Spool(tmp_path / "spool", "p", Past(0, HOUR))
    assert again.series() == []
    add_one(again)
    again.save()
    assert content(again) == once
    assert content(Spool(tmp_path / "spool", "p", Past(0, HOUR))) == once


@pytest.mark.parametrize("damage", ["shorter", "missing"])
def test_a_spool_that_lost_something_begins_anew(damage: str, tmp_path: Path) -> None:
    """As after a power failure: what is read again counts once."""
    one_job(tmp_path / "spool")
    file = tmp_path / "spool" / "0.steps"
    file.unlink() if damage == "missing" else file.write_bytes(b"")
    again = Spool(tmp_path / "spool", "p", Past(0, HOUR))
    assert again.series() == []
    assert list((tmp_path / "spool").iterdir()) == []


NOW = 1_700_000_040_000


@pytest.mark.parametrize(
    ("since", "until", "recent", "expected"),
    [
        ("24h", None, False, (NOW - 24 * HOUR, NOW - 3 * HOUR)),
        ("24h", "5h", False, (NOW - 24 * HOUR, NOW - 5 * HOUR)),
        ("24h", "1h", True, (NOW - 24 * HOUR, NOW - HOUR)),
        ("24h", None, True, (NOW - 24 * HOUR, NOW)),
        ("24h", "1h", False, "within the last three hours"),
        ("2h", None, False, "the last three hours are left out"),
        ("1h", "2h", False, "must be before --until"),
    ],
)
def test_the_last_three_hours_have_to_be_asked_for(
    since: str, until: str | None, recent: bool, expected: tuple[int, int] | str
) -> None:
    """Before the first start; whole minutes."""
    flags = BackfillFlags(Path("x"), None, since, until, None, recent=recent)
    if isinstance(expected, str):
        with pytest.raises(ExporterError, match=expected):
            stretch(flags, NOW, None)
    else:
        found = stretch(flags, NOW, None)
        assert (found.since // MINUTE, found.until) == (expected[0] // MINUTE, expected[1] // MINUTE * MINUTE)


@pytest.mark.parametrize(
    ("baseline", "until", "says"),
    [
        (None, None, "not in it: 2023-11-14T19:14:00Z to 2023-11-14T22:14:00Z, within the last three hours"),
        (NOW - HOUR, None, "not in it: 2023-11-14T19:14:00Z to 2023-11-14T21:14:00Z, within"),
        (NOW - HOUR, None, "after 2023-11-15T00:14:00Z with --since 2023-11-14T19:14:00Z"),
        (NOW - HOUR, "2023-11-14T19:14:00Z", ""),
        (NOW - 3 * HOUR, None, ""),
    ],
    ids=["not-counting", "gap", "how-to-fill-it", "asked-for", "no-gap"],
)
def test_a_gap_before_live_counting_is_named(baseline: int | None, until: str | None, says: str) -> None:
    """And how it is filled: otherwise those hours would be in no series."""
    flags = BackfillFlags(Path("x"), None, "9h", until, None)
    said = too_recent(Past(NOW - 9 * HOUR, NOW - 3 * HOUR), flags, NOW, baseline)
    assert says in said
    assert bool(says) == bool(said)


def test_nothing_is_kept_beside_what_is_no_file(tmp_path: Path) -> None:
    """A device may lie in a folder of the system; and nobody could go on there."""
    os.mkfifo(tmp_path / "fifo")
    with spool_folder(tmp_path / "fifo") as folder:
        assert tmp_path not in folder.parents
    with spool_folder(tmp_path / "file") as folder:
        assert folder == tmp_path / ".file.backfill"


@pytest.mark.program
def test_the_program_writes_whole_files_only(tmp_path: Path) -> None:
    """Ctrl-C: 130, no traceback, no file of that name; then the same command goes on and ends."""
    with simulator(tmp_path, "--rate=60", "--history=40000") as cloud:
        config = write_config(tmp_path, cloud, target={"rate_limit": 60})
        command = [sys.executable, "-m", "exporter", "backfill", f"--config.file={config}"]
        command += ["--since=10h", "-o", str(tmp_path / "past.om")]
        process = subprocess.Popen(
            command,
            env=ENVIRON,
            stderr=subprocess.PIPE,
            text=True,
            # A shell lets what it starts in the background ignore the signal.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_for("some requests", lambda: "list_jobs" in (get(f"{cloud}/simulator") or ""))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert "the same command goes on from there" in said
        assert not (tmp_path / "past.om").exists()
        write_config(tmp_path, cloud, target={"rate_limit": 1000})
        ended = subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "promtool tsdb create-blocks-from openmetrics" in ended.stderr
    assert (tmp_path / "past.om").read_bytes().endswith(b"# EOF\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exporter.yaml", "past.om", "simulator.log"]


@pytest.mark.program
@pytest.mark.parametrize("command", ["classify", "verify", "backfill"])
def test_a_full_disk_leaves_no_file(command: str, tmp_path: Path) -> None:
    """Standard output on a full disk: exit code 1 and one line."""
    messages = tmp_path / "messages"
    messages.write_text("zork\n")
    arguments = {"classify": [str(messages)], "verify": ["--help"], "backfill": ["--help"]}[command]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "exporter", command, *arguments],
            env=ENVIRON,
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert "cannot write the output: No space left on device" in ended.stderr
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["messages"]'


def test_an_output_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Before anything is asked for; no folder is made."""
    with pytest.raises(ExporterError, match=r"cannot write .*: No such file or directory"):
        Spool(tmp_path / "nowhere" / ".x.backfill", "p", Past(0, HOUR))
    assert list(tmp_path.iterdir()) == []
