"""What another configuration means for targets that run.

Pure. Must not know how they are started or stopped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from exporter.config import Config, TargetConfig


class TargetChanges(NamedTuple):
    """What another configuration means for the targets, by name."""

    stopped: tuple[str, ...]
    """Removed or changed."""
    opened: tuple[TargetConfig, ...]
    """Added or changed."""


def target_changes(before: Config, after: Config) -> TargetChanges:
    """All targets count as changed when a setting changed that belongs to no single target."""
    common = msgspec.structs.replace(before, targets=()) != msgspec.structs.replace(after, targets=())
    old = {target.name: target for target in before.targets}
    opened = tuple(target for target in after.targets if common or old.get(target.name) != target)
    changed = {target.name for target in opened}
    names = {target.name for target in after.targets}
    return TargetChanges(tuple(name for name in old if name not in names or name in changed), opened)


def storage_problems(before: Config, after: Config) -> Iterator[str]:
    """What cannot change while the exporter runs."""
    for key in ("url", "lease"):
        if getattr(before.storage, key) != getattr(after.storage, key):
            yield f"storage.{key} cannot change while the exporter runs: restart it"
