"""Panels of the exporter itself: its processes, the targets they poll, and how they agree."""

from __future__ import annotations

from typing import Final

from grafana.panels import GREEN, RED, Panel, lines, number, query, rows, state
from grafana.queries import LAST_COMMIT, selector

DROPPED: Final = "metastudio_exporter_log_lines_dropped_total"
BUILD: Final = "metastudio_exporter_build_info"
LEASE: Final = "metastudio_exporter_lease_held"


def ours(series: str) -> str:
    """Only of processes that are this exporter."""
    return f"{series} and on (job, instance) {BUILD}"


def of_process(title: str, description: str, series: str, unit: str) -> Panel:
    return lines(title, description, [query(ours(series), "{{instance}}")], unit=unit, size=(8, 7))


def log_lines_dropped() -> Panel:
    return number(
        "Log lines dropped",
        "In the time shown, because nobody read standard error, or it could not be written. What happened "
        "then is not in the log.",
        query(f"sum(increase({DROPPED}[$__range]) and on (job, instance) {BUILD})", at="instant"),
        unit="short",
        steps=((None, GREEN), (1, RED)),
        decimals=0,
        spark=False,
    )


def process() -> list[Panel]:
    cpu = "rate(process_cpu_seconds_total[$__rate_interval])"
    targets = "max by (target, region, project_id, api_endpoint) (metastudio_exporter_target_info"
    newest = f"max by (target) ({selector(LAST_COMMIT)})"
    loaded = ours("metastudio_exporter_config_last_reload_successful")
    accepted = "Whether the last start or reload of the configuration succeeded on every replica."
    return [
        of_process("CPU", "Share of one core that each replica uses.", cpu, "percentunit"),
        of_process("Memory", "Resident memory of each replica.", "process_resident_memory_bytes", "bytes"),
        of_process(
            "File descriptors", "Files and sockets open in each replica.", "process_open_fds", "short"
        ),
        state("Configuration", accepted, f"min({loaded})", ("1", "Loaded"), ("0", "Refused")),
        log_lines_dropped(),
        rows(
            "Targets",
            "Where each target is: region, project and endpoint.",
            [query(f'{targets}{{target=~"$target"}})', at="table")],
            size=(18, 4),
            widths={"Target": 90, "Region": 100, "Project": 290},
            columns={
                "target": "Target",
                "region": "Region",
                "project_id": "Project",
                "api_endpoint": "Endpoint",
            },
        ),
        lines(
            "Targets polled",
            "By replica: each target is polled by one of them, and another one goes on when it is gone. "
            "Where there are fewer than usual, nobody polled the rest.",
            [query(f"sum by (instance) ({selector(LEASE)})", "{{instance}}")],
            unit="short",
            size=(8, 7),
            stacked=True,
        ),
        lines(
            "Books behind",
            "How much older what a replica shows is than what another one shows, at most. Usual are some "
            "seconds; one that cannot read the database stands still.",
            [
                query(
                    f"max by (instance) ({newest} - on (target) group_right () {selector(LAST_COMMIT)})",
                    "{{instance}}",
                )
            ],
            unit="s",
            size=(8, 7),
        ),
        rows(
            "Replicas",
            "Which version runs where, and on which Python.",
            [query(f"max by (instance, version, revision, pythonversion) ({BUILD})", at="table")],
            size=(8, 7),
            columns={
                "instance": "Instance",
                "version": "Version",
                "revision": "Revision",
                "pythonversion": "Python",
            },
        ),
    ]
