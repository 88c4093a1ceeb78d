"""Facts -> findings: what differs from the documentation, whether the exporter can count so, how."""

from __future__ import annotations

from exporter.commands.doctor import about_access, about_list, about_records
from exporter.commands.doctor.facts import Facts
from exporter.commands.doctor.findings import Finding, Verdict


def examine_facts(facts: Facts) -> tuple[Finding, ...]:
    """Everything that can be said about one target."""
    parts = about_access.FINDINGS
    if not facts.stopped or facts.first.jobs:
        parts = (*parts, *about_list.FINDINGS, *about_records.FINDINGS)
    return tuple(finding for part in parts if (finding := part(facts)) is not None)


def is_usable(findings: tuple[Finding, ...]) -> bool:
    return all(finding.verdict is not Verdict.UNUSABLE for finding in findings)
