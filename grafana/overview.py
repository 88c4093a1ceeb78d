"""*TTS overview*: is it working? The answer first, then what it is made of."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders import stat, timeseries

from grafana.frame import Section, choices, dashboard
from grafana.panels import (
    BLUE,
    CLASSES,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    STATES,
    YELLOW,
    Panel,
    band,
    bars,
    buckets,
    leads_to,
    lines,
    number,
    of_histograms,
    prop,
    query,
    rows,
    words,
)
from grafana.queries import RANGE, buckets_of, once, quantile, selector, share, total, value

FINISHED: Final = "metastudio_tts_jobs_finished_total"
CREATED: Final = "metastudio_tts_jobs_created_total"
OPEN: Final = "metastudio_tts_open_jobs"
OLDEST: Final = "metastudio_tts_oldest_open_job_timestamp_seconds"
UPPER: Final = "metastudio_tts_job_duration_upper_bound_seconds"
LOWER: Final = "metastudio_tts_job_duration_lower_bound_seconds"
COUNTED: Final = "metastudio_tts_counted_until_timestamp_seconds"
GOOD: Final = {"job_state": "SUCCEED"}
BAD: Final = {"job_state": "FAILED"}
FIRING: Final = 'ALERTS{alertstate="firing",alertname=~"MetaStudioTTS.*",target=~"$target|"}'

LAG_STEPS: Final = ((None, GREEN), (900, YELLOW), (1200, RED))
"""Seconds; twice the default ``poll.overlap`` is ordinary, and at the last the alert PollStale fires."""
RATIO_STEPS: Final = ((None, RED), (0.94, YELLOW), (0.97, GREEN))
"""The alerts' failure budget is 3 %."""


TARGET: Final = ("target",)


def success(by: tuple[str, ...] = (), window: str = RANGE) -> str:
    good = total(FINISHED, by, per="increase", window=window, match=GOOD)
    return share(good, total(FINISHED, by, per="increase", window=window))


# --- the answer -----------------------------------------------------------------------------------------


def grade() -> str:
    """0 yes, 1 degraded, 2 failing, 3 stuck, 4 blind, 5 no data: the worst that holds for any target."""
    up = once("metastudio_up", f"max_over_time({selector('metastudio_up')}[5m])")
    blind = f"clamp_max((max(time() - {value(COUNTED)}) > bool 1200) + (min({up}) == bool 0), 1)"
    arrived = total(CREATED, TARGET, per="increase", window="10m")
    finished = total(FINISHED, TARGET, per="increase", window="10m")
    stuck = f"({arrived} > bool 5) * ({finished} == bool 0)"
    enough = f"({total(FINISHED, TARGET, per='increase', window='15m')} >= bool 10)"
    burn = f"(1 - {success(TARGET, window='15m')}) / (1 - $slo / 100)"
    reasons = {
        "blind": f"4 * {blind}",
        "stuck": f"3 * {stuck}",
        "failing": f"2 * ({burn} > bool 5) * {enough}",
        "degraded": f"({burn} > bool 2) * {enough}",
    }
    marked = (f'label_replace({expr}, "why", "{why}", "", "")' for why, expr in reasons.items())
    return f"max({' or '.join(marked)}) or vector(5)"


def is_it_working() -> Panel:
    answer = number(
        "Is it working?",
        "Blind: the job list was not read for 5 minutes, or is counted only up to 20 minutes ago. Stuck: "
        "more than 5 jobs arrived within 10 minutes and none finished. Degraded or failing: of at least 10 "
        "jobs within 15 minutes more than twice, or five times, as many failed as the objective allows.",
        query(grade(), at="instant"),
        unit="none",
        size=(4, 5),
        background=True,
        spark=False,
    )
    meanings = {
        "0": ("Yes", GREEN),
        "1": ("Degraded", YELLOW),
        "2": ("Failing", RED),
        "3": ("Stuck", ORANGE),
        "4": ("Blind", PURPLE),
        "5": ("No data", PURPLE),
    }
    return words(answer, meanings)


def success_ratio() -> Panel:
    return number(
        "Success ratio",
        "Of the jobs that finished in the time shown, the share that succeeded. Green is within the "
        "objective of the alerts, 97 %; red is more than twice as many failures as that allows.",
        query(success(), at="instant"),
        unit="percentunit",
        steps=RATIO_STEPS,
        decimals=2,
        size=(4, 5),
        spark=False,
    )


