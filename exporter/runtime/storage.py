"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

import time

from exporter.config import Config
from exporter.runtime.target import classifier, ledger_scope, ledger_settings
from exporter.store import SqliteStore, Store, check_stored, examine, minutes_loaded
from exporter.units import SECOND


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    return SqliteStore(config.storage.sqlite_file)


def examine_store(config: Config) -> None:
    """Raises StoreError when it could not be opened, or no target's ledger loaded; changes nothing."""
    classes = classifier(config)
    keep = max(minutes_loaded(ledger_settings(config, settings, classes)) for settings in config.targets)
    scopes = {settings.name: ledger_scope(settings) for settings in config.targets}
    projects = {settings.name: settings.project_id or "" for settings in config.targets}
    file = config.storage.sqlite_file
    for target, stored in examine(file, scopes, int(time.time() * SECOND), keep):
        check_stored(str(file), target, projects[target], stored)
