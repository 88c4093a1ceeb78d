"""Who is let in. The judge of the signature check is the official SDK's signer, by its published vectors."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from exporter.simulator.auth import RawRequest, signature_of
from exporter.simulator.simulation import PROJECT_ID, REGION, Options, Simulation, new_simulation
from tests.paths import TESTS

from .support import JOBS, NOON, Wall, ask, signed, small_world, talk

VECTORS = TESTS / "cloud" / "auth" / "signing_vectors.json"


def strict() -> tuple[Simulation, Wall]:
    """A simulation that checks everything, and its clock."""
    world, wall = small_world(minutes=1)
    return Simulation(world, clock=wall), wall


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """What the gateway says to those it does not let in."""
    body = answer.json()
    return answer.status_code, body["error_code"], body["error_msg"].partition("information: ")[2]


@pytest.mark.parametrize("case", json.loads(VECTORS.read_text())["cases"], ids=lambda case: case["name"])
def test_signatures_of_the_official_sdk(case: dict[str, Any]) -> None:
    """Worked out from the request on the wire, the signature is the one that the official SDK made."""
    given, expected = case["input"], case["expected"]
    path, _, query = expected["uri"].partition("?")
    wire = {name.lower(): str(value) for name, value in expected["headers_on_the_wire"].items()}
    if any(ord(letter) > 127 for value in wire.values() for letter in value):
        wire = {name: value.encode("latin-1").decode() for name, value in wire.items()}
    request = RawRequest(given["method"], path, query, wire, (given["body"] or "").encode())
    names = expected["signed_headers"].split(";")
    assert signature_of(request, names, wire["x-sdk-date"], given["sk"]) == expected["signature"]


def test_a_good_signature_opens() -> None:
    """A signed request with a query is answered."""
    made, _ = strict()
    assert (
        ask(made, **signed(JOBS, {"limit": "5", "create_since": "2025-10-09T08:00:00Z"})).status_code == 200
    )


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        ({"path": JOBS}, "APIG.0301", "x-auth-token not found"),
        ({"path": JOBS, "headers": {"X-Auth-Token": "x"}}, "APIG.0301", "decrypt token fail"),
        (
            {"path": JOBS, "headers": {"Authorization": "Basic x"}},
            "APIG.0301",
            "Authorization format is incorrect",
        ),
        (signed(JOBS, sk="wrong"), "APIG.0301", "verify aksk signature fail"),
        (signed(JOBS, ak="NOBODY"), "APIG.0301", "Get secretKey failed, ak not exist"),
        (signed(JOBS, now=NOON - 901), "APIG.0301", "signature expired"),
        (signed(JOBS, now=NOON + 901), "APIG.0301", "signature expired"),
        (signed(JOBS) | {"params": {"limit": "5"}}, "APIG.0301", "verify aksk signature fail"),
        (signed(JOBS, x_security_token="t"), "APIG.0301", "verify aksk signature fail"),
    ],
    ids=["none", "token", "basic", "sk", "ak", "early", "late", "tampered", "stray-token"],
)
def test_refusals(request_: dict[str, Any], code: str, text: str) -> None:
    """Wrong credentials get 401 with the documented code and text."""
    status, described, message = refusal(ask(strict()[0], **request_))
    assert (status, described) == (401, code)
    assert text in message


@pytest.mark.parametrize("project_id", [None, "0" * 32], ids=["missing", "other"])
def test_the_project_header_is_required(project_id: str | None) -> None:
    """With AK/SK a missing or foreign X-Project-Id gets 400."""
    assert refusal(ask(strict()[0], **signed(JOBS, project_id=project_id)))[:2] == (400, "MSS.00010009")


def test_five_bad_signatures_lock_the_key() -> None:
    """After five in a row a good signature is refused for five minutes; a good one resets the count."""
    made, wall = strict()
    bad, good = signed(JOBS, sk="wrong"), signed(JOBS)
    for _ in range(2):
        for _ in range(4):
            assert ask(made, **bad).status_code == 401
        assert ask(made, **good).status_code == 200
    for _ in range(5):
        assert ask(made, **bad).status_code == 401
    assert refusal(ask(made, **good))[2] == "AK access failed to reach the limit,forbidden"
    wall.now += 301
    assert ask(made, **signed(JOBS, now=wall.now)).status_code == 200


def token_request(**changes: str) -> dict[str, Any]:
    """The body that asks IAM for a token."""
    fields = {
        "name": "exporter",
        "password": "simulated-password",
        "domain": "simulated-account",
        "project": REGION,
    }
    fields |= changes
    user = {"name": fields["name"], "password": fields["password"], "domain": {"name": fields["domain"]}}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": fields["project"]}},
        }
    }


def test_a_token_opens_until_it_expires() -> None:
    """IAM answers 201 with a token in a header; it opens the list until ``expires_at``, then 401."""
    made, wall = strict()
    made.auth.token_life = 600.0
    answer = ask(made, "/v3/auth/tokens", "POST", json=token_request(), params={"nocatalog": "true"})
    assert answer.status_code == 201
    assert answer.json()["token"]["expires_at"] == "2025-10-09T09:03:20.000000Z"
    assert answer.json()["token"]["project"]["id"] == PROJECT_ID
    headers = {"X-Auth-Token": answer.headers["x-subject-token"]}
    assert ask(made, headers=headers).status_code == 200
    wall.now += 600.0
    late = ask(made, headers=headers)
    assert (late.status_code, late.json()["error_code"]) == (401, "APIG.0307")
    assert "token expires" in late.json()["error_msg"]


def test_revoked_tokens() -> None:
    """Tokens that were revoked over the control path are refused."""
    made, _ = strict()
    token = ask(made, "/v3/auth/tokens", "POST", json=token_request()).headers["x-subject-token"]
    assert ask(made, "/simulator/tokens", "DELETE").status_code == 200
    assert refusal(ask(made, headers={"X-Auth-Token": token}))[2] == "decrypt token fail"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (token_request(password="wrong"), 401),
        (token_request(domain="other"), 401),
        (token_request(project="mars-1"), 401),
        ({"auth": {}}, 400),
    ],
    ids=["password", "domain", "project", "shape"],
)
def test_iam_refusals(body: dict[str, Any], status: int) -> None:
    """IAM refuses in Keystone's form."""
    answer = ask(strict()[0], "/v3/auth/tokens", "POST", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == status


def test_tokens_belong_to_one_project() -> None:
    """A token of one project does not open another, and each project has its own jobs."""
    made = new_simulation(projects=("a" * 32, "b" * 32), wall=Wall(), history=120.0)
    found = ask(made, **signed("/v3/projects", {"name": f"{REGION}_1"}, project_id=None)).json()
    assert [project["id"] for project in found["projects"]] == ["b" * 32]
    token = ask(made, "/v3/auth/tokens", "POST", json=token_request(project=f"{REGION}_1"))
    headers = {"X-Auth-Token": token.headers["x-subject-token"]}
    own = ask(made, f"/v1/{'b' * 32}/ttsc/tts-jobs", headers=headers)
    foreign = ask(made, f"/v1/{'a' * 32}/ttsc/tts-jobs", headers=headers)
    assert (own.status_code, foreign.status_code) == (200, 400)
    assert foreign.json()["error_code"] == "MSS.00010009"
    first, second = ({job.job_id for job in world.jobs} for world in made.worlds.values())
    assert first
    assert first.isdisjoint(second)


def test_temporary_keys_of_the_machine() -> None:
    """Metadata gives keys that open the list with their token, overlap with the next pair, and end."""
    made, wall = strict()

    def keys() -> dict[str, Any]:
        got = ask(made, "/openstack/latest/securitykey").json()["credential"]
        return {"ak": got["access"], "sk": got["secret"], "x_security_token": got["securitytoken"]}

    old = keys()
    assert ask(made, **signed(JOBS, **old)).status_code == 200
    del old["x_security_token"]
    assert ask(made, **signed(JOBS, **old)).status_code == 401
    old = keys()
    while keys() == old:
        wall.now += 60.0
    assert ask(made, **signed(JOBS, now=wall.now, **old)).status_code == 200
    assert ask(made, **signed(JOBS, now=wall.now, **keys())).status_code == 200
    wall.now += 600.0
    assert "security token expired" in refusal(ask(made, **signed(JOBS, now=wall.now, **old)))[2]


def test_metadata_protocols() -> None:
    """The newer metadata protocol may be supported, required or missing, and so may the agency."""
    made, _ = strict()

    async def conversation(client: httpx.AsyncClient) -> list[int]:
        key, token = "/openstack/latest/securitykey", "/meta-data/latest/api/token"
        ttl = {"X-Metadata-Token-Ttl-Seconds": "21600"}
        made.options = Options(metadata_tokens="required")
        seen = [(await client.get(key)).status_code, (await client.put(token)).status_code]
        text = (await client.put(token, headers=ttl)).text
        seen.append((await client.get(key, headers={"X-Metadata-Token": text})).status_code)
        made.options = Options(metadata_tokens="unsupported")
        seen += [(await client.put(token, headers=ttl)).status_code, (await client.get(key)).status_code]
        made.options = Options(agency=False)
        refused = await client.get(key)
        assert "Please configure Cloud Service Agency first" in refused.text
        pod = "/pod-identity/credentials"
        seen += [refused.status_code, (await client.post(pod, json={})).status_code]
        got = await client.post(pod, json={}, headers={"Authorization": made.auth.accounts.pod_token})
        assert got.json()["credentials"].keys() >= {"access_key_id", "secret_access_key", "security_token"}
        return seen

    assert talk(made, conversation) == [401, 400, 200, 404, 200, 401, 401]


@pytest.mark.parametrize(("scale", "minutes"), [(1.0, 15), (6.0, 90), (0.5, 15)])
def test_a_clock_that_runs_fast_bears_as_much_of_ours(scale: float, minutes: int) -> None:
    """Fifteen minutes by the clock of whoever signs, who may keep to a time that was accepted."""
    assert new_simulation(time_scale=scale, history=0.0).auth.date_tolerance == 60 * minutes
