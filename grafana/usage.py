"""*Usage*: how much text goes through, for whom, and what it may cost."""

from __future__ import annotations

from typing import Final

from grafana.frame import Section, dashboard, text_box
from grafana.panels import BLUE, GREEN, PURPLE, RED, YELLOW, Panel, bars, buckets, lines, number, query
from grafana.queries import RANGE, RATE, buckets_of, named, share, total

LENGTH: Final = "metastudio_tts_text_length_characters"
SYNTHESIZED: Final = "metastudio_tts_synthesized_characters_total"
COLORS: Final = {"submitted": BLUE, "synthesized": GREEN}
ESTIMATE: Final = (
    "An estimate, not a bill: characters of jobs that succeeded, at the price above and in its currency. "
    "Free quotas, packages, rounding and prices by voice are not known here. A price of 0 hides it."
)


def submitted(by: tuple[str, ...] = (), per: str = "rate", window: str = RATE) -> str:
    return total(LENGTH, by, per=per, window=window, suffix="_sum")


def synthesized(by: tuple[str, ...] = (), per: str = "rate", window: str = RATE) -> str:
    return total(SYNTHESIZED, by, per=per, window=window)


def month_to_date() -> str:
    """The panels that ask this show the time from the first of the month on."""
    return synthesized(per="increase", window=RANGE)


def projected() -> str:
    """The month so far, and the rest of it at the pace of the last seven days."""
    gone = "86400 * (day_of_month() - 1) + 3600 * hour() + 60 * minute()"
    left = f"scalar(86400 * days_in_month() - ({gone}))"
    return f"{month_to_date()} + {synthesized(window='7d')} * {left}"


def cost(characters: str) -> str:
    """Nothing while no price is set."""
    return f"({characters}) * $price_per_million / 1e6 and on () (vector($price_per_million) > 0)"


# --- this month -----------------------------------------------------------------------------------------


def of_month(title: str, description: str, expr: str, color: str, *, money: bool = False) -> Panel:
    panel = number(
        title,
        description,
        query(expr, at="instant"),
        unit="locale" if money else "short",
        color=color,
        decimals=0 if money else 2,
        size=(5, 5),
        spark=False,
    )
    if money:
        panel.no_value("set a price")
    return panel.time_from("now/M").hide_time_override(True)


def month() -> list[Panel]:
    so_far = (
        "Characters synthesized since the first of this month, UTC, by jobs that succeeded. Needs as much "
        "retention in Prometheus."
    )
    whole = "The month so far, and the rest of it at the average pace of the last seven days."
    return [
        of_month("Month to date, characters", so_far, month_to_date(), GREEN),
        of_month("Projected, whole month", whole, projected(), BLUE),
        of_month("Cost estimate, month to date", ESTIMATE, cost(month_to_date()), PURPLE, money=True),
        of_month("Cost estimate, projected", ESTIMATE, cost(projected()), PURPLE, money=True),
        part_synthesized(),
    ]


def part_synthesized() -> Panel:
    done, asked = (made(per="increase", window=RANGE) for made in (synthesized, submitted))
    return number(
        "Synthesized of submitted",
        "Characters of jobs that succeeded against those of jobs created, in the time shown. What is missing "
        "to 100 % failed, expired or is still open.",
        query(share(done, asked), at="instant"),
        unit="percentunit",
        steps=((None, RED), (0.9, YELLOW), (0.95, GREEN)),
        decimals=1,
        size=(4, 5),
        spark=False,
    )


# --- volume ---------------------------------------------------------------------------------------------


def characters() -> Panel:
    return lines(
        "Characters/min",
        "Characters a minute: submitted with new jobs, and synthesized by jobs that succeeded.",
        [query(f"60 * {submitted()}", "submitted"), query(f"60 * {synthesized()}", "synthesized")],
        unit="short",
        size=(12, 8),
        colors=COLORS,
    )


def text_length() -> Panel:
    return buckets(
        "Text length, characters",
        "How many jobs were created with texts of which length.",
        query(buckets_of(LENGTH), at="heatmap"),
        unit="short",
        size=(12, 8),
        scheme="Blues",
    )


def of_each(label: str, word: str) -> list[Panel]:
    legend = f"{{{{{label}}}}}"
    flows = [
        lines(
            f"{verb} by {word}, characters/min",
            f"Characters a minute of jobs {which}, by {word}.",
            [query(named(f"60 * {rate((label,))}", label), legend)],
            unit="short",
            size=(8, 8),
            stacked=True,
        )
        for verb, which, rate in (
            ("Submitted", "created", submitted),
            ("Synthesized", "that succeeded", synthesized),
        )
    ]
    whole = f"sort_desc({synthesized((label,), 'increase', RANGE)})"
    most = bars(
        f"Characters by {word}",
        f"Characters synthesized in the time shown, by {word}, the most first.",
        [query(whole, legend, at="instant")],
        unit="short",
        size=(8, 8),
        color=GREEN,
    )
    return [*flows, most]


def jobs() -> list[Panel]:
    each = total(LENGTH, ("job_type",), suffix="_count")
    return [
        lines(
            "Mean text length, characters",
            "Characters of an average new job, by job type.",
            [query(named(share(submitted(("job_type",)), each), "job_type"), "{{job_type}}")],
            unit="short",
            size=(12, 7),
            log=True,
        ),
        lines(
            "Jobs/min",
            "New jobs a minute whose text length is known.",
            [query(named(f"60 * {each}", "job_type"), "{{job_type}}")],
            unit="short",
            size=(12, 7),
            stacked=True,
        ),
    ]


def build() -> str:
    parts = [*of_each("tts_service_enum", "service"), *of_each("job_type", "job type")]
    sections: list[Section] = [
        ("", [*month(), characters(), text_length()]),
        ("By service and job type", parts),
        ("Jobs", jobs()),
    ]
    price = text_box(
        "price_per_million",
        "Price per million",
        "Price of a million characters, for an estimate of the cost; 0 hides it",
        "0",
    )
    return dashboard(
        "metastudio-tts-usage",
        "MetaStudio TTS / Usage",
        "Characters submitted and synthesized, this month's volume and an estimate of its cost.",
        sections,
        since="now-24h",
        timezone="utc",
        variables=[price],
    )
