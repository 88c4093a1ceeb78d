"""The web configuration as it is now: read at the start, and again whenever one of its files changes.

Knows files and when they changed; must not know what their content means. A change is taken over once the
files have stayed the same between two checks, so that neither a half-written file nor a certificate without
its new key is read. If the new content cannot be used, the old one stays in force, and the log says why,
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from exporter import log
from exporter.background import in_background
from exporter.config import FileStamp, stamp_of
from exporter.errors import ConfigError
from exporter.web.access.config import WebConfig, load_web_config

logger = logging.getLogger(__name__)

CHECK_SECONDS: Final = 1.0

_Stamp = tuple[FileStamp | None, ...]


class WebConfigReloader:
    """The content of ``--web.config.file``; without a file there is no TLS, password or limit."""

    def __init__(self, path: Path | None, *, on_secret: Callable[[str], None] = lambda _: None) -> None:
        """Raises ConfigError with every problem. ``on_secret`` is called with what no log line may show."""
        self._path = path
        self._on_secret = on_secret
        self._settings = WebConfig(files=())
        self._loaded: _Stamp = ()
        self._seen: _Stamp = ()
        self._problem = ""
        if path is not None:
            self._take(path)

    def settings(self) -> WebConfig:
        """What is in force at this moment."""
        return self._settings

    async def watch(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Check again every second, until cancelled."""
        while self._path is not None:
            await sleep(CHECK_SECONDS)
            await in_background(self.check, name="web-config")  # a file system may hang

    def check(self) -> None:
        """Take over a change, if the files have stayed the same since the last check."""
        seen = _stamp(self._settings.files)
        still, self._seen = seen == self._seen, seen
        if self._path is None or not still or (seen == self._loaded and not self._problem):
            return
        try:
            self._take(self._path)
        except ConfigError as error:
            self._loaded = seen
            self._log_problem(error)
        else:
            self._problem = ""
            log.info(logger, "web configuration reloaded", file=self._path)

    def _take(self, path: Path) -> None:
        """Raises ConfigError. Read twice, so that the content is never older than its stamps."""
        stamp = _stamp(load_web_config(path).files)
        settings = load_web_config(path)
        for secret in settings.secrets:
            self._on_secret(secret.reveal())
        self._settings = settings
        self._loaded = self._seen = stamp

    def _log_problem(self, error: ConfigError) -> None:
        if str(error) != self._problem:
            self._problem = str(error)
            for problem in error.problems:
                log.error(logger, "web configuration not reloaded: the old one stays in force", error=problem)


def _stamp(files: tuple[Path, ...]) -> _Stamp:
    """Changes whenever the content of one of the files does; links are followed."""
    return tuple(_file_stamp(path) for path in files)


def _file_stamp(path: Path) -> FileStamp | None:
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
