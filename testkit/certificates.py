"""Certificates made for one test run by the openssl command; all keys are thrown away with their folder."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """Files of a certificate and its private key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; ``name`` tells two of them apart."""

    def __init__(self, openssl: Path, folder: Path, name: str = "authority") -> None:
        self.openssl = openssl
        self._folder = folder
        self.pair = Pair(folder / f"{name}.pem", folder / f"{name}.key")
        self._run(
            "req", "-x509", *self._new(f"/CN={name}", self.pair), "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip

    def issue(self, name: str, sans: str, usage: str = "serverAuth", key: str = "ec") -> Pair:
        """A certificate for these subject alternative names, such as ``DNS:a,IP:127.0.0.1``."""
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={sans}\nextendedKeyUsage={usage}\n")
        self._run("req", *self._new(f"/CN={name}", Pair(request, pair.key), key))
        self._run(
            "x509", "-req", "-in", str(request), "-CA", str(self.pair.cert), "-CAkey", str(self.pair.key),
            "-days", "2", "-extfile", str(extensions), "-out", str(pair.cert),
        )  # fmt: skip
        return pair

    def client_context(self, client: Pair | None = None) -> ssl.SSLContext:
        """Trusts what this authority signed; shows ``client`` when asked."""
        context = ssl.create_default_context(cafile=str(self.pair.cert))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context

    @staticmethod
    def _new(subject: str, pair: Pair, key: str = "ec") -> list[str]:
        kind = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        out = ["-nodes", "-keyout", str(pair.key), "-out", str(pair.cert), "-subj", subject]
        return ["-newkey", *kind, *out]

    def _run(self, *arguments: str) -> None:
        subprocess.run([str(self.openssl), *arguments], check=True, capture_output=True, timeout=30)
