"""Where credentials come from: configuration, files, environment, and the SDK's usual chain.

Knows names and file formats. Sources that ask a server are in ``metadata.py`` and ``iam.py``.
"""

from __future__ import annotations

import configparser
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from exporter.background import SingleFlight
from exporter.cloud.auth.request_auth import Credential, KeyPair, Token
from exporter.cloud.http import fingerprint
from exporter.config import (
    FILE_LIMIT,
    AgencyAuth,
    AkskAuth,
    Auth,
    PasswordAuth,
    Secret,
    SecretSource,
    TokenAuth,
    ValueRefusedError,
    read_limited,
    read_secret,
    values,
)
from exporter.errors import ApiError, CredentialsError

T = TypeVar("T")

READ_SECONDS: Final = 5.0
"""A file that is not read within this time will probably not be read at all."""
POD_URI: Final = "HC_CONTAINER_CREDENTIALS_FULL_URI"
_PROJECT_ID: Final = "HUAWEICLOUD_SDK_PROJECT_ID"
_ENVIRONMENT: Final = ("HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK")


class CredentialSource(Protocol):
    """Gives the credentials to use for the next request."""

    async def get(self) -> Credential:
        """Cheap when nothing has to be renewed. Raises CredentialsError, ApiError."""

    def forget(self, refused: Credential) -> None:
        """The API says that these ended: give others next time, if there can be any."""


class SecretReader(Generic[T]):
    """Reads secrets for one source, in a thread where files may have to be read: their disk may hang."""

    def __init__(self, *sources: SecretSource | None) -> None:
        """Without any, they come from a file."""
        self._files = not sources or any(isinstance(source, Path) for source in sources)
        self._background = SingleFlight[T]("credentials")

    async def get(self, read: Callable[[], T]) -> T:
        """What ``read`` returns. Raises CredentialsError."""
        if not self._files:
            return read()
        try:
            return await self._background.run(read, seconds=READ_SECONDS)
        except TimeoutError:
            raise CredentialsError(
                f"the files with the credentials could not be read within {READ_SECONDS:.0f} s:"
                " their file system does not answer"
            ) from None


def header_secret(source: SecretSource, name: str) -> Secret:
    """A secret that is sent, read anew when it is a file: files rotate. Raises CredentialsError."""
    try:
        text = read_secret(source)
    except CredentialsError as error:
        raise CredentialsError(f"{name}: {error}") from None
    return _checked(text, name if isinstance(source, Secret) else f"{name}: {source}")


def _checked(text: str, place: str) -> Secret:
    """A secret must fit into a header."""
    try:
        return Secret(values.clean_secret(text, values.ASCII_LINE))
    except ValueRefusedError as refused:
        raise CredentialsError(f"{place} {refused}") from None


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def _project_id(text: str | None, place: str) -> str | None:
    if not (text := values.clean_variable(text)):
        return None
    try:
        return values.project_id(text)
    except ValueRefusedError as refused:
        raise CredentialsError(f"{place} {refused}") from None


class AkskSource:
    """An access key pair from the configuration or from files."""

    def __init__(self, auth: AkskAuth) -> None:
        self._auth = auth
        self._reading = SecretReader[KeyPair](auth.access_key, auth.secret_key, auth.security_token)

    async def get(self) -> KeyPair:
        return await self._reading.get(self._read)

    def _read(self) -> KeyPair:
        token = self._auth.security_token
        return KeyPair(
            header_secret(self._auth.access_key, "access_key"),
            header_secret(self._auth.secret_key, "secret_key"),
            header_secret(token, "security_token") if token is not None else None,
        )

    def forget(self, refused: Credential) -> None:
        """Files are read anew each time anyway."""


class TokenSource:
    """A given IAM token."""

    def __init__(self, auth: TokenAuth) -> None:
        self._auth = auth
        self._reading = SecretReader[Token](auth.token)

    async def get(self) -> Token:
        return await self._reading.get(lambda: Token(header_secret(self._auth.token, "token")))

    def forget(self, refused: Credential) -> None:
        """Files are read anew each time anyway."""


