"""Where credentials come from: files, environment, the machine, and the chain over them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.cloud.auth.sources import EnvironmentSource, credentials_key, header_secret
from exporter.config import AgencyAuth, AkskAuth, Auth, DefaultChain, PasswordAuth, Secret, TokenAuth
from exporter.errors import ApiError, CredentialsError
from tests.cloud.harness import AK, SK, START, ClientHarness, jobs, reply, run

ENVIRONMENT = {"HUAWEICLOUD_SDK_AK": "AK-ENV", "HUAWEICLOUD_SDK_SK": "SK-ENV"}
POD = {"HC_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1338/pod/keys"}
METADATA = "169.254.169.254"


def _signer(request: httpx.Request) -> str:
    return request.headers["Authorization"].split("Access=")[1].split(",")[0]


def _keys(name: str = "AK-TEMP", expires: str = "2025-11-19T09:00:00.575000Z") -> dict[str, Any]:
    return {"access": name, "secret": "SK-TEMP", "securitytoken": "ST-TEMP", "expires_at": expires}


class AgencyMachine:
    """An ECS with an agency beside the API; ``keys`` are what it gives next."""

    def __init__(self, auth: Auth | None = None, environ: dict[str, str] | None = None) -> None:
        self.keys: object = {"credential": _keys()}
        self.token_status = 200
        self.keys_status = 200
        self.asked: list[str] = []
        self.harness = ClientHarness(self.answer, auth=auth or AgencyAuth(), environ=environ)

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.host not in (METADATA, "127.0.0.1"):
            return jobs("a")
        self.asked.append(f"{request.method} {request.url.path}")
        if request.method == "PUT":
            assert request.headers["X-Metadata-Token-Ttl-Seconds"] == "21600"
            return reply(self.token_status, b"metadata-token\n")
        return reply(self.keys_status, self.keys, {"Date": self.harness.date()})


# --- files and environment

PLACEHOLDER = "holds a variable or a placeholder, and nothing here fills it in: write the value itself"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "secret_key: {path} cannot be read: No such file or directory"),
        (b"", "secret_key: {path} is empty"),
        (b" \n ", "secret_key: {path} is empty"),
        (b"two\nlines", "secret_key: {path} must be one line without control characters"),
        ("schlüssel".encode(), "secret_key: {path} must be one line of printable ASCII"),
        (b"\xff\xfe", "secret_key: {path} is not UTF-8 text"),
        (b"x" * 70000, "secret_key: {path} is larger than 64 KiB"),
        (b"${SK}\n", f"secret_key: {{path}} {PLACEHOLDER}"),
        (b"\xef\xbb\xbf<your-sk>\r\n", f"secret_key: {{path}} {PLACEHOLDER}"),
    ],
    ids=[
        "missing", "empty", "blank", "two_lines", "not_ascii", "not_utf8", "too_large", "variable",
        "placeholder",
    ],
)  # fmt: skip
def test_bad_secret_files(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A secret file that cannot be used is named, with the reason and without its content."""
    path = tmp_path / "sk"
    if content is not None:
        path.write_bytes(content)
    harness = ClientHarness(lambda request: jobs("a"), auth=AkskAuth(Secret(AK), path))
    with pytest.raises(CredentialsError) as caught:
        run(harness.list_jobs())
    assert str(caught.value) == problem.format(path=path)
    assert harness.requests == []
    assert harness.events.errors == [("get_credentials", "auth", None)]


def test_a_folder_is_no_secret(tmp_path: Path) -> None:
    """Naming a folder says so."""
    with pytest.raises(CredentialsError, match="is not a regular file"):
        header_secret(tmp_path, "token")


def test_temporary_keys_from_files_are_sent_and_signed(tmp_path: Path) -> None:
    """The security token travels as a signed header."""
    harness = ClientHarness(lambda request: jobs("a"), auth=AkskAuth(Secret(AK), Secret(SK), Secret("ST")))
    run(harness.list_jobs())
    request = harness.requests[0]
    assert request.headers["X-Security-Token"] == "ST"
    assert "x-security-token" in request.headers["Authorization"]


