"""Which targets are this process' own when several share one configuration file. Pure."""

from __future__ import annotations

from zlib import crc32

import msgspec

from exporter.config.model import Config
from exporter.errors import ExporterError


def of_shard(config: Config, index: int, count: int) -> Config:
    """Only the targets of one shard: by a hash of the name, so that adding a target moves no other.

    Raises ExporterError when none is left: a process that polls nothing would look healthy.
    """
    targets = tuple(target for target in config.targets if crc32(target.name.encode()) % count == index)
    if not targets:
        raise ExporterError(
            f"--shard={index}/{count}: no target falls to this shard: use fewer shards than there are targets"
        )
    return msgspec.structs.replace(config, targets=targets)
