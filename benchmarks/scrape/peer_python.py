"""prometheus-client's own server with the same series: python -m benchmarks.scrape.peer_python PORT FILE."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from prometheus_client import Gauge as GaugeMetric

from benchmarks.scrape.data import Family


def register(family: Family, registry: CollectorRegistry) -> None:
    """As a program that counts with this library would."""
    if family.type == "histogram":
        histogram = Histogram(
            family.name, family.help, family.labels, buckets=family.bounds, registry=registry
        )
        for series in family.series:
            for bound, count in zip((*family.bounds, float("inf")), series.counts, strict=True):
                for _ in range(count):
                    histogram.labels(*series.labels).observe(bound)
    elif family.type == "counter":
        counter = Counter(family.name, family.help, family.labels, registry=registry)
        for series in family.series:
            (counter.labels(*series.labels) if family.labels else counter).inc(series.value)
    else:
        gauge = GaugeMetric(family.name, family.help, family.labels, registry=registry)
        for series in family.series:
            (gauge.labels(*series.labels) if family.labels else gauge).set(series.value)


def main(port: int, file: Path) -> None:
    """Serve until killed."""
    disable_created_metrics()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    for family in msgspec.json.decode(file.read_bytes(), type=list[Family]):
        register(family, registry)
    start_http_server(port, "127.0.0.1", registry)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