def test_the_environment_comes_first(tmp_path: Path) -> None:
    """Keys in the environment win over the credentials file, and bring their project."""
    file = tmp_path / "credentials"
    file.write_text("[basic]\nak = AK-FILE\nsk = SK-FILE\n")
    environ = {
        **ENVIRONMENT,
        "HUAWEICLOUD_SDK_PROJECT_ID": "p-env",
        "HUAWEICLOUD_SDK_SECURITY_TOKEN": "ST-ENV",
        "HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file),
    }
    harness = ClientHarness(lambda request: jobs("a"), auth=DefaultChain(), environ=environ, project_id=None)
    run(harness.list_jobs())
    assert _signer(harness.requests[0]) == "AK-ENV"
    assert harness.requests[0].headers["X-Security-Token"] == "ST-ENV"
    assert harness.client.project_id == "p-env"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff[basic]\nak = AK-FILE\nsk = SK\nproject_id = p-file\n",
        "[basic]\r\nak = AK-FILE \t\r\nsk = SK\r\nproject_id = p-file \r\n",
        "[basic]\nak = \"AK-FILE\"  # of the team\nsk = 'SK'\nproject_id = p-file ; mine\n",
    ],
    ids=["byte-order-mark", "line-ends-of-windows", "quotes-and-comments"],
)
def test_credentials_files_of_other_editors(tmp_path: Path, content: str) -> None:
    """What an editor adds around the keys is no part of them."""
    file = tmp_path / "credentials"
    file.write_bytes(content.encode())
    environ = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file)}
    harness = ClientHarness(lambda request: jobs("a"), auth=DefaultChain(), environ=environ, project_id=None)
    run(harness.list_jobs())
    assert _signer(harness.requests[0]) == "AK-FILE"
    assert harness.client.project_id == "p-file"


@pytest.mark.parametrize("before", [" ", "\ufeff", "\ufeff "], ids=["blank", "byte-order-mark", "both"])
def test_what_stands_around_variables_is_left_out(before: str) -> None:
    """What an editor or a secret manager adds breaks no address and no header."""
    environ = {name: f"{before}{value}\r\n" for name, value in ENVIRONMENT.items()}
    environ["HUAWEICLOUD_SDK_PROJECT_ID"] = f"{before}p-env\n"
    harness = ClientHarness(lambda request: jobs("a"), auth=DefaultChain(), environ=environ, project_id=None)
    run(harness.list_jobs())
    assert _signer(harness.requests[0]) == "AK-ENV"
    assert harness.client.project_id == "p-env"


@pytest.mark.parametrize("text", ["${AK}", "$AK", "$(AK)", "{{ ak }}", "%AK%", "<your-ak>"])
@pytest.mark.parametrize("variable", ["HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"])
def test_a_variable_that_nobody_filled_in_is_named(variable: str, text: str) -> None:
    """A manifest with its placeholders in it would be refused by the cloud for a wrong signature."""
    with pytest.raises(CredentialsError) as caught:
        EnvironmentSource({**ENVIRONMENT, variable: text}).read()
    assert str(caught.value) == f"{variable} {PLACEHOLDER}"


def test_a_project_id_that_cannot_be_one_is_named() -> None:
    """Before it becomes a part of an address."""
    environ = {**ENVIRONMENT, "HUAWEICLOUD_SDK_PROJECT_ID": "a/../b"}
    harness = ClientHarness(lambda request: reply(404), auth=DefaultChain(), environ=environ, project_id=None)
    with pytest.raises(CredentialsError, match="HUAWEICLOUD_SDK_PROJECT_ID must be 1 to 64 letters"):
        run(harness.list_jobs())


