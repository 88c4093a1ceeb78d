"""What a store remembers of a refused password."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from exporter.cloud.auth.iam import password_fingerprint
from exporter.cloud.http.rate_limit import fingerprint
from exporter.config import PasswordAuth, Secret


def auth(username: str = "reader") -> PasswordAuth:
    return PasswordAuth(username=username, domain="example", password=Secret("summer2024"))


def test_it_is_salted_by_the_user() -> None:
    """One guess must not try all users of a list."""
    assert password_fingerprint(auth(), "summer2024") == password_fingerprint(auth(), "summer2024")
    assert password_fingerprint(auth(), "summer2024") != password_fingerprint(auth("writer"), "summer2024")
    assert password_fingerprint(auth(), "summer2024") != fingerprint("example", "reader", "summer2024")


def test_each_guess_is_costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 MiB of memory and the time to fill them, where SHA-256 allows millions of guesses a second."""
    asked: list[dict[str, Any]] = []
    scrypt = hashlib.scrypt

    def noted(password: bytes, **options: Any) -> bytes:
        asked.append(options)
        return scrypt(password, **options)

    monkeypatch.setattr(hashlib, "scrypt", noted)
    password_fingerprint(auth(), "summer2024")
    assert [128 * options["n"] * options["r"] for options in asked] == [16 << 20]
