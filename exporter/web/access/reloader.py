"""The web configuration as it is now: read at the start, and again whenever one of its files changes.

Knows files and when they changed; must not know what their content means. A new content is taken once it has
stood still for one look, so that a half-written file or a certificate without its new key is not taken for
one; if it cannot be used, the old one stays in force and the log says why, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from exporter import log
from exporter.background import in_background
from exporter.errors import ConfigError
from exporter.web.access.config import WebConfig, load

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0

_Stamp = tuple[tuple[int, int, int, int] | None, ...]


class WebConfigReloader:
    """What ``--web.config.file`` says; without a file, all doors are open."""

    def __init__(self, path: Path | None, *, on_secret: Callable[[str], None] = lambda _: None) -> None:
        """Raises ConfigError with every problem. ``on_secret`` is told what no log may show."""
        self._path = path
        self._on_secret = on_secret
        self._settings = WebConfig(files=())
        self._taken: _Stamp = ()
        self._seen: _Stamp = ()
        self._complaint = ""
        if path is not None:
            self._take(path)

    def settings(self) -> WebConfig:
        """What is in force at this moment."""
        return self._settings

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Look again every second, until cancelled."""
        while self._path is not None:
            await sleep(LOOK_SECONDS)
            await in_background(self.look, name="web-config")  # a file system may hang

    def look(self) -> None:
        """Take what has changed and stands still."""
        seen = _stamp(self._settings.files)
        still, self._seen = seen == self._seen, seen
        if self._path is None or not still or (seen == self._taken and not self._complaint):
            return
        try:
            self._take(self._path)
        except ConfigError as error:
            self._taken = seen
            self._complain(error)
        else:
            self._complaint = ""
            log.info(logger, "web configuration reloaded", file=self._path)

    def _take(self, path: Path) -> None:
        """Raises ConfigError. Read twice: what is taken is never older than its stamp."""
        stamp = _stamp(load(path).files)
        settings = load(path)
        for secret in settings.secrets:
            self._on_secret(secret.reveal())
        self._settings = settings
        self._taken = self._seen = stamp

    def _complain(self, error: ConfigError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            for problem in error.problems:
                log.error(logger, "web configuration not reloaded: the old one stays in force", error=problem)


def _stamp(files: tuple[Path, ...]) -> _Stamp:
    """What changes whenever the content of one of the files does, links followed."""
    return tuple(_one(path) for path in files)


def _one(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
