"""A command sends half of what the exporter may."""

from __future__ import annotations

import asyncio
from contextlib import closing
from io import StringIO
from pathlib import Path

from msgspec.structs import replace

from exporter import log
from exporter.cloud import SharedLimits, credentials_key, credentials_names
from exporter.commands.half_rate import HalfRate
from exporter.config import AkskAuth, Config, Secret, StorageConfig
from exporter.store import SqliteStore
from testkit.world import TARGET

KEYS = {"auth": AkskAuth(Secret("ak"), Secret("sk"))}
A = replace(TARGET, name="a", rate_limit=2.0, **KEYS)
B = replace(TARGET, name="b", rate_limit=8.0, **KEYS)
OTHER = replace(TARGET, name="c", rate_limit=1.0, auth=AkskAuth(Secret("other"), Secret("sk")))


def asked(config: Config, *, alone: bool = False) -> tuple[list[float], str]:
    """The rate of each target, and what is said."""
    err = StringIO()

    async def ask() -> list[float]:
        async with HalfRate(config, {}, log.Redactor(), err, alone=alone) as rates:
            return [(await rates.of(target)).rate_limit for target in config.targets]

    return asyncio.run(ask()), err.getvalue()


def test_of_the_same_credentials_the_lowest_rate_counts(tmp_path: Path) -> None:
    """As for the exporter. Where no store is, there is nobody to tell, and nothing is made."""
    storage = StorageConfig(url=f"sqlite:///{tmp_path}/books.db")
    assert asked(Config(storage=storage, targets=(A, B, OTHER))) == ([1.0, 1.0, 0.5], "")
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_file_are_known_by_the_file(tmp_path: Path) -> None:
    """An exporter that was started before they were replaced leaves a command its half all the same."""
    file, storage = tmp_path / "access_key", StorageConfig(url=f"sqlite:///{tmp_path}/books.db")
    target = replace(A, auth=AkskAuth(file, Secret("sk")))
    config = Config(storage=storage, targets=(target, replace(target, name="b")))
    with closing(SqliteStore(tmp_path / "books.db")) as store:
        file.write_text("BEFORE")
        shared = SharedLimits(claims=None, command_asks=store.command_asks)
        key = credentials_key(target.auth, {})
        shared.known_as(key, credentials_names(target.auth, {}))
        limiter = shared.limiter(key, "a", 2.0)
        file.write_text("AFTER")

        async def ask() -> tuple[float, float]:
            async with HalfRate(config, {}, log.Redactor(), StringIO()) as rates:
                await rates.of(config.targets[0])
                file.write_text("AGAIN")
                return (await rates.of(config.targets[1])).rate_limit, limiter.rate

        assert asyncio.run(ask()) == (1.0, 1.0)
        assert limiter.rate == 2.0


def test_a_store_that_cannot_be_opened_is_a_warning(tmp_path: Path) -> None:
    """The command goes on: it may be there to find out why. Alone it asks no store."""
    (tmp_path / "books.db").mkdir()
    config = Config(storage=StorageConfig(url=f"sqlite:///{tmp_path}/books.db"), targets=(A, OTHER))
    rates, said = asked(config)
    assert rates == [1.0, 0.5]
    assert said.count("warning: ") == len(said.splitlines()) == 2
    assert "they may send one and a half times rate_limit" in said.replace("together they", "they")
    assert asked(config, alone=True) == ([1.0, 0.5], "")