def error_budget() -> Panel:
    return number(
        "Error budget left, 30 days",
        "What is left of the failures that the objective allows within 30 days: 100 % untouched, 0 % used "
        "up, below that the objective is missed. Needs 30 days of retention in Prometheus.",
        query(f"1 - (1 - {success(window='30d')}) / (1 - $slo / 100)", at="instant"),
        unit="percentunit",
        steps=((None, RED), (0.0, ORANGE), (0.25, GREEN)),
        decimals=0,
        size=(4, 5),
        spark=False,
    )


def open_jobs() -> Panel:
    return number(
        "Open jobs",
        "Jobs neither finished nor expired, whenever they were created.",
        query(f"sum({value(OPEN)})"),
        unit="short",
        size=(3, 5),
    )


def oldest_open_job() -> Panel:
    return number(
        "Oldest open job",
        "Age of the job that has been open longest: yellow from 15 minutes, orange from an hour, red when "
        "half of the default poll.max_job_age is over, after which it is given up. One job may hang while "
        "all others pass: see Backlog.",
        query(f"max(time() - {value(OLDEST)})"),
        unit="s",
        steps=((None, GREEN), (900, YELLOW), (3600, ORANGE), (43200, RED)),
        decimals=0,
        size=(3, 5),
        spark=False,
    )


def counting_lag(size: tuple[int, int]) -> stat.Panel:
    return number(
        "Counting lag",
        "Every job created longer ago than this, and listed in time, is counted. Up to twice poll.overlap is "
        "ordinary; from 20 minutes on what is shown is out of date.",
        query(f"max(time() - {value(COUNTED)})"),
        unit="s",
        steps=LAG_STEPS,
        decimals=0,
        size=size,
        spark=False,
    )


def firing() -> Panel:
    return number(
        "Firing alerts",
        "Alerts of this exporter that fire now, of the chosen targets or of no target.",
        query(f"count({FIRING}) or vector(0)", at="instant"),
        unit="none",
        steps=((None, GREEN), (1, ORANGE)),
        size=(3, 5),
        spark=False,
    )


# --- what goes through ----------------------------------------------------------------------------------


def throughput() -> Panel:
    panel = lines(
        "Throughput, jobs/min",
        "Jobs a minute: created, and finished by result. Expired ones were given up after poll.max_job_age, "
        "or vanished from the list.",
        [
            query(f"60 * {total(FINISHED, ('job_state',))}", "{{job_state}}"),
            query(f"60 * {total('metastudio_tts_jobs_expired_total')}", "expired"),
            query(f"60 * {total(CREATED)}", "created"),
        ],
        unit="short",
        size=(9, 8),
        stacked=True,
        colors=STATES,
    )
    apart = [
        prop("custom.stacking", {"mode": "none", "group": "B"}),
        prop("custom.fillOpacity", 0),
        prop("custom.lineWidth", 2),
    ]
    return panel.override_by_name("created", apart)


def failures_by_class(size: tuple[int, int], legend: tuple[str, ...] = ()) -> timeseries.Panel:
    each = total("metastudio_tts_job_failures_total", ("fail_msg_class",))
    return lines(
        "Failures by class, jobs/min",
        "Failed jobs a minute by class of their message. Orange is for those who write the texts, purple for "
        "the account, red and blue for the service and the way there, grey for nobody knows. Exemplars carry "
        "a job's id.",
        [query(f"60 * {each} > 0", "{{fail_msg_class}}", exemplar=True)],
        unit="short",
        size=size,
        stacked=True,
        bars=True,
        legend=legend,
        colors=CLASSES,
    )


def why() -> Panel:
    return leads_to(failures_by_class((9, 8)), "Failures", "metastudio-tts-failures")


