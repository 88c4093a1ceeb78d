"""What will keep a valid configuration from running, or may, found without asking the cloud.

Knows the store, the addresses, and the credentials, proxies and authorities of this environment;
starts nothing.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter import log
from exporter.cloud import POD_URI, EnvironmentSource, ProfileSource, check_network
from exporter.config import Config, DefaultChain, of_shard
from exporter.errors import (
    CredentialsError,
    ExporterError,
    StoreError,
    StoreLockedError,
    StoreUnavailableError,
)
from exporter.runtime import examine_store
from exporter.web import check_status_page, check_telemetry_path, listen


class Flags(NamedTuple):
    """Those of ``serve``; without addresses none is tried."""

    listen_addresses: Sequence[str] = ()
    telemetry_path: str = "/metrics"
    shard: tuple[int, int] = (0, 1)


class Findings(NamedTuple):
    """One line each."""

    problems: tuple[str, ...]
    """It will not start."""
    warnings: tuple[str, ...]
    """It may not do what is wanted."""


def findings(config: Config, environ: Mapping[str, str], flags: Flags, redactor: log.Redactor) -> Findings:
    """Everything that can be known now, by the user who asks."""
    parts = (_store(config, redactor), check_network(environ, config), _addresses(flags.listen_addresses))
    problems = [problem for part in parts for problem in part[0]]
    warnings = [*_credentials(config, environ), *(warning for part in parts for warning in part[1])]
    try:
        check_status_page()
    except ExporterError as error:
        warnings.append(str(error))
    for test in (lambda: check_telemetry_path(flags.telemetry_path), lambda: of_shard(config, *flags.shard)):
        try:
            test()
        except ExporterError as error:
            problems.append(str(error))
    return Findings(tuple(problems), tuple(warnings))


def _store(config: Config, redactor: log.Redactor) -> tuple[list[str], list[str]]:
    """Problems and warnings, one line each."""
    try:
        return [], list(examine_store(config, redactor))
    # A running exporter is what most often holds a file; a database may be out of reach from here, for now.
    except (StoreLockedError, StoreUnavailableError) as error:
        return [], [f"storage.url: {error}"]
    except StoreError as error:
        return [str(error) if str(error).startswith("storage.") else f"storage.url: {error}"], []


def _addresses(addresses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Problems and warnings: of each address alone, then of all free ones together, which may overlap."""
    problems: list[str] = []
    warnings: list[str] = []
    free: list[str] = []
    for address in addresses:
        try:
            listen.close(listen.listen([address]))
            free.append(address)
        except ExporterError as error:
            taken = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
            # A running exporter is what most often holds it.
            (warnings if taken else problems).append(str(error))
    try:
        listen.close(listen.listen(free))
    except ExporterError as error:
        problems.append(str(error))
    return problems, warnings


def _credentials(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Where nothing but the agency is left, which only the network can tell."""
    names = [target.name for target in config.targets if isinstance(target.auth, DefaultChain)]
    if not names or environ.get(POD_URI):
        return
    reasons = []
    for source in (EnvironmentSource(environ), ProfileSource(environ)):
        try:
            source.read()
        except CredentialsError as error:
            reasons.append(str(error))
        else:
            return
    shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    yield (
        f"no credentials here for {shown}: only the agency of the machine is left; set auth if there is none"
        f" ({'; '.join(reasons)})"
    )
