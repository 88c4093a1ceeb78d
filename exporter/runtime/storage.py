"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

import time

from exporter.config import Config
from exporter.ledger import documented_label_sets
from exporter.runtime.target import classifier, ledger_scope, ledger_settings
from exporter.store import SqliteStore, Store, examine, ledger_from, minutes_loaded
from exporter.units import SECOND


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    return SqliteStore(config.storage.sqlite_file)


def examine_store(config: Config) -> None:
    """Raises StoreError when it could not be opened, or no target's ledger loaded; changes nothing."""
    classes, file = classifier(config), config.storage.sqlite_file
    targets = {target.name: target for target in config.targets}
    settings = {name: ledger_settings(config, target, classes) for name, target in targets.items()}
    scopes = {name: ledger_scope(target) for name, target in targets.items()}
    keep = max(map(minutes_loaded, settings.values()))
    for name, stored in examine(file, scopes, int(time.time() * SECOND), keep):
        filters = targets[name].filters
        ledger_from(
            stored,
            settings[name],
            documented_label_sets(filters.job_type, filters.tts_service_enum),
            target=name,
            project_id=targets[name].project_id or "",
            place=str(file.resolve()),
        )
