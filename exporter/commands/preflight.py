"""What will keep a valid configuration from running, or may, found without asking the network.

Knows the store's files, the addresses, and the credentials, proxies and authorities of this environment;
starts nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from exporter.cloud.auth.sources import POD_URI, EnvironmentSource, ProfileSource
from exporter.cloud.http import network
from exporter.config.load import Config, DefaultChain
from exporter.config.shard import of_shard
from exporter.errors import CredentialsError, ExporterError
from exporter.web import listen
from exporter.web.app import check_telemetry_path

_SQLITE = b"SQLite format 3\0"


class Flags(NamedTuple):
    """Those of ``serve``; the defaults are not looked at."""

    listen_addresses: Sequence[str] = ()
    telemetry_path: str = "/metrics"
    shard: tuple[int, int] = (0, 1)


class Findings(NamedTuple):
    """One line each."""

    problems: tuple[str, ...]
    """It will not start."""
    warnings: tuple[str, ...]
    """It may not do what is wanted."""


def findings(config: Config, environ: Mapping[str, str], flags: Flags) -> Findings:
    """Everything that can be known now, by the user who asks."""
    network_problems, network_warnings = network.findings(environ, config)
    problems = [*_store(config), *network_problems]
    warnings = [*_credentials(config, environ), *network_warnings]
    for test in (lambda: check_telemetry_path(flags.telemetry_path), lambda: of_shard(config, *flags.shard)):
        try:
            test()
        except ExporterError as error:
            problems.append(str(error))
    for address in flags.listen_addresses:
        try:
            listen.close(listen.listen([address]))
        except ExporterError as error:
            taken = getattr(error.__cause__, "errno", None) == errno.EADDRINUSE
            # A running exporter is what most often holds it.
            (warnings if taken else problems).append(str(error))
    return Findings(tuple(problems), tuple(warnings))


def _store(config: Config) -> Iterator[str]:
    """Why the store could not be opened, in one line at most."""
    if (path := config.storage.sqlite_file) is None:
        yield "storage.url: only sqlite:///FILE is available in this version"
        return
    try:
        if reason := _unusable(path.resolve()):
            yield f"storage.url: {path}: {reason}"
    except (OSError, RuntimeError) as error:  # resolve() gives the latter for links in a circle
        yield f"storage.url: {path}: cannot be used: {getattr(error, 'strerror', None) or error}"


def _unusable(path: Path) -> str:
    """Empty when it can be used. Raises OSError."""
    folder, lock = path.parent, path.with_name(path.name + ".lock")
    if not folder.is_dir():
        return f"the folder {folder} does not exist: make it, or choose another storage.url"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written to by this user: check its permissions"
    for file in (lock, path):
        try:
            found = file.stat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return f"{file.name} is not a regular file: choose another storage.url"
        if not os.access(file, os.R_OK | os.W_OK):
            return f"{file.name} cannot be written to by this user: check its permissions"
        if file == path and found.st_size:
            with file.open("rb") as opened:
                if opened.read(len(_SQLITE)) != _SQLITE:
                    return "is not a SQLite database: move it away, or choose another storage.url"
    return ""


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
