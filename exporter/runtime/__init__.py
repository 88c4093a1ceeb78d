"""The targets that run: started, changed by a reload, shared with other replicas, stopped; systemd.

Puts the other packages together for each target; must not know what is counted.
"""

from exporter.runtime.asking_commands import AskingCommands
from exporter.runtime.fleet import Fleet
from exporter.runtime.reload import ReloadProblems, ReloadQueue
from exporter.runtime.replica import Replica
from exporter.runtime.saved_breakers import SavedBreakers, stored_claims
from exporter.runtime.storage import (
    command_lock,
    examine_store,
    open_past,
    open_store,
    source_rows,
    target_rows,
)
from exporter.runtime.target import (
    SharedResources,
    classifier,
    ledger_scope,
    ledger_settings,
    new_reader,
    target_view,
)

__all__ = [
    "AskingCommands",
    "Fleet",
    "ReloadProblems",
    "ReloadQueue",
    "Replica",
    "SavedBreakers",
    "SharedResources",
    "classifier",
    "command_lock",
    "examine_store",
    "ledger_scope",
    "ledger_settings",
    "new_reader",
    "open_past",
    "open_store",
    "source_rows",
    "stored_claims",
    "target_rows",
    "target_view",
]
