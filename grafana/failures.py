"""*Failures*: what fails, where, and what is different from before."""

from __future__ import annotations

from typing import Final

from grafana.frame import Section, dashboard
from grafana.overview import BAD, FINISHED, failures_by_class
from grafana.panels import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, Panel, lines, number, prop, query, rows
from grafana.queries import RANGE, RATE, share, total

FAILURES: Final = "metastudio_tts_job_failures_total"
PAST: Final = {"yesterday": "1d", "last week": "1w"}


def ratio(window: str = RATE, offset: str = "") -> str:
    bad = total(FINISHED, match=BAD, window=window, offset=offset)
    return share(bad, total(FINISHED, window=window, offset=offset))


def unclassified(window: str) -> str:
    part = total(FAILURES, match={"fail_msg_class": "unclassified"}, per="increase", window=window)
    return share(part, total(FAILURES, per="increase", window=window))


def failed(by: tuple[str, ...], offset: str = "") -> str:
    """How many failed in the time shown, or as long a time before."""
    return f"round({total(FAILURES, by, per='increase', window=RANGE, offset=offset)})"


# --- in numbers -----------------------------------------------------------------------------------------


def failure_ratio() -> Panel:
    return number(
        "Failure ratio",
        "Of the jobs that finished in the time shown, the share that failed. Green is within the alerts' "
        "budget of 3 %, red more than twice that.",
        query(ratio(RANGE), at="instant"),
        unit="percentunit",
        steps=((None, GREEN), (0.03, YELLOW), (0.06, RED)),
        decimals=2,
        size=(4, 4),
        spark=False,
    )


def failed_jobs() -> Panel:
    return number(
        "Failed jobs",
        "Jobs that failed in the time shown.",
        query(failed(()), at="instant"),
        unit="short",
        color=RED,
        size=(4, 4),
        spark=False,
    )


def most_frequent() -> Panel:
    return number(
        "Most frequent",
        "The class with the most failures in the time shown.",
        query(f"topk(1, {failed(('fail_msg_class',))} > 0)", "{{fail_msg_class}}", at="instant"),
        unit="short",
        color=RED,
        decimals=0,
        size=(4, 4),
        spark=False,
        named=True,
    )


def against(word: str, offset: str) -> Panel:
    return number(
        f"Against {word}",
        f"Failure ratio of the time shown minus that of the same hours {word}: above 0 is worse than then.",
        query(f"{ratio(RANGE)} - {ratio(RANGE, offset)}", at="instant"),
        unit="percentunit",
        steps=((None, GREEN), (0.005, YELLOW), (0.02, RED)),
        decimals=2,
        size=(4, 4),
        spark=False,
    ).no_value("no data then")


def unclassified_share() -> Panel:
    return number(
        "Unclassified",
        "Share of failures whose message no rule knows. From 5 % on, the command classify shows which "
        "messages deserve a rule.",
        query(unclassified(RANGE), at="instant"),
        unit="percentunit",
        steps=((None, GREEN), (0.05, YELLOW), (0.2, RED)),
        decimals=1,
        size=(4, 4),
        spark=False,
    )


# --- over time ------------------------------------------------------------------------------------------


def ratio_against_traffic() -> Panel:
    panel = lines(
        "Failure ratio against traffic",
        "Does it fail more when more is asked of it? The ratio with the alerts' budget of 3 %, and finished "
        "jobs a minute on the right.",
        [query(ratio(), "failure ratio"), query(f"60 * {total(FINISHED)}", "finished jobs/min")],
        unit="percentunit",
        size=(10, 12),
        colors={"failure ratio": RED, "finished jobs/min": BLUE},
        steps=((None, "transparent"), (0.03, RED)),
    )
    right = [
        prop("unit", "short"),
        prop("custom.axisPlacement", "right"),
        prop("custom.thresholdsStyle", {"mode": "off"}),
        prop("custom.lineWidth", 1),
    ]
    return panel.override_by_name("finished jobs/min", right)


