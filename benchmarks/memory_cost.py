"""What tracked jobs cost: bytes each, and the CPU of a poll and of a publication with very many of them open.

python -m benchmarks.memory_cost [JOBS]
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from exporter.ledger.gauges import job_gauges
from exporter.ledger.ledger import Ledger
from exporter.ledger.record import Record
from exporter.ledger.sighting import Sighting
from exporter.ledger.stored import StoredLedger, open_ledger
from exporter.ledger.watermarks import Watermarks
from exporter.polling.due import RecordCounts, due_rechecks
from exporter.polling.planner import plan_rechecks
from testkit.world import MINUTE, SECOND, ledger_settings

START: Final = 1_750_000_020_000
DAY: Final = 24 * 60 * MINUTE


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def filled(jobs: int) -> Ledger:
    """Books in which that many jobs, evenly created over a day, are open and were checked in time."""
    ledger = open_ledger(StoredLedger(watermarks=Watermarks.start(START)), ledger_settings(), ())
    step, draw = DAY / jobs, random.Random(1)  # noqa: S311  spreads the checks, hides no secret
    for number in range(jobs):
        created = START + int(number * step)
        age = START + DAY - created
        seen = START + DAY - int(draw.random() * max(15 * SECOND, age // 20))
        sighting = Sighting(max(created, seen), max(created, seen), created, created)
        name = f"{draw.getrandbits(128):032x}"
        job_id = f"{name[:8]}-{name[8:12]}-{name[12:16]}-{name[16:20]}-{name[20:]}"
        ledger.see(Record(job_id, created, "PROCESSING", "ASYNC_JOB", "TTS_LLM", 100), sighting)
        if number % 1000 == 0:
            ledger.committed()
    ledger.committed()
    return ledger


def measure(jobs: int) -> dict[str, float]:
    before = resident()
    ledger = filled(jobs)
    size = resident() - before
    now = START + DAY
    for _ in range(jobs // 25_000):  # the first turns sort the index
        due_rechecks(ledger, now)
    times: dict[str, float] = {}
    due_count = 0.0
    for turn in range(10):
        now += 15 * SECOND
        begun = time.process_time()
        due = due_rechecks(ledger, now)
        found = time.process_time()
        rechecks = plan_rechecks(due, RecordCounts(ledger, due[0].since, now, 0.0).before) if due else None
        planned = time.process_time()
        job_gauges(ledger, now)
        shown = time.process_time()
        for recheck in due:
            job = ledger.jobs.get(recheck.job_id)
            if job is not None:
                job.last_checked = now
        if turn:
            for name, seconds in (
                ("due jobs", found - begun),
                ("plan", planned - found),
                ("gauges", shown - planned),
            ):
                times[f"{name}, CPU ms a poll"] = times.get(f"{name}, CPU ms a poll", 0) + seconds * 1000 / 9
            due_count += len(due) / 9
            requests = len(rechecks.lookups) + sum(1 for _ in rechecks.windows) if rechecks else 0
    return {
        "open jobs": jobs,
        "bytes a job": size / jobs,
        "RSS MiB": resident() / 2**20,
        "due in a poll": due_count,
        "stretches and lookups": requests,
        **times,
    }


def main() -> None:
    for jobs in [int(text) for text in sys.argv[1:]] or [10_000, 100_000, 1_000_000]:
        result = measure(jobs)
        for name, value in result.items():
            print(f"{name:28} {value:12.1f}")
        print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
