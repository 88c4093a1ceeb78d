"""*Exporter and API*: may the other dashboards be believed, and is the cloud's API well?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana.frame import Section, dashboard
from grafana.overview import COUNTED, counting_lag
from grafana.panels import GREEN, ORANGE, RED, YELLOW, Panel, lines, number, prop, query, state, words
from grafana.process import process
from grafana.queries import RANGE, quantile, share, total, value

REQUESTS: Final = "metastudio_api_requests_total"
ERRORS: Final = "metastudio_api_errors_total"
ERROR_CODES: Final = "metastudio_api_error_codes_total"
LATENCY: Final = "metastudio_api_request_duration_seconds"
LIMIT: Final = "metastudio_api_rate_limit_requests_per_second"
REJECTED: Final = "metastudio_api_credentials_rejected"
DENIED: Final = "metastudio_api_access_denied"
EXPIRY: Final = "metastudio_api_credentials_expiry_timestamp_seconds"
POLLS: Final = "metastudio_exporter_polls_total"
POLL: Final = "metastudio_exporter_poll_duration_seconds"
COMPLETE: Final = "metastudio_exporter_last_complete_poll_timestamp_seconds"
ANOMALIES: Final = "metastudio_exporter_record_anomalies_total"
SKIPPED: Final = "metastudio_exporter_skipped_seconds_total"
FOLDED: Final = "metastudio_exporter_label_sets_folded_total"
DISAGREE: Final = "metastudio_exporter_clocks_disagree"
PER_SECOND: Final = "reqps"
QUANTILES: Final = ((0.5, "median", GREEN), (0.95, "p95", ORANGE), (0.99, "p99", RED))


# --- in one look ----------------------------------------------------------------------------------------


def credentials_end() -> Panel:
    panel = number(
        "Credentials end in",
        "When the first token or temporary key of the chosen targets ends. It is renewed before, unless it "
        "was configured by hand. Permanent keys do not end.",
        query(f"min({value(EXPIRY)} - time()) or vector(-1)", at="instant"),
        unit="s",
        steps=((None, RED), (600, YELLOW), (3600, GREEN)),
        decimals=0,
        size=(3, 4),
        spark=False,
    )
    return words(panel, {"-1": ("Never", GREEN)})


def error_share() -> Panel:
    return number(
        "Request errors",
        "Of all requests in the time shown, retries included, the share that failed. Ordinary networks lose "
        "fewer than 1 %.",
        query(share(total(ERRORS, window=RANGE), total(REQUESTS, window=RANGE)), at="instant"),
        unit="percentunit",
        steps=((None, GREEN), (0.01, YELLOW), (0.1, RED)),
        decimals=2,
        size=(3, 4),
        spark=False,
    )


def limit_used() -> Panel:
    return number(
        "Rate limit used",
        "Requests against the limit in force, of the busiest target. From 80 % on polls begin to wait.",
        query(f"max({total(REQUESTS, ('target',))} / {value(LIMIT)})"),
        unit="percentunit",
        steps=((None, GREEN), (0.8, YELLOW), (0.95, RED)),
        decimals=0,
        size=(3, 4),
    )


def never_read() -> Panel:
    return number(
        "Never read",
        "Stretches of time skipped in the time shown because the exporter was down for longer than "
        "poll.max_catch_up. Jobs created in them are in no count.",
        query(total(SKIPPED, per="increase", window=RANGE), at="instant"),
        unit="s",
        steps=((None, GREEN), (1, RED)),
        decimals=0,
        size=(3, 4),
        spark=False,
    )


def credentials() -> Panel:
    return state(
        "Credentials",
        "Whether the API accepts the credentials of every chosen target, and lets them list jobs. Denied: "
        "they are valid, and lack a permission in the project or region.",
        f"max({value(REJECTED)}) + 2 * max({value(DENIED)})",
        ("0", "Accepted"),
        ("1", "Refused"),
        ("2", "Denied"),
        ("3", "Refused"),
    )


def head() -> list[Panel]:
    answers = "Whether the last poll of every chosen target got a valid answer."
    clocks = (
        "Whether the clocks of the API and of the exporter differ by less than poll.overlap. Where they do "
        "not, jobs are counted late, or not at all if both are wrong: see Clock skew."
    )
    return [
        state("API answers", answers, f"min({value('metastudio_up')})", ("1", "Yes"), ("0", "No")),
        credentials(),
        credentials_end(),
        state("Clocks", clocks, f"max({value(DISAGREE)})", ("0", "Agree"), ("1", "Disagree")),
        counting_lag((3, 4)),
        error_share(),
        limit_used(),
        never_read(),
    ]


# --- the cloud's API ------------------------------------------------------------------------------------


def requests() -> Panel:
    return lines(
        "Requests",
        "Requests a second by operation and HTTP status; none is no answer at all.",
        [query(total(REQUESTS, ("operation", "code")), "{{operation}} {{code}}")],
        unit=PER_SECOND,
        size=(8, 8),
        stacked=True,
    )


def errors(title: str, description: str, name: str, label: str) -> Panel:
    return lines(
        title,
        description,
        [query(f"{total(name, (label,))} > 0", f"{{{{{label}}}}}")],
        unit=PER_SECOND,
        size=(8, 8),
        stacked=True,
        bars=True,
    )


def latency() -> Panel:
    return lines(
        "Latency",
        "How long requests take until the whole answer is there, or until they fail.",
        [query(quantile(q, LATENCY), name) for q, name, _ in QUANTILES],
        unit="s",
        size=(8, 8),
        colors={name: color for _, name, color in QUANTILES},
    )


def against_limit() -> Panel:
    panel = lines(
        "Requests against the limit",
        "Requests a second of each target, and the limit in force. Targets with the same credentials share "
        "one limit.",
        [query(total(REQUESTS, ("target",)), "{{target}}"), query(value(LIMIT), "limit of {{target}}")],
        unit=PER_SECOND,
        size=(8, 8),
    )
    dashed = [
        prop("color", {"mode": "fixed", "fixedColor": RED}),
        prop("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        prop("custom.fillOpacity", 0),
    ]
    return panel.override_by_regexp("^limit of .*", dashed)


def throttling() -> Panel:
    waits = total("metastudio_api_throttle_wait_seconds_total", ("target",))
    panel = lines(
        "Throttling",
        "Share of the time spent waiting for the rate limit or for Retry-After; on the right, retries a "
        "second.",
        [query(waits, "waiting {{target}}"), query(total("metastudio_api_retries_total"), "retries")],
        unit="percentunit",
        size=(8, 8),
    )
    right = [prop("unit", PER_SECOND), prop("custom.axisPlacement", "right"), prop("custom.lineWidth", 1)]
    return panel.override_by_name("retries", right)


# --- polls and books ------------------------------------------------------------------------------------


def outcomes() -> Panel:
    return lines(
        "Polls by outcome, polls/min",
        "Polls a minute: complete when every read succeeded, partial when some did, failed when none.",
        [query(f"60 * {total(POLLS, ('outcome',))}", "{{outcome}}")],
        unit="short",
        size=(8, 8),
        stacked=True,
        colors={"complete": GREEN, "partial": YELLOW, "failed": RED},
    )


def poll_duration() -> Panel:
    return lines(
        "Poll duration",
        "Median and 95th percentile. A poll longer than poll.interval lets the next one be skipped.",
        [query(quantile(q, POLL), name) for q, name, _ in QUANTILES[:2]],
        unit="s",
        size=(8, 8),
        colors={name: color for _, name, color in QUANTILES[:2]},
    )


def lag() -> Panel:
    return lines(
        "Counting lag and last complete poll",
        "Age of the moment until which every job is counted, and of the end of the last complete poll.",
        [
            query(f"time() - {value(COUNTED)}", "counted until {{target}}"),
            query(f"time() - {value(COMPLETE)}", "complete poll {{target}}"),
        ],
        unit="s",
        size=(8, 8),
        steps=((None, "transparent"), (1200, RED)),
    )


def anomalies() -> Panel:
    return lines(
        "Anomalies",
        "Records that are not as documented, by anomaly, in five minutes. For late_record raise "
        "poll.overlap.",
        [query(total(ANOMALIES, ("anomaly",), per="increase", window="5m"), "{{anomaly}}")],
        unit="short",
        size=(8, 8),
        stacked=True,
        bars=True,
    ).axis_soft_max(1)


def clock_skew() -> Panel:
    return (
        lines(
            "Clock skew",
            "Clock of the API minus ours. Signatures are refused from 15 minutes on.",
            [query(value("metastudio_exporter_clock_skew_seconds"), "{{target}}")],
            unit="s",
            size=(8, 8),
            at_least=None,
        )
        .axis_soft_min(-1)
        .axis_soft_max(1)
    )


def folded() -> Panel:
    return lines(
        "Jobs under other/other",
        "Jobs booked under other/other in an hour, because metrics.max_label_sets was reached.",
        [query(total(FOLDED, ("target",), per="increase", window="1h"), "{{target}}")],
        unit="short",
        size=(8, 8),
    ).axis_soft_max(1)


def build(others: Sequence[Panel] = ()) -> str:
    """``others`` are the panels of metrics that have no better place."""
    kinds = "Failed requests a second by kind."
    codes = "Failed requests a second by the API's own code: look it up in the cloud's documentation."
    api = [
        requests(),
        errors("Errors by kind", kinds, ERRORS, "kind"),
        errors("Errors by code", codes, ERROR_CODES, "error_code"),
        latency(),
        against_limit(),
        throttling(),
    ]
    books = [outcomes(), poll_duration(), lag(), anomalies(), clock_skew(), folded()]
    sections: list[Section] = [
        ("", head()),
        ("The cloud's API", api),
        ("Polls and books", books),
        ("The process", process()),
        *([("Further metrics", [*others])] if others else []),
    ]
    return dashboard(
        "metastudio-tts-exporter",
        "MetaStudio TTS / Exporter and API",
        "The cloud's API as the exporter meets it, its polls, its books and its process.",
        sections,
        by_job=False,
    )
