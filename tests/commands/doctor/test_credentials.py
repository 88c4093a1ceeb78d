"""Doctor asks with whatever credentials the configuration can express, and names where they come from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.commands.doctor.command import source_of
from exporter.commands.doctor.findings import Verdict
from exporter.config import AgencyAuth, AkskAuth, Auth, DefaultChain, PasswordAuth, Secret, TokenAuth
from exporter.simulator.auth import ACCESS_KEY, SECRET_KEY, Accounts
from exporter.simulator.faults import Fault
from exporter.simulator.simulation import PROJECT_ID
from testkit.processes import bare_environ, simulator, write_config
from tests.commands.doctor.support import SimulatedCloud, new_target

ACCOUNTS = Accounts()
PASSWORD = PasswordAuth(ACCOUNTS.domain, ACCOUNTS.username, Secret(ACCOUNTS.password))
METADATA = "169.254.169.254"
POD = "HC_CONTAINER_CREDENTIALS_FULL_URI"
PROOF = "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE"


class Machine(SimulatedCloud):
    """A machine beside the simulated API. One host may be away."""

    away = ""

    def transport(self) -> httpx.AsyncBaseTransport:
        inner = super().transport()

        async def handle(request: httpx.Request) -> httpx.Response:
            if request.url.host == self.away:
                raise httpx.ConnectError("no route to host", request=request)
            return await inner.handle_async_request(request)

        return httpx.MockTransport(handle)


@pytest.mark.parametrize(
    "auth", [PASSWORD, AgencyAuth(), DefaultChain()], ids=["password", "agency", "chain"]
)
@pytest.mark.parametrize("project_id", [PROJECT_ID, None], ids=["project", "no-project"])
def test_renewed_credentials_are_as_good_as_keys(auth: Auth, project_id: str | None) -> None:
    """They have an end, which is said; the project is found with them, too."""
    findings = Machine().findings(auth=auth, project_id=project_id)
    assert findings["access"].verdict is Verdict.OK
    assert "they end at 2025-10-" in findings["credentials"].text
    assert findings["credentials"].text.endswith("and are renewed")
    assert PROJECT_ID in findings["project"].text
    assert findings["visibility"].verdict is Verdict.OK


def test_a_wrong_clock_shows_in_the_refusal_itself() -> None:
    """It is a usual cause of a signature that is refused; there is no other answer to see it by."""
    machine = Machine()
    machine.ours_is_ahead = 3600.0
    found = machine.findings(auth=AkskAuth(Secret(ACCESS_KEY), Secret("wrong")))
    assert found["credentials"].verdict is Verdict.UNUSABLE
    assert found["clock"].verdict is Verdict.DIFFERS
    assert "3600 s behind" in found["clock"].text or "3599 s behind" in found["clock"].text


def test_a_refusal_shows_the_connection() -> None:
    """A 401 is an answer: name, TLS and proxy work, and how long it took is known."""
    found = Machine().findings(auth=AkskAuth(Secret(ACCESS_KEY), Secret("wrong")))
    assert found["network"].verdict is Verdict.OK
    assert "50 ms an answer" in found["network"].text
    assert found["clock"].verdict is Verdict.OK


def test_refused_and_missing_credentials_are_told_apart() -> None:
    """Each is said by itself."""
    refused = Machine().findings(auth=AkskAuth(Secret(ACCESS_KEY), Secret("wrong")))["credentials"]
    none = Machine({"agency": False}).findings(auth=AgencyAuth())["credentials"]
    assert refused.text.endswith(": refused; see access")
    assert none.text.endswith(": not available there; see access")


NO_JSON = Fault(kind="empty_body", operation="list_jobs")


def error(status: int, code: str = "APIG.0201") -> Fault:
    """In answer to any question for the list."""
    return Fault(kind="error", status=status, code=code, operation="list_jobs")


@pytest.mark.parametrize(
    "fault",
    [error(403, "APIG.0802"), error(502), NO_JSON],
    ids=["403", "502", "no-json"],
)
def test_credentials_that_gave_a_token_were_tried(fault: Fault) -> None:
    """What the list answers then is no question of who asks."""
    machine = Machine()
    machine.simulation.faults.add(fault, machine.time.now)
    found = machine.findings(auth=PASSWORD)
    assert found["access"].verdict is Verdict.UNUSABLE
    assert found["credentials"].verdict is Verdict.OK
    assert "they end at 2025-10-" in found["credentials"].text


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (error(403, "APIG.0802"), "known to the API, which does not allow them this"),
        (error(502), "tried, but no answer shows whether they are accepted"),
        (
            NO_JSON,
            "tried, but no answer shows whether they are accepted",
        ),
    ],
    ids=["403", "502", "no-json"],
)
def test_keys_that_were_sent_are_not_called_untried(fault: Fault, says: str) -> None:
    """Each answer is said to show what it shows."""
    machine = Machine()
    machine.simulation.faults.add(fault, machine.time.now)
    found = machine.findings()["credentials"]
    assert found.verdict is Verdict.NOT_KNOWN
    assert found.text.endswith(f": {says}; see access")


def test_keys_that_were_not_sent_are_untried() -> None:
    """There is no way to the API."""
    machine = Machine()
    machine.away = "metastudio.test"
    assert machine.findings()["credentials"].text.endswith(": not tried: no answer came; see access")


def test_a_question_that_is_refused_was_let_in() -> None:
    """The API judges its limit: the keys are good."""
    found = Machine({"largest_limit": 5}).findings()
    assert found["access"].verdict is Verdict.UNUSABLE
    assert found["credentials"].verdict is Verdict.OK


def test_a_given_token_is_tried() -> None:
    """Nobody knows when it ends."""
    cloud = SimulatedCloud()
    token, _ = cloud.simulation.auth.issue_token(PROJECT_ID, cloud.time.now)
    findings = cloud.findings(auth=TokenAuth(Secret(token)))
    assert (findings["access"].verdict, findings["credentials"].verdict) == (Verdict.OK, Verdict.OK)
    assert "end" not in findings["credentials"].text


def test_a_machine_without_an_agency_has_no_credentials() -> None:
    """With what to do about it."""
    findings = Machine({"agency": False}).findings(auth=AgencyAuth())
    assert "this machine has none: give it one with MetaStudio ReadOnlyAccess" in findings["access"].text
    assert findings["credentials"].verdict is Verdict.UNUSABLE


def test_without_a_metadata_service_there_are_no_credentials() -> None:
    """It is not the API that cannot be reached."""
    cloud = Machine()
    cloud.away = METADATA
    findings = cloud.findings(auth=AgencyAuth())
    assert f"get_credentials: {METADATA}: cannot connect" in findings["access"].text
    assert findings["credentials"].verdict is Verdict.UNUSABLE


def test_credentials_that_end_midway_end_the_questions(tmp_path: Path) -> None:
    """The file is taken away after the list was asked for: a report, no error of the program."""
    files = [tmp_path / "access-key", tmp_path / "secret-key"]
    for file, content in zip(files, (ACCESS_KEY, SECRET_KEY), strict=True):
        file.write_text(content)
    cloud = SimulatedCloud()
    cloud.on_answer = lambda _: files[1].unlink(missing_ok=True) if len(cloud.requests) == 3 else None
    findings = cloud.findings(auth=AkskAuth(*files))
    assert "secret_key" in findings["access"].text
    assert findings["credentials"].verdict is Verdict.UNUSABLE


@pytest.mark.parametrize(
    ("auth", "environ", "says"),
    [
        (AkskAuth(Secret("a"), Secret("b")), {}, "access key from the configuration"),
        (AkskAuth(Path("/keys/ak"), Secret("b")), {}, "access key from /keys/ak"),
        (TokenAuth(Path("/keys/token")), {}, "token from /keys/token"),
        (PASSWORD, {}, "password of IAM user exporter of account simulated-account"),
        (AgencyAuth(), {}, "agency of the machine (ECS metadata)"),
        (AgencyAuth(), {POD: "http://127.0.0.1:1/keys"}, "agency of the pod (CCE)"),
        (DefaultChain(), {}, "agency of the machine (ECS metadata)"),
        (DefaultChain(), {POD: "http://127.0.0.1:1/keys"}, "agency of the pod (CCE)"),
        (
            DefaultChain(),
            {"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "b", POD: "http://127.0.0.1:1/keys"},
            "access key in the environment (HUAWEICLOUD_SDK_AK)",
        ),
    ],
)
def test_the_source_is_named(auth: Auth, environ: Mapping[str, str], says: str) -> None:
    """And nothing of what it holds."""
    assert source_of(new_target(auth=auth), environ) == says


@pytest.mark.program
@pytest.mark.parametrize(
    ("proof", "verdict"), [("simulated-pod-token", "ok"), ("wrong", "unusable"), (None, "unusable")]
)
def test_a_pod_has_its_own_credentials(proof: str | None, verdict: str, tmp_path: Path) -> None:
    """The real program, in an environment as CCE makes it."""
    file = tmp_path / "proof"
    if proof is not None:
        file.write_text(proof)
    with simulator(tmp_path, "--rate=60", "--history=600") as cloud:
        config = write_config(tmp_path, cloud, target={"auth": {"agency": {}}})
        environ = {POD: f"{cloud}/pod-identity/credentials", PROOF: str(file)}
        ended = subprocess.run(
            [sys.executable, "-m", "exporter", "doctor", f"--config.file={config}", "--json"],
            env={**bare_environ(), **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    report: dict[str, Any] = json.loads(ended.stdout)["targets"][0]
    found = {it["name"]: it for it in report["findings"]}
    assert found["credentials"]["text"].startswith("agency of the pod (CCE)")
    assert (found["access"]["verdict"], found["credentials"]["verdict"]) == (verdict, verdict)
    assert (ended.returncode, ended.stderr) == (int(verdict != "ok"), "")