class EnvironmentSource:
    """``HUAWEICLOUD_SDK_AK``, ``_SK``, ``_SECURITY_TOKEN``, ``_PROJECT_ID``."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    async def get(self) -> KeyPair:
        return self.read()

    def read(self) -> KeyPair:
        missing = [name for name in _ENVIRONMENT if not self._environ.get(name)]
        if missing:
            raise CredentialsError(f"environment: {' and '.join(missing)} not set")
        token = self._environ.get("HUAWEICLOUD_SDK_SECURITY_TOKEN")
        return KeyPair(
            _checked(self._environ[_ENVIRONMENT[0]], _ENVIRONMENT[0]),
            _checked(self._environ[_ENVIRONMENT[1]], _ENVIRONMENT[1]),
            _checked(token, "HUAWEICLOUD_SDK_SECURITY_TOKEN") if token else None,
            project_id=_project_id(self._environ.get(_PROJECT_ID), _PROJECT_ID),
        )

    def forget(self, refused: Credential) -> None:
        """The environment of a process does not change."""


class ProfileSource:
    """The SDK's credentials file: INI, section ``[basic]``; read anew each time."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._reading = SecretReader[KeyPair]()

    async def get(self) -> KeyPair:
        return await self._reading.get(self.read)

    def read(self) -> KeyPair:
        path = self.path()
        if path is None:
            raise CredentialsError("credentials file: set HUAWEICLOUD_SDK_CREDENTIALS_FILE or HOME")
        parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#", ";"))
        try:
            parser.read_string(read_limited(path, FILE_LIMIT, regular=True))
        except ValueRefusedError as refused:
            reason = str(refused)
        except configparser.Error:
            reason = "is not a valid INI file"  # the parser's own text quotes the line, secret and all
        else:
            return self._keys(parser, path)
        raise CredentialsError(f"credentials file {path}: {reason}")

    def forget(self, refused: Credential) -> None:
        """The file is read anew each time anyway."""

    def path(self) -> Path | None:
        named = self._environ.get("HUAWEICLOUD_SDK_CREDENTIALS_FILE")
        if named:
            return Path(named)
        home = self._environ.get("HOME")
        return Path(home) / ".huaweicloud" / "credentials" if home else None

    @staticmethod
    def _keys(parser: configparser.ConfigParser, path: Path) -> KeyPair:
        if not parser.has_section("basic"):
            raise CredentialsError(f"credentials file {path}: section [basic] is missing")
        section = {name: _unquoted(value) for name, value in parser["basic"].items()}
        token = section.get("security_token")
        return KeyPair(
            _checked(section.get("ak", ""), f"credentials file {path}: ak"),
            _checked(section.get("sk", ""), f"credentials file {path}: sk"),
            _checked(token, f"credentials file {path}: security_token") if token else None,
            project_id=_project_id(section.get("project_id"), f"credentials file {path}: project_id"),
        )


class ChainSource:
    """The SDK's usual chain: the first source that has credentials, looked up anew each time."""

    def __init__(self, sources: tuple[CredentialSource, ...]) -> None:
        self._sources = sources

    async def get(self) -> Credential:
        reasons = []
        for source in self._sources:
            try:
                return await source.get()
            except (CredentialsError, ApiError) as error:
                reasons.append(str(error))
        raise CredentialsError(f"no credentials found: set auth for this target ({'; '.join(reasons)})")

    def forget(self, refused: Credential) -> None:
        for source in self._sources:
            source.forget(refused)


def credentials_key(auth: Auth, environ: Mapping[str, str]) -> str:
    """The same for targets that use the same credentials; known at start, without any request.

    A fingerprint of the ids alone (or of the files' names): no secret is part of it.
    """
    if isinstance(auth, AkskAuth):
        return _aksk_key(auth)
    if isinstance(auth, TokenAuth):
        source = auth.token
        return fingerprint("token", source.reveal() if isinstance(source, Secret) else str(source))
    if isinstance(auth, PasswordAuth):
        return fingerprint("password", auth.domain, auth.username)
    if not isinstance(auth, AgencyAuth):
        for source_of_keys in (EnvironmentSource(environ), ProfileSource(environ)):
            try:
                return fingerprint("aksk", source_of_keys.read().access_key.reveal())
            except CredentialsError:
                continue
    return fingerprint("agency", environ.get(POD_URI, ""))


def credentials_names(auth: Auth, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names by which two processes find out that they use the same credentials. One in common is enough.

    The last is ``credentials_key``. Before it stands the file that the keys are read from, if there is one.
    What is in it may have been replaced since one of the two began.
    """
    key, file = credentials_key(auth, environ), None
    if isinstance(auth, AkskAuth):
        file = auth.access_key if isinstance(auth.access_key, Path) else None
    elif not isinstance(auth, TokenAuth | PasswordAuth | AgencyAuth):
        try:
            EnvironmentSource(environ).read()
        except CredentialsError:
            file = ProfileSource(environ).path()
    return (key,) if file is None else (fingerprint("file", str(file.absolute())), key)


def _aksk_key(auth: AkskAuth) -> str:
    try:
        return fingerprint("aksk", header_secret(auth.access_key, "access_key").reveal())
    except CredentialsError:
        return fingerprint("aksk file", str(auth.access_key))