@pytest.mark.parametrize("place", ["named", "home"])
def test_the_credentials_file_comes_second(tmp_path: Path, place: str) -> None:
    """Without keys in the environment the SDK's file is read, where its variable or HOME says."""
    file = tmp_path / ".huaweicloud" / "credentials"
    file.parent.mkdir()
    file.write_text("[basic]\nak = AK-FILE\nsk = SK%FILE\nsecurity_token = ST\nproject_id = p-file\n")
    environ = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file)} if place == "named" else {"HOME": str(tmp_path)}
    harness = ClientHarness(lambda request: jobs("a"), auth=DefaultChain(), environ=environ, project_id=None)
    run(harness.list_jobs())
    assert _signer(harness.requests[0]) == "AK-FILE"
    assert harness.client.project_id == "p-file"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[global]\nak = x\n", "section [basic] is missing"),
        ("[basic]\nak = AK\n", "sk is empty"),
        ("not an ini file SECRET", "is not a valid INI file"),
        ("[basic]\nak = a\nak = SECRET\n", "is not a valid INI file"),
        ("[basic]\nak = ${AK}\nsk = SECRET\n", f"ak {PLACEHOLDER}"),
        ("[basic]\nak = AK\nsk = <your sk>\n", f"sk {PLACEHOLDER}"),
    ],
    ids=["other_section", "no_sk", "no_ini", "twice", "variable", "placeholder"],
)
def test_bad_credentials_files(tmp_path: Path, content: str, problem: str) -> None:
    """A credentials file that cannot be used is named without a word of its content."""
    file = tmp_path / "credentials"
    file.write_text(content)
    environ = {"HUAWEICLOUD_SDK_CREDENTIALS_FILE": str(file)}
    harness = ClientHarness(lambda request: reply(404), auth=DefaultChain(), environ=environ)
    with pytest.raises(CredentialsError) as caught:
        run(harness.list_jobs())
    assert problem in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_an_empty_chain_tells_every_reason() -> None:
    """When no source has credentials, the line says what to set and why each source failed."""
    harness = ClientHarness(lambda request: reply(404), auth=DefaultChain())
    with pytest.raises(CredentialsError) as caught:
        run(harness.list_jobs())
    text = str(caught.value)
    assert text.startswith(
        "no credentials found: set auth for this target (environment: HUAWEICLOUD_SDK_AK and"
    )
    assert "credentials file: set HUAWEICLOUD_SDK_CREDENTIALS_FILE or HOME" in text
    assert "get_credentials" in text


def test_the_agency_comes_last() -> None:
    """With nothing else, the machine's own keys are used."""
    machine = AgencyMachine(auth=DefaultChain())
    run(machine.harness.list_jobs())
    assert _signer(machine.harness.requests[-1]) == "AK-TEMP"


# --- the machine


def test_keys_of_the_agency() -> None:
    """The newer protocol's token is fetched and sent, the keys sign, and their end is reported."""
    machine = AgencyMachine()
    run(machine.harness.list_jobs())
    assert machine.asked == ["PUT /meta-data/latest/api/token", "GET /openstack/latest/securitykey"]
    assert machine.harness.requests[1].headers["X-Metadata-Token"] == "metadata-token"
    assert machine.harness.requests[2].headers["X-Security-Token"] == "ST-TEMP"
    assert machine.harness.events.expiry == pytest.approx(START + 3600.575)
    assert [operation for operation, _ in machine.harness.events.requests] == [
        "get_credentials",
        "get_credentials",
        "list_jobs",
    ]


@pytest.mark.parametrize("status", [404, 405, 503])
def test_machines_without_the_newer_protocol(status: int) -> None:
    """Where the machine knows no metadata tokens, the keys are asked for without one."""
    machine = AgencyMachine()
    machine.token_status = status
    run(machine.harness.list_jobs())
    assert "X-Metadata-Token" not in machine.harness.requests[1].headers
    assert machine.harness.events.errors == []


@pytest.mark.parametrize(
    "keys",
    [
        {"credentials": _keys()},
        _keys(),
        {"credential": {"accessKeyId": "AK-TEMP", "secretAccessKey": "S", "securityToken": "T",
                        "expiration": "2025-11-19T09:00:00Z"}},
        {"access_key_id": "AK-TEMP", "secret_access_key": "S", "security_token": "T"},
    ],
    ids=["credentials", "top", "camel_case", "snake_case_without_end"],
)  # fmt: skip
def test_every_spelling_of_the_keys(keys: object) -> None:
    """All spellings that the SDK accepts are accepted."""
    machine = AgencyMachine()
    machine.keys = keys
    run(machine.harness.list_jobs())
    assert _signer(machine.harness.requests[-1]) == "AK-TEMP"


