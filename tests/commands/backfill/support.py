"""A target with a past: jobs of three hours before counting began, and an hour of live counting."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from exporter.commands.backfill.command import BackfillReader
from exporter.commands.backfill.output import OutputFormat, write_samples
from exporter.commands.backfill.spool import Spool
from exporter.commands.past import Past, PastJobs
from exporter.config import Config, FailMsgClass
from exporter.store import SqlitePast
from exporter.store.sqlite import SqliteStore
from testkit.world import MINUTE, SECOND, TARGET
from tests.fake_api import PollerHarness
from tests.store.support import SCOPE

CONFIG: Final = Config(
    fail_msg_classes=(FailMsgClass("boom", "boom"), FailMsgClass("bang", "bang")),
    builtin_fail_msg_classes=False,
)
LABELS: Final = {"job": "j", "instance": "i", "target": "t"}
HOUR: Final = 60 * MINUTE


class WithPast:
    """What happened, and what the exporter made of it."""

    def __init__(self, folder: Path, seed: int = 1, busy: int = 0) -> None:
        """``busy``: so many jobs more in the last minutes before counting began, half of them open then."""
        self.folder = folder
        self.store = SqliteStore(folder / "books.db")
        self.harness = harness = PollerHarness(self.store)
        self.draw = random.Random(seed)
        now = harness.clock.ms
        self.since = (now - 3 * HOUR) // MINUTE * MINUTE
        for _ in range(400):
            at = self.draw.randrange(self.since, now) // SECOND * SECOND
            self._create(at, ended=self.draw.random() < 0.97, rare=0.0)
        for _ in range(busy):
            at = self.draw.randrange(now - 3 * MINUTE, now) // SECOND * SECOND
            self._create(at, ended=self.draw.random() < 0.5, rare=0.1)
        # Every series has a past.
        for state, fail_msg in (("SUCCEED", ""), ("FAILED", "boom"), ("FAILED", "bang")):
            harness.api.create(
                self.since + 10 * MINUTE, state, fail_msg=fail_msg, text_length=5, tts_service_enum="TTS_LAB"
            )
        open_then = {name for name, job in harness.api.jobs.items() if job.job_state == "WAITING"}
        asyncio.run(harness.poll(3))
        watermarks = harness.repository.ledger.watermarks
        self.baseline = watermarks.baseline
        self.live = {
            name for name in open_then if (harness.api.jobs[name].create_time or 0) >= self.baseline - HOUR
        }
        self.samples: list[tuple[int, dict[tuple[str, str, str, str], int]]] = []
        for _ in range(240):
            asyncio.run(harness.poll())
            self.samples.append((harness.clock.ms, dict(harness.repository.ledger.totals.values)))
            if self.draw.random() < 0.5:
                self.live.add(self._create(harness.clock.ms // SECOND * SECOND, ended=False, rare=0.5))
            for name, job in list(harness.api.jobs.items()):
                if job.job_state == "WAITING" and self.draw.random() < 0.05:
                    self._end(name)
        for name, job in list(harness.api.jobs.items()):
            if job.job_state == "WAITING":
                self._end(name)
        asyncio.run(harness.poll(40))
        self.samples.append((harness.clock.ms, dict(harness.repository.ledger.totals.values)))

    @property
    def end(self) -> int:
        """The time of the last live sample."""
        return self.samples[-1][0]

    def _create(self, at: int, *, ended: bool, rare: float) -> str:
        name = self.harness.api.create(
            at,
            text_length=self.draw.randrange(1, 2000),
            tts_service_enum="TTS_LAB" if self.draw.random() < rare else "TTS_LLM",
        )
        if ended:
            self._end(name)
        return name

    def _end(self, name: str) -> None:
        if self.draw.random() < 0.2:
            self.harness.api.finish(name, "FAILED", fail_msg=self.draw.choice(("boom", "bang")))
        else:
            self.harness.api.finish(name)

    def truth(self, start: int, metric: str) -> int:
        """By how much the metric grew from ``start``, before counting began, to the end."""
        api = self.harness.api
        jobs = [
            job
            for name, job in api.jobs.items()
            if name in self.live or start <= (job.create_time or 0) < self.baseline
        ]
        return {
            "metastudio_tts_jobs_created_total": len(jobs),
            "metastudio_tts_jobs_finished_total": sum(job.job_state != "WAITING" for job in jobs),
            "metastudio_tts_job_failures_total": sum(job.job_state == "FAILED" for job in jobs),
            "metastudio_tts_text_length_characters_sum": sum(job.text_length or 0 for job in jobs),
            "metastudio_tts_text_length_characters_count": len(jobs),
            "metastudio_tts_synthesized_characters_total": sum(
                job.text_length or 0 for job in jobs if job.job_state == "SUCCEED"
            ),
        }[metric]

    def backfill(self, form: OutputFormat = "openmetrics", until: int | None = None) -> tuple[bytes, Spool]:
        """What the command would write."""
        past = Past(self.since, self.baseline if until is None else until)
        spool = Spool(self.folder / "spool", "test", past)
        stored = SqlitePast(self.folder / "books.db", "t", SCOPE, None)
        reader = BackfillReader(CONFIG, TARGET, stored, spool, past)

        async def read() -> None:
            rest = Past(spool.progress.reached, past.until)
            async for _ in reader.run(PastJobs(self.harness.api, TARGET), rest):
                pass

        asyncio.run(read())
        spool.save()
        written: list[bytes] = []
        write_samples(spool, *past, LABELS, form, written.append, lambda _: None)
        return b"".join(written), spool

    def live_samples(self, form: OutputFormat = "openmetrics") -> bytes:
        """What Prometheus would have scraped, with the labels that it adds. Its first scrape comes late: some
        series are larger then than they were at the end of the past.
        """
        lines = "".join(self._live_lines(1 if form == "victoriametrics" else SECOND))
        return (lines + ("# EOF\n" if form == "openmetrics" else "")).encode()

    def _live_lines(self, unit: int) -> Iterator[str]:
        names = {
            "created": ("metastudio_tts_jobs_created_total", ""),
            "finished": ("metastudio_tts_jobs_finished_total", "job_state"),
            "failures": ("metastudio_tts_job_failures_total", "fail_msg_class"),
            "synthesized": ("metastudio_tts_synthesized_characters_total", ""),
        }
        series: Counter[tuple[str, str]] = Counter()
        for at, totals in self.samples[120:]:
            now: Counter[tuple[str, str]] = Counter(dict.fromkeys(series, 0))
            for (name, job_type, service, detail), value in totals.items():
                labels = f'job="j",instance="i",target="t",job_type="{job_type}",tts_service_enum="{service}"'
                if name == "text_length":
                    kind = "sum" if detail == "sum" else "count"
                    now[f"metastudio_tts_text_length_characters_{kind}", labels] += value
                elif name in names:
                    metric, third = names[name]
                    labels += f',{third}="{detail}"' if third else ""
                    now[metric, labels] += value
            series = now
            for (metric, labels), value in now.items():
                yield f"{metric}{{{labels}}} {value} {at // unit}\n"
