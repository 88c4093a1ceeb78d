"""No secret in any output: the real program, an API that repeats all it hears, every error path, all output.

What is searched for is the middle of each secret, so that no escaping, cutting or quoting hides it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import bcrypt
import httpx
import pytest

from exporter.simulator.auth import Accounts
from testkit.certificates import Authority, Pair
from testkit.processes import ROOT, Exporter, simulator, wait_for
from tests.conftest import Tool
from tests.e2e.echo_server import BAD_ANSWERS, MARK, EchoServer, echo_server

IAM = Accounts()
NAMES = (
    *("InlineAk", "InlineSk", "InlineSt", "FileAk", "FileSk", "FileSt", "GivenToken", "FileToken", "EnvAk"),
    *("EnvSk", "EnvSt", "PodAk", "PodSk", "PodSt", "PodProof", "Storage", "Basic", "Rotated", "LaterSk"),
)
SECRETS = {name: f"SECRET{name}abcdefghijklm" + "+/=&<>\"'\\%x" for name in NAMES}
TOLD = {
    "inline-project": [SECRETS["InlineAk"], SECRETS["InlineSk"], SECRETS["InlineSt"]],
    "files-project": [SECRETS["FileAk"], SECRETS["FileSk"], SECRETS["FileSt"]],
    "token-project": [SECRETS["GivenToken"]],
    "tokenfile-project": [SECRETS["FileToken"]],
    "password-project": [IAM.password],
    "agency-project": [SECRETS["PodAk"], SECRETS["PodSk"], SECRETS["PodSt"]],
    "chain-project": [SECRETS["EnvAk"], SECRETS["EnvSk"], SECRETS["EnvSt"]],
}
"""What the echo server knows of each target."""


class ProgramFolder:
    """One folder with everything that the program is started with."""

    def __init__(self, folder: Path, server: EchoServer, pair: Pair) -> None:
        self.folder = folder
        self.server = server
        self.pair = pair
        self.hash = bcrypt.hashpw(SECRETS["Basic"].encode(), bcrypt.gensalt(4)).decode()
        self.outputs: dict[str, str] = {}
        for name in ("FileAk", "FileSk", "FileSt", "FileToken", "PodProof", "Storage"):
            (folder / name).write_text(SECRETS[name] + "\n")
        (folder / "password").write_text(IAM.password)
        self.config = folder / "exporter.yaml"
        self.web = folder / "web.yml"
        self.write(self.auths())
        self.write_web({"alice": self.hash})

    def auths(self) -> dict[str, Any]:
        inline = {"access_key": SECRETS["InlineAk"], "secret_key": SECRETS["InlineSk"]}
        files = {"access_key_file": "FileAk", "secret_key_file": "FileSk", "security_token_file": "FileSt"}
        user = {"domain": IAM.domain, "username": IAM.username, "password_file": "password"}
        return {
            "inline": {"aksk": {**inline, "security_token": SECRETS["InlineSt"]}},
            "files": {"aksk": files},
            "token": {"token": {"token": SECRETS["GivenToken"]}},
            "tokenfile": {"token": {"token_file": "FileToken"}},
            "password": {"password": user},
            "agency": {"agency": {}},
            "chain": None,
        }

    def write(self, auths: dict[str, Any], **top: Any) -> None:
        targets = [
            {
                "name": name,
                "region": "cn-north-4",
                "endpoint": self.server.url,
                "iam_endpoint": self.server.url,
                "project_id": f"{name}-project",
                "rate_limit": 100,
                **({} if auth is None else {"auth": auth}),
            }
            for name, auth in auths.items()
        ]
        poll = {"interval": "1s", "timeout": "3s", "overlap": "5s", "window": "10m"}
        self.config.write_text(json.dumps({"poll": poll, "targets": targets, **top}, indent=1))

    def write_web(self, users: dict[str, str], **top: Any) -> None:
        tls = {"cert_file": str(self.pair.cert), "key": self.pair.key.read_text()}
        new = self.folder / "web.new"
        new.write_text(json.dumps({"tls_server_config": tls, "basic_auth_users": users, **top}, indent=1))
        os.replace(new, self.web)  # noqa: PTH105  # what such programs call

    def needles(self) -> dict[str, str]:
        """What must be nowhere."""
        found = {name: value[:26] for name, value in SECRETS.items()}
        found |= {f"token {n}": token[8:60] for n, token in enumerate(self.server.tokens)}
        found |= {"password": IAM.password, "hash": self.hash[29:]}
        found["basic"] = base64.b64encode(f"alice:{SECRETS['Basic']}".encode()).decode()[9:40]
        found["private key"] = self.pair.key.read_text().splitlines()[1]
        return found

    def run(self, name: str, *arguments: str) -> None:
        """A command that ends by itself."""
        done = subprocess.run(
            [sys.executable, "-m", "exporter", *arguments],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        self.outputs[name] = f"{done.returncode} {done.stdout} {done.stderr}"

    def ask(self, client: httpx.Client, path: str, method: str = "GET", **request: Any) -> httpx.Response:
        answer = client.request(method, path, **request)
        self.outputs[f"{method} {path} {len(self.outputs)}"] = f"{answer.headers} {answer.text}"
        return answer


@pytest.fixture
def authority(tool: Tool, tmp_path: Path) -> Authority:
    return Authority(tool("openssl"), tmp_path)


def misplaced(program: ProgramFolder) -> None:
    """Secrets as keys, in lists, as paths, under wrong names, in wrong types."""
    every = list(SECRETS.values())
    auths: dict[str, Any] = {
        "a": {"aksk": {"access_key": every, "secret_key": {every[0]: every[1]}}},
        "b": {"aksk": {"access_key_file": every[2], "secret_key_file": program.hash}},
        "c": {every[3]: every[4]},
        "d": {"token": every[5]},
        "e": {"password": {"domain": every, "username": [], "password": every[6] + "\n" + every[7]}},
        "f": every[8],
    }
    program.write(auths, storage={"url": f"postgresql://u:{SECRETS['Storage']}@h/d", every[9]: every[10]})


def misplaced_in_web(program: ProgramFolder) -> None:
    """The same for the web configuration."""
    every = list(SECRETS.values())
    users = {"alice": SECRETS["Basic"], program.hash: "x", "bob": program.hash + "x"}
    program.write_web(
        users, rate_limit=program.hash, http_server_config={"headers": {"X-Frame-Options": every[0]}}
    )


def errors_while_it_runs(program: ProgramFolder, exporter: Exporter, client: httpx.Client) -> None:
    """Every answer of the echo server for every target; then bad reloads; then refused credentials."""
    projects = [f"{name}-project" for name in program.auths()]
    served = program.server.served
    wait_for("every bad answer", lambda: all(served[p] >= BAD_ANSWERS for p in projects), 60)
    wait_for("a job's message", lambda: "the server received" in client.get("/api/v1/status").text, 60)
    look_around(program, client)
    assert exporter.process is not None
    misplaced(program)
    assert program.ask(client, "/-/reload", "POST").status_code == 500
    misplaced_in_web(program)
    wait_for("the web configuration's complaint", lambda: "not reloaded" in exporter.log(), 20)
    program.server.refusing = True
    before = dict(served)
    auths = program.auths()
    auths["inline"]["aksk"]["secret_key"] = SECRETS["Rotated"]
    (program.folder / "FileSk").write_text(SECRETS["LaterSk"])
    program.write(auths)
    assert program.ask(client, "/-/reload", "POST").status_code == 200
    exporter.process.popen.send_signal(signal.SIGHUP)
    # The others may be left alone already: too many of the server's errors look like refused keys.
    asking = ["inline-project", "files-project"]
    wait_for("refusals", lambda: all(served[p] > before[p] for p in asking), 60)
    look_around(program, client)


def look_around(program: ProgramFolder, client: httpx.Client) -> None:
    for path in ("/", "/metrics", "/api/v1/status", "/-/ready", "/nowhere"):
        program.ask(client, path)
    program.ask(client, "/metrics", headers={"accept": "application/openmetrics-text"})
    program.ask(client, "/", auth=("alice", SECRETS["Storage"]))
    program.ask(client, "/", auth=(SECRETS["Basic"], "x"))
    program.ask(client, "/", "BREW")


def commands(program: ProgramFolder) -> None:
    """What ends by itself, on good and on bad files; and a store whose password is of no use."""
    both = ("--config.file", str(program.config), "--web.config.file", str(program.web))
    program.write(program.auths())
    program.write_web({"alice": program.hash})
    program.run("check", "check", *both)
    store = {"url": "postgresql://u@127.0.0.1:1/d", "password_file": "Storage"}
    program.write(program.auths(), storage=store)
    program.run("storage", *both, "--web.listen-address=127.0.0.1:0", "--log.level=debug")
    program.write(program.auths(), storage={**store, "password": SECRETS["Storage"]})
    program.run("check storage", "check", *both)
    misplaced(program)
    misplaced_in_web(program)
    program.run("check bad", "check", *both)
    program.run("serve bad", *both, "--web.listen-address=127.0.0.1:0")
    assert program.outputs["check bad"].startswith("1 ")


@pytest.mark.e2e
@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_no_secret_is_in_any_output(
    tmp_path: Path, authority: Authority, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs at level debug, every page, both streams, the commands and the store: none shows any secret."""
    for name, variable in {"EnvAk": "AK", "EnvSk": "SK", "EnvSt": "SECURITY_TOKEN"}.items():
        monkeypatch.setenv(f"HUAWEICLOUD_SDK_{variable}", SECRETS[name])
    pair = authority.issue("server", "IP:127.0.0.1")
    with simulator(tmp_path) as cloud, echo_server(cloud, TOLD) as server:
        monkeypatch.setenv("HC_CONTAINER_CREDENTIALS_FULL_URI", f"{server.url}/pod/keys")
        monkeypatch.setenv("HC_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "PodProof"))
        fields = {"access": "PodAk", "secret": "PodSk", "securitytoken": "PodSt"}
        server.pod_keys = {field: SECRETS[name] for field, name in fields.items()}
        program = ProgramFolder(tmp_path, server, pair)
        exporter = Exporter(program.config, tmp_path)
        exporter.start(
            f"--web.config.file={program.web}", "--web.enable-lifecycle", "--log.level=debug",
            f"--log.format={style}",
        )  # fmt: skip
        try:
            with httpx.Client(
                base_url=exporter.url.replace("http", "https"),
                verify=authority.client_context(), auth=("alice", SECRETS["Basic"]), timeout=10,
            ) as client:  # fmt: skip
                wait_for("the log", lambda: "listening" in exporter.log())
                errors_while_it_runs(program, exporter, client)
            assert exporter.process is not None
            exporter.process.popen.send_signal(signal.SIGTERM)
            rest, _ = exporter.process.popen.communicate(timeout=20)
        finally:
            exporter.kill()
        program.outputs |= {"log": exporter.log(), "stdout": rest.decode()}
        for file in tmp_path.glob("*.db*"):
            program.outputs[file.name] = file.read_bytes().decode("latin-1")
        commands(program)
        assert MARK in program.outputs["log"]
        assert any("the server received" in text for text in program.outputs.values())
        assert server.tokens
        leaks = [
            f"{secret} in {name}: …{text[max(0, (at := text.find(needle)) - 200) : at + 20]}"
            for secret, needle in program.needles().items()
            for name, text in program.outputs.items()
            if needle in text
        ]
    assert leaks == [], "\n".join(leaks)
