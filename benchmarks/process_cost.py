"""The real exporter as a process, on the simulator as another: catch-up, memory, start.

    python -m benchmarks.process_cost [catch-up] [start]

Catch-up: the books begin, the exporter is stopped for six hours of a million jobs a day (the simulator is
started again, six hours later on its clock), and started again with a rate limit that does not limit. Memory:
the same process afterwards, polling that traffic. Start: a store of 100,000 jobs, and an API that is away.
"""

from __future__ import annotations

import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from exporter.ledger.changes import Changes
from exporter.ledger.job_index import Job
from exporter.ledger.stored import configured_buckets
from exporter.ledger.totals import TotalKey
from exporter.ledger.watermarks import Watermarks
from exporter.store.base import Commit
from exporter.store.sqlite import SqliteStore
from testkit.processes import ROOT, Exporter, Samples, get, simulator, total, wait_for, write_config
from testkit.world import ledger_settings

HOUR: Final = 3600
PER_MINUTE: Final = 1e6 / 24 / 60
STORED_JOBS: Final = 100_000
STARTS: Final = 5
IMPORTS: Final = "import exporter.cli, exporter.app, exporter.web.access.reloader"


def flags(epoch: float, history: float) -> list[str]:
    """The same world at another time: same seed, same jobs."""
    return [
        f"--rate={PER_MINUTE}",
        f"--epoch={epoch}",
        f"--history={history}",
        "--seed=bench",
        '--world={"rhythm": 0}',
        "--no-auth",
    ]


def resident(pid: int) -> tuple[float, float]:
    """RSS now and at its highest, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, peak = (re.search(rf"{name}:\s+(\d+)", status) for name in ("VmRSS", "VmHWM"))
    return (int(now[1]) / 1024 if now else 0.0), (int(peak[1]) / 1024 if peak else 0.0)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def catch_up(folder: Path, hours: float = 6.0, watch: float = 45.0) -> dict[str, float]:
    """Jobs a second through a backlog of that many hours, then the memory of ordinary polling."""
    now = time.time() // 60 * 60
    with simulator(folder, *flags(now - hours * HOUR, 60), module="benchmarks.simulator") as url:
        exporter = configured(folder, url)
        exporter.start()
        wait_for("the first poll", lambda: complete_polls(exporter))
        exporter.stop()
    with simulator(folder, *flags(now, hours * HOUR + 900), module="benchmarks.simulator") as url:
        exporter = configured(folder, url)
        exporter.start()
        try:
            return watch_catch_up(exporter, watch)
        finally:
            exporter.stop()


def watch_catch_up(exporter: Exporter, watch: float) -> dict[str, float]:
    pid = pid_of(exporter)
    begin: tuple[float, float] | None = None
    while True:
        samples = exporter.samples() if get(f"{exporter.url}/-/ready") else None
        at, created = time.monotonic(), 0.0 if samples is None else created_jobs(samples)
        if begin is None and created > 0:
            begin, cpu = (at, created), cpu_seconds(pid)
            requests = total(samples or {}, "metastudio_api_requests_total", operation="list_jobs")
        if samples is not None and begin is not None and lag(samples) < 900:
            break
        time.sleep(0.2)
    seconds, jobs = at - begin[0], created - begin[1]
    busy = cpu_seconds(pid) - cpu
    asked = total(samples, "metastudio_api_requests_total", operation="list_jobs") - requests
    polls, cpu = total(samples, "metastudio_exporter_polls_total"), cpu_seconds(pid)
    time.sleep(watch)
    rss, peak = resident(pid)
    after = exporter.samples() or {}
    polls = total(after, "metastudio_exporter_polls_total") - polls
    return {
        "jobs": jobs,
        "seconds": seconds,
        "jobs a second": jobs / seconds,
        "jobs a request": jobs / asked,
        "jobs a CPU second of the exporter": jobs / busy,
        "RSS MiB": rss,
        "peak RSS MiB": peak,
        "CPU ms a poll, steady": (cpu_seconds(pid) - cpu) * 1000 / max(1.0, polls),
    }


def pid_of(exporter: Exporter) -> int:
    if exporter.process is None:
        raise RuntimeError("the exporter is not running")
    return exporter.process.popen.pid


def configured(folder: Path, url: str) -> Exporter:
    config = write_config(
        folder,
        url,
        poll={"interval": "15s", "timeout": "2m", "overlap": "5m", "window": "1h"},
        target={"rate_limit": 1000},
    )
    return Exporter(config, folder)


def complete_polls(exporter: Exporter) -> bool:
    samples = exporter.samples()
    return samples is not None and total(samples, "metastudio_exporter_polls_total", outcome="complete") > 0


def created_jobs(samples: Samples) -> float:
    return total(samples, "metastudio_tts_jobs_created_total")


def lag(samples: Samples) -> float:
    return time.time() - total(samples, "metastudio_tts_counted_until_timestamp_seconds")


def start(folder: Path) -> dict[str, float]:
    """Seconds from the start of the process to the first answered scrape with the stored counts.

    Modules are compiled beforehand, as by an installation; in turns with importing them and nothing else.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    config = write_config(folder, "http://127.0.0.1:9", target={"rate_limit": 1000})
    write_store(folder / "books.db")
    first_scrape(config, folder)
    starts, imports = zip(
        *((first_scrape(config, folder), only_imports()) for _ in range(STARTS)), strict=True
    )
    best, best_import = min(starts), min(imports)
    return {
        "seconds, best": best[0],
        "seconds, median": statistics.median(seconds for seconds, _ in starts),
        "CPU seconds, best": min(cpu for _, cpu in starts),
        "CPU seconds, median": statistics.median(cpu for _, cpu in starts),
        "imports alone, seconds, best": best_import[0],
        "imports alone, CPU seconds, best": min(cpu for _, cpu in imports),
        "seconds, times imports alone": best[0] / best_import[0],
    }