def unclassified_over_time() -> Panel:
    return lines(
        "Share of unclassified",
        "Of the failures of 30 minutes, those whose message no rule knows: a new kind of failure shows here "
        "first.",
        [query(unclassified("30m"), "unclassified")],
        unit="percentunit",
        size=(10, 16),
        colors={"unclassified": ORANGE},
        steps=((None, "transparent"), (0.05, YELLOW), (0.2, RED)),
    )


def now_and_then() -> Panel:
    past = [query(ratio("30m", offset), word) for word, offset in PAST.items()]
    panel = lines(
        "Failure ratio, now and then",
        "The ratio of the last 30 minutes at each moment, and at the same time yesterday and a week ago.",
        [query(ratio("30m"), "now"), *past],
        unit="percentunit",
        size=(10, 16),
        colors={"now": RED, "yesterday": BLUE, "last week": GREY},
    )
    thin = [
        prop("custom.lineWidth", 1),
        prop("custom.fillOpacity", 0),
        prop("custom.lineStyle", {"fill": "dash", "dash": [6, 6]}),
    ]
    return panel.override_by_regexp("yesterday|last week", thin)


# --- tables ---------------------------------------------------------------------------------------------


def class_by_service() -> Panel:
    matrix = {
        "columnField": "tts_service_enum",
        "rowField": "fail_msg_class",
        "valueField": "Value",
        "emptyValue": "zero",
    }
    panel = rows(
        "Class by service",
        "Failed jobs in the time shown, by class of message and by service: a dark row is a kind of failure, "
        "a dark column a service in trouble.",
        [query(f"{failed(('fail_msg_class', 'tts_service_enum'))} > 0", at="table")],
        size=(14, 16),
        columns={"fail_msg_class\\tts_service_enum": "Class"},
        widths={"Class": 170},
        before=[("groupingToMatrix", matrix)],
    )
    cells = [
        prop("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        prop("color", {"mode": "continuous-YlRd"}),
        prop("min", 0),
    ]
    return panel.override_by_regexp("^(?!Class$).*", cells).decimals(0)


def what_changed() -> Panel:
    now, *then = (failed(("fail_msg_class",), offset) for offset in ("", *PAST.values()))
    changes = [f"{now} - {before}" for before in then]
    names = ("Now", "Yesterday", "Last week", "+/- yesterday", "+/- last week")
    columns = {f"Value #{ref_id}": name for ref_id, name in zip("ABCDE", names, strict=True)}
    panel = rows(
        "What changed",
        "Failed jobs by class: in the time shown, in the same hours yesterday and a week ago, and the "
        "differences. Red has become more.",
        [query(expr, at="table") for expr in (now, *then, *changes)],
        size=(14, 16),
        columns={"fail_msg_class": "Class", **columns},
        before=[("merge", {})],
        sort="+/- yesterday",
    )
    steps = [{"value": None, "color": GREEN}, {"value": 1, "color": RED}]
    more = [
        prop("custom.cellOptions", {"type": "color-text"}),
        prop("thresholds", {"mode": "absolute", "steps": steps}),
        prop("color", {"mode": "thresholds"}),
    ]
    return panel.override_by_regexp(r"\+/- .*", more).decimals(0)


def build() -> str:
    comparisons = [against(word, offset) for word, offset in PAST.items()]
    head = [failure_ratio(), failed_jobs(), most_frequent(), *comparisons, unclassified_share()]
    sections: list[Section] = [
        ("", [*head, failures_by_class((14, 12), legend=("max",)), ratio_against_traffic()]),
        ("Where", [class_by_service(), unclassified_over_time()]),
        ("What changed", [now_and_then(), what_changed()]),
    ]
    return dashboard(
        "metastudio-tts-failures",
        "MetaStudio TTS / Failures",
        "Which jobs fail, why, where, and what is different from yesterday and last week.",
        sections,
    )