def alerts() -> Panel:
    short = f'label_replace({FIRING}, "alert", "$1", "alertname", "MetaStudioTTS(.*)")'
    columns = {"severity": "Severity", "alert": "Alert", "target": "Target"}
    panel = rows(
        "Alerts",
        "What fires now; the runbook has a section for each. Empty is good.",
        [query(f"max by (severity, alert, target) ({short})", at="table")],
        size=(6, 8),
        columns=columns,
    )
    colors = {"critical": RED, "warning": ORANGE, "info": BLUE}
    options = {
        severity: {"text": severity, "color": color, "index": index}
        for index, (severity, color) in enumerate(colors.items())
    }
    look = [
        prop("custom.width", 80),
        prop("mappings", [{"type": "value", "options": options}]),
        prop("custom.cellOptions", {"type": "color-text"}),
    ]
    panel.override_by_name("Severity", look).override_by_name("Target", [prop("custom.width", 80)])
    return panel.no_value("Nothing fires")


# --- queue and duration ---------------------------------------------------------------------------------


def backlog() -> Panel:
    return lines(
        "Backlog",
        "Open jobs by state: waiting for a start, or at work.",
        [query(f"sum by (job_state) ({value(OPEN)})", "{{job_state}}")],
        unit="short",
        size=(8, 8),
        stacked=True,
        colors=STATES,
    )


def durations() -> Panel:
    panel = lines(
        "Job duration",
        "Median and 95th percentile of the jobs that succeeded. The list tells no finish times, so each is a "
        "band: the true value lies between the last sighting as open and the first as finished.",
        [
            query(quantile(0.95, UPPER), "p95 at most", exemplar=True),
            query(quantile(0.95, LOWER), "p95 at least"),
            query(quantile(0.5, UPPER), "median at most"),
            query(quantile(0.5, LOWER), "median at least"),
        ],
        unit="s",
        size=(8, 8),
        log=True,
    )
    band(panel, "p95 at least", "p95 at most", ORANGE)
    return of_histograms(band(panel, "median at least", "median at most", BLUE))


def heat() -> Panel:
    panel = buckets(
        "Durations, at most",
        "How many jobs succeeded within which time, by upper bound.",
        query(buckets_of(UPPER), at="heatmap", exemplar=True),
        unit="s",
        size=(8, 8),
        scheme="Oranges",
    )
    return of_histograms(panel)


# --- by job type and service ----------------------------------------------------------------------------


def of_each(label: str, word: str) -> list[Panel]:
    legend = f"{{{{{label}}}}}"
    return [
        bars(
            f"Success ratio by {word}",
            f"Of the jobs of this {word} that finished in the time shown, the share that succeeded. Bars "
            "begin at 80 %.",
            [query(success((label,)), legend, at="instant")],
            unit="percentunit",
            size=(5, 8),
            steps=RATIO_STEPS,
            ends=(0.8, 1),
        ).decimals(1),
        lines(
            f"Created by {word}, jobs/min",
            f"New jobs a minute by {word}.",
            [query(f"60 * {total(CREATED, (label,))}", legend)],
            unit="short",
            size=(7, 8),
            stacked=True,
        ),
    ]


def text_volume() -> Panel:
    panel = lines(
        "Text volume, characters/min",
        "Characters a minute: submitted with new jobs, and synthesized by jobs that succeeded.",
        [
            query(f"60 * {total('metastudio_tts_text_length_characters', suffix='_sum')}", "submitted"),
            query(f"60 * {total('metastudio_tts_synthesized_characters_total')}", "synthesized"),
        ],
        unit="short",
        size=(24, 6),
        colors={"submitted": BLUE, "synthesized": GREEN},
    )
    return leads_to(panel, "Usage", "metastudio-tts-usage")


def build() -> str:
    answer = [
        is_it_working(),
        success_ratio(),
        error_budget(),
        open_jobs(),
        oldest_open_job(),
        leads_to(counting_lag((3, 5)), "Exporter and API", "metastudio-tts-exporter"),
        firing(),
    ]
    parts = [*of_each("job_type", "job type"), *of_each("tts_service_enum", "service"), text_volume()]
    sections: list[Section] = [
        ("", [*answer, throughput(), why(), alerts()]),
        ("Queue and duration", [backlog(), durations(), heat()]),
        ("By job type and service", parts),
    ]
    objectives = ("90", "95", "97", "99", "99.5", "99.9")
    slo = choices("slo", "Objective, %", "Share of jobs that must succeed", objectives, chosen="97")
    return dashboard(
        "metastudio-tts-overview",
        "MetaStudio TTS / Overview",
        "Is text-to-speech working? Success, throughput, backlog, durations and alerts.",
        sections,
        variables=[slo],
    )
