"""Ledgers and records for unit tests."""

from __future__ import annotations

from typing import Any

from exporter.ledger.ledger import Ledger
from exporter.ledger.record import Record
from exporter.ledger.settings import LedgerSettings
from exporter.ledger.sighting import Sighting
from exporter.ledger.stored import StoredLedger, configured_buckets, open_ledger
from testkit.world import START
from tests.fake_api import ledger_settings

LABEL_SET = ("ASYNC_JOB", "TTS_LLM")


def record(
    job_id: str | None = "a", created: int | None = START, state: str = "WAITING", **more: Any
) -> Record:
    values: dict[str, Any] = {
        "job_type": LABEL_SET[0],
        "tts_service_enum": LABEL_SET[1],
        "text_length": 10,
    } | more
    return Record(job_id, created, state, **values)


def sighting(at: int, since: int | None = START - 3_600_000, until: int | None = None) -> Sighting:
    return Sighting(at, at + 100, since, at if until is None else until)


def new_ledger(settings: LedgerSettings | None = None, at: int = START) -> Ledger:
    """An empty ledger, counting since ``at``."""
    ledger = open_ledger(StoredLedger(), settings or ledger_settings(), (LABEL_SET,))
    ledger.start(at)
    return ledger


def reopened(ledger: Ledger, settings: LedgerSettings | None = None) -> Ledger:
    """The same ledger as a store would give it back, all committed."""
    held = settings or ledger.settings
    stored = StoredLedger(
        version=1,
        watermarks=ledger.watermarks,
        jobs=dict(ledger.jobs.items()),
        totals=dict(ledger.totals.values),
        label_sets=ledger.label_sets.known,
        buckets=configured_buckets(ledger.settings),
    )
    return open_ledger(stored, held, (LABEL_SET,))