def first_scrape(config: Path, folder: Path) -> tuple[float, float]:
    """Seconds, and CPU seconds of the process."""
    exporter = Exporter(config, folder)
    begun = time.monotonic()
    exporter.start()
    try:
        pid = pid_of(exporter)
        while True:
            text = get(f"{exporter.url}/metrics")
            if text is not None and "metastudio_tts_open_jobs{" in text:
                return time.monotonic() - begun, cpu_seconds(pid)
            time.sleep(0.005)
    finally:
        exporter.kill()


def only_imports() -> tuple[float, float]:
    """Seconds, and CPU seconds: what the machine makes of it says how fast it is just now."""
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)  # noqa: S603 - our own words
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_store(path: Path) -> None:
    """Books that remember 100,000 jobs, half of them open, and a day of counts by minute."""
    now = int(time.time()) * 1000
    step = 12 * HOUR * 1000 // STORED_JOBS
    jobs = {
        f"{number * 2654435761 % 2**32:08x}-0000-4000-a000-{number:012x}": Job(
            now - number * step,
            "PROCESSING" if number % 2 else "SUCCEED",
            "ASYNC_JOB",
            "TTS_LLM",
            120,
            now - number * step // 30,
        )
        for number in range(STORED_JOBS)
    }
    totals: dict[TotalKey, int | None] = {
        ("created", "ASYNC_JOB", "TTS_LLM", ""): STORED_JOBS,
        ("finished", "ASYNC_JOB", "TTS_LLM", "SUCCEED"): STORED_JOBS // 2,
    }
    minutes = {
        (now // 60_000 - minute, "ASYNC_JOB", "TTS_LLM", "SUCCEED", ""): (STORED_JOBS // 1440, 0)
        for minute in range(1440)
    }
    changes = Changes(
        watermarks=Watermarks(now - 24 * HOUR * 1000, now - 600_000, now - 900_000, now - 24 * HOUR * 1000),
        jobs=jobs,
        evicted=(),
        totals=totals,
        minutes=minutes,
        label_sets=(),
    )
    store = SqliteStore(path)
    project = "5a1de0000000000000000000000000a1"
    commit = Commit(
        version=0,
        changes=changes,
        project_id=project,
        last_complete_poll=now,
        buckets=configured_buckets(ledger_settings()),
        keep_minutes_since=0,
    )
    store.commit("t", "region=cn-north-4", commit)
    store.close()


def main() -> None:
    chosen = sys.argv[1:] or ["catch-up", "start"]
    for name, measure in (("catch-up", catch_up), ("start", start)):
        if name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                result = measure(Path(folder))
            for what, value in result.items():
                print(f"{name:10} {what:36} {value:12.2f}")
            print(msgspec.json.encode({name: result}).decode(), flush=True)


if __name__ == "__main__":
    main()
