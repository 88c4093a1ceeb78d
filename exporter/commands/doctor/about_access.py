"""Findings about the way to the API: credentials, project, network, clock, and who sees which jobs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from exporter.commands.doctor.answers import RawPage
from exporter.commands.doctor.asking import Unanswered
from exporter.commands.doctor.facts import Facts
from exporter.commands.doctor.findings import Examine, Finding, differs, not_known, ok, unusable

_NOTABLE_SKEW: Final = 60.0
_SLOW: Final = 5.0
_OTHER_IDENTITY: Final = "try the account's own key, or an agency"
_TINY: Final = 1.0


def access(facts: Facts) -> Finding:
    """Could anything be asked?"""
    if facts.stopped:
        return unusable("access", facts.stopped)
    return ok("access", f"{facts.requests} requests, {facts.retries} repeated")


def credentials(facts: Facts) -> Finding:
    """Where they come from, and when they end."""
    if facts.refused:
        return unusable("credentials", f"{facts.source}: refused; see access")
    if facts.unavailable:
        return unusable("credentials", f"{facts.source}: not available there; see access")
    if facts.stopped and not facts.accepted:
        return not_known("credentials", f"{facts.source}: {_unproven(facts)}; see access")
    if facts.expiry is None:
        return ok("credentials", facts.source)
    ends = datetime.fromtimestamp(facts.expiry, UTC)
    return ok("credentials", f"{facts.source}; they end at {ends:%Y-%m-%d %H:%M} UTC and are renewed")


def _unproven(facts: Facts) -> str:
    """What became of credentials that were neither accepted nor refused."""
    if facts.denied:
        return "known to the API, which does not allow them this"
    if facts.latency is not None or (facts.iam is not None and not facts.unreachable):
        return "tried, but no answer shows whether they are accepted"
    return "not tried: no answer came"


def project(facts: Facts) -> Finding:
    """The project id, and where it was found."""
    if not facts.project_id:
        where = "project_id, or without a configuration HUAWEICLOUD_SDK_PROJECT_ID"
        return not_known("project", f"no project id was found: name it ({where})")
    if facts.target.project_id:
        return ok("project", facts.project_id)
    return differs(
        "project",
        f"{facts.project_id}, found with the credentials or by the region's name: it may be named",
        f'project_id: "{facts.project_id}"',
    )


def network(facts: Facts) -> Finding:
    """Name, TLS and proxy work when an answer came; how long it took."""
    through = f"through the proxy {facts.proxy}" if facts.proxy else "without a proxy"
    if facts.unreachable:
        return unusable("network", facts.unreachable)
    if facts.latency is None:
        return not_known("network", f"no answer to judge by, {through}")
    text = f"{facts.target.endpoint}, {through}; {facts.latency * 1000:.0f} ms an answer (median)"
    return differs("network", f"{text}: slow") if facts.latency > _SLOW else ok("network", text)


def iam(facts: Facts) -> Finding | None:
    """The identity service, where tokens or the project id come from it."""
    if facts.iam is None:
        return None
    requests, error = facts.iam
    if facts.stopped and not facts.project_id and error:
        return unusable("iam", f"{facts.target.iam_endpoint}: {error}")
    return ok("iam", f"{facts.target.iam_endpoint}: {requests} request{'' if requests == 1 else 's'}")


def throttling(facts: Facts) -> Finding | None:
    """Did the API ask for fewer requests?"""
    if not facts.throttled:
        return None
    rate = facts.asked_rate
    return differs(
        "throttling",
        f"{facts.throttled} answers were 429 at {rate:g} requests a second, half of rate_limit: lower it",
        f"rate_limit: {rate:g}",
    )


def clock_difference(facts: Facts) -> Finding:
    """The API's clock against ours: signatures may be off by 15 minutes."""
    if facts.skew is None:
        return not_known("clock", "no answer had a Date")
    if abs(facts.skew) <= _NOTABLE_SKEW:
        return ok(
            "clock", f"{facts.skew:+.1f} s against this machine" if abs(facts.skew) >= _TINY else "equal"
        )
    return differs(
        "clock",
        f"the API's is {abs(facts.skew):.0f} s {'ahead of' if facts.skew > 0 else 'behind'} this machine's:"
        " the exporter goes by the API's, but correct this machine's (NTP)",
    )


def isolation(facts: Facts) -> Finding:
    """Does the account hide the jobs of other users from IAM users?"""
    if facts.isolated is None and not facts.isolation_unknown:
        return not_known("isolation", "not asked")
    if facts.isolated is None:
        return not_known(
            "isolation",
            f"{facts.isolation_unknown}: if they are, one of them sees its own jobs only, and the jobs"
            f" here may be a part of all; {_OTHER_IDENTITY}, and compare",
        )
    if not facts.isolated:
        return ok("isolation", "off: every user sees all jobs")
    return differs(
        "isolation", f"on: an IAM user sees only its own jobs; if this is one, {_OTHER_IDENTITY} to see all"
    )


def visibility(facts: Facts) -> Finding:
    """What this identity sees: an empty list is a healthy answer, and looks like a quiet account."""
    if facts.stopped and not facts.first.jobs:
        return not_known("visibility", "not asked")
    if facts.first.jobs and not facts.some:
        many = "" if facts.first.count is None else f" (count: {facts.first.count})"
        return ok("visibility", f"this identity sees jobs{many}; when they were created cannot be asked")
    parts = [f"{_number(facts, name)} in {name}" for name in facts.some]
    if facts.some.get("7d"):
        return ok("visibility", f"this identity sees {', '.join(parts)}")
    seen = "0 jobs in 7 days"
    if facts.some.get("30d"):
        return differs("visibility", f"this identity sees {seen}, but older ones ({parts[-1]})")
    if facts.isolated is False:
        return not_known(
            "visibility", f"this identity sees {seen}, and IAM users are not isolated: submit a job"
        )
    return unusable(
        "visibility",
        f"this identity sees {seen}: the account {'isolates' if facts.isolated else 'may isolate'} IAM users;"
        f" {_OTHER_IDENTITY}",
    )


def _number(facts: Facts, name: str) -> str:
    """How many jobs, where ``count`` can be believed."""
    number = facts.seen.get(name)
    if not facts.some[name]:
        return "0"
    return f"{number}" if facts.count_is_right and number is not None else "some"


def app_user_id(facts: Facts) -> Finding | None:
    """What the header changes."""
    without = facts.without_user
    if without is None:
        return None
    if isinstance(without, Unanswered):
        return not_known("app_user_id", f"the list without it was refused: {without.text}")
    if _same(without, facts.first):
        return ok("app_user_id", "the list is the same with and without it")
    shown = [
        str(answer.count if answer.count is not None else len(answer.jobs))
        for answer in (facts.first, without)
    ]
    return differs(
        "app_user_id",
        f"it filters: {shown[0]} jobs with it, {shown[1]} without; remove it to count all",
    )


def _same(one: RawPage, other: RawPage) -> bool:
    """Nearly: jobs were created meanwhile."""
    return (not one.jobs and not other.jobs) or len(set(one.ids) & set(other.ids)) > 0.9 * len(set(one.ids))


FINDINGS: Final[tuple[Examine, ...]] = (
    access,
    credentials,
    project,
    iam,
    network,
    throttling,
    clock_difference,
    isolation,
    visibility,
    app_user_id,
)
