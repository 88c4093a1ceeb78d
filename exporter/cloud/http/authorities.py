"""The certificate authorities that TLS trusts: SSL_CERT_FILE and SSL_CERT_DIR, or those that come with httpx.

Read again when they change on disk, as they are replaced while the program runs; not on the event loop, for a
file system may hang.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

import httpx

from exporter import log
from exporter.background import SingleFlight
from exporter.config import FileStamp, stamp_of
from exporter.errors import NetworkSettingsError
from exporter.process import exhausted

logger = logging.getLogger(__name__)

_FILE: Final = "SSL_CERT_FILE"
_FOLDER: Final = "SSL_CERT_DIR"
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""How OpenSSL finds a certificate in a folder: by the hash of its subject."""
CHECK_SECONDS: Final = 1.0
"""Seconds between two checks of the files."""
READ_SECONDS: Final = 1.0
"""Seconds that a request waits for files that hang."""

_Stamp = tuple[tuple[str, FileStamp], ...]
"""By path; links are followed."""


class Authorities:
    """Keeps a TLS context that trusts what the files say at present."""

    def __init__(
        self, environ: Mapping[str, str], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises NetworkSettingsError when the variables name nothing that can be used."""
        self._file = environ.get(_FILE, "").strip()
        self._folders = tuple(filter(None, environ.get(_FOLDER, "").strip().split(os.pathsep)))
        self._monotonic = monotonic
        self._problem = ""
        self.reading = SingleFlight[ssl.SSLContext]("authorities")
        self.context = self.read()
        self._checked_at = monotonic()

    async def refresh(self) -> ssl.SSLContext:
        """The present context; the one before as long as the files cannot be used, or hang."""
        unchanging = not (self._file or self._folders)
        if unchanging or self._monotonic() - self._checked_at < CHECK_SECONDS:
            return self.context
        self._checked_at = self._monotonic()
        problem = ""
        try:
            self.context = await self.reading.run(self.read, seconds=READ_SECONDS)
        except TimeoutError:
            problem = "they cannot be read in time"
        except NetworkSettingsError as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.warn(logger, "the certificate authorities read before stay in use", problem=problem)
        self._problem = problem
        return self.context

    def read(self) -> ssl.SSLContext:
        """What the files say now. Blocks; raises NetworkSettingsError."""
        try:
            stamp = (*(_stamp(Path(self._file)) if self._file else ()), *self._stamps())
        except OSError as error:
            raise _unreadable(error) from None
        if self._folders and not stamp:
            raise _refused(_FOLDER, "no certificates named by their hash: run openssl rehash")
        return _context(self._file, self._folders, stamp)

    def _stamps(self) -> Iterator[tuple[str, FileStamp]]:
        for folder in self._folders:
            try:
                for path in sorted(Path(folder).iterdir()):
                    if _HASHED.fullmatch(path.name):
                        yield from _stamp(path)
            except OSError:
                continue  # one of several may be missing; none at all is found out


def _stamp(path: Path) -> _Stamp:
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise OSError(0, "not a file")
    return ((str(path), stamp_of(facts)),)


@lru_cache(maxsize=4)
def _context(file: str, folders: tuple[str, ...], stamp: _Stamp) -> ssl.SSLContext:
    """One for all targets: to read hundreds of certificates takes longer than a scrape may."""
    if not stamp:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=file or None, capath=os.pathsep.join(folders) or None)
    except ssl.SSLError:
        raise _refused(_FILE, "no certificates in PEM format in it") from None
    except OSError as error:
        raise _unreadable(error) from None


def _unreadable(error: OSError) -> NetworkSettingsError:
    if missing := exhausted(error):
        return NetworkSettingsError(f"the certificate authorities cannot be read: {missing}")
    return _refused(_FILE, error.strerror or "failed")


def _refused(variable: str, why: str) -> NetworkSettingsError:
    return NetworkSettingsError(
        f"the environment variable {variable} cannot be used: {why}; correct or unset it"
    )