@pytest.mark.parametrize(
    "keys", [b"<html>", [], {}, {"credential": {"access": "A"}}, {"access": "\n"}], ids=repr
)
def test_an_answer_without_keys(keys: object) -> None:
    """Whatever else the metadata service says is an error that can be retried."""
    machine = AgencyMachine()
    machine.keys = keys
    with pytest.raises(ApiError) as caught:
        run(machine.harness.list_jobs())
    assert (caught.value.operation, str(caught.value.kind)) == ("get_credentials", "decode")


def test_a_machine_without_an_agency_says_what_to_do() -> None:
    """The known answer of a machine without an agency becomes one clear line."""
    machine = AgencyMachine()
    machine.keys_status = 401
    machine.keys = {"message": "Please configure Cloud Service Agency first"}
    with pytest.raises(CredentialsError, match="this machine has none"):
        run(machine.harness.list_jobs())


def test_temporary_keys_are_renewed_minutes_before_their_end() -> None:
    """Keys of an hour are kept for 53 minutes and replaced between eight and five minutes before the end."""
    machine = AgencyMachine()

    async def scenario() -> None:
        await machine.harness.list_jobs()
        machine.harness.time.now += 52 * 60
        await machine.harness.list_jobs()
        assert len(machine.asked) == 2
        machine.keys = {"credential": _keys("AK-NEXT", "2025-11-19T10:00:00Z")}
        machine.harness.time.now += 3 * 60
        await asyncio.gather(*(machine.harness.list_jobs() for _ in range(4)))

    run(scenario())
    assert len(machine.asked) == 4
    assert _signer(machine.harness.requests[-1]) == "AK-NEXT"


def test_renewal_is_tried_at_most_once_a_minute() -> None:
    """While the old keys are good, a machine that gives the same ones again is not asked at every request."""
    machine = AgencyMachine()

    async def scenario() -> None:
        await machine.harness.list_jobs()
        machine.harness.time.now += 55 * 60
        for _ in range(11):
            await machine.harness.list_jobs()
            machine.harness.time.now += 10

    run(scenario())
    assert machine.asked.count("GET /openstack/latest/securitykey") == 3


def test_keys_that_seem_to_have_ended_are_used_all_the_same() -> None:
    """When our clock is an hour wrong, fresh keys are still used, and kept for two minutes."""
    machine = AgencyMachine()
    machine.keys = {"credential": _keys(expires="2025-11-19T07:00:00Z")}
    run(machine.harness.list_jobs())
    assert _signer(machine.harness.requests[-1]) == "AK-TEMP"


def test_pod_identity(tmp_path: Path) -> None:
    """In a pod the keys come from its URI, with the token of its file, and never from the ECS below."""
    token = tmp_path / "token"
    token.write_text("pod-token\n")
    environ = {**POD, "HC_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token)}
    machine = AgencyMachine(environ=environ)
    run(machine.harness.list_jobs())
    first = machine.harness.requests[0]
    assert machine.asked == ["POST /pod/keys"]
    assert (first.content, first.headers["Authorization"]) == (b"{}", "pod-token")


def test_half_configured_pod_identity() -> None:
    """A URI without the token file is named as what is missing."""
    machine = AgencyMachine(environ=POD)
    with pytest.raises(CredentialsError, match="HC_CONTAINER_AUTHORIZATION_TOKEN_FILE is not"):
        run(machine.harness.list_jobs())


# --- sharing


def test_same_credentials_have_the_same_key(tmp_path: Path) -> None:
    """However an access key is given, targets that use it share a limiter; others do not."""
    file = tmp_path / "ak"
    file.write_text("AK-ENV\n")
    inline = credentials_key(AkskAuth(Secret("AK-ENV"), Secret("x")), {})
    assert credentials_key(AkskAuth(file, Secret("y")), {}) == inline
    assert credentials_key(DefaultChain(), ENVIRONMENT) == inline
    others = [
        credentials_key(AkskAuth(Secret("AK-OTHER"), Secret("x")), {}),
        credentials_key(AkskAuth(tmp_path / "missing", Secret("x")), {}),
        credentials_key(TokenAuth(Secret("AK-ENV")), {}),
        credentials_key(PasswordAuth("d", "u", Secret("x")), {}),
        credentials_key(AgencyAuth(), {}),
        credentials_key(AgencyAuth(), POD),
    ]
    assert len({inline, *others}) == 7
    assert credentials_key(DefaultChain(), {}) == credentials_key(AgencyAuth(), {})
