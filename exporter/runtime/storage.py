"""The store that the configuration asks for.

Knows which kinds of stores there are; must not know what is in them.
"""

from __future__ import annotations

import logging
import time

from exporter import log
from exporter.config import Config
from exporter.ledger import documented_label_sets
from exporter.runtime.target import classifier, ledger_scope, ledger_settings
from exporter.store import SqliteStore, Store, examine, exposed, ledger_from, minutes_loaded
from exporter.units import SECOND

logger = logging.getLogger(__name__)


def open_store(config: Config) -> Store:
    """The store that ``storage.url`` names. Raises StoreError."""
    store = SqliteStore(config.storage.sqlite_file)
    if store.exposed is not None:
        log.warn(logger, "the store is not private", problem=store.exposed)
    return store


def examine_store(config: Config) -> str | None:
    """Raises StoreError when it could not be opened, or no target's ledger loaded; changes nothing.

    Returns what cannot be made private of its files, if anything.
    """
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
    return exposed(file)
