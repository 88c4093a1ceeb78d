"""``--web.config.file``: what is taken, and the exact words for what is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.web.access.config import RateLimit, load_web_config
from testkit.certificates import Authority, Pair
from tests.conftest import Tool
from tests.paths import ROOT

SAMPLE = ROOT / "web-config.yml"
HASH = "$2y$04$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"


@pytest.fixture
def folder(tmp_path: Path, server_pair: Pair, authority: Authority) -> Path:
    """With ``c.pem``, ``k.pem`` and ``ca.pem`` to name."""
    (tmp_path / "c.pem").write_text(server_pair.cert.read_text())
    (tmp_path / "k.pem").write_text(server_pair.key.read_text())
    (tmp_path / "ca.pem").write_text(authority.pair.cert.read_text())
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "web.yml"
    path.write_text(text)
    return path


TLS = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n"
VERIFY = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"

REFUSED = {
    "empty": ("", ["web.yml: is empty: write {} to serve without TLS and passwords"]),
    "no_mapping": ("- 1", ["web.yml:1: must be a mapping of keys to values, not a list"]),
    "unknown_key": (
        "basic_auth_user: {}",
        ["web.yml:1: a key on this line is unknown; did you mean basic_auth_users?"],
    ),
    "unknown_tls_key": (
        TLS + "  cert_files: x",
        ["web.yml:4: tls_server_config: a key on this line is unknown; did you mean cert_file?"],
    ),
    "twice": (
        "rate_limit: {}\nrate_limit: {}",
        ["web.yml:2: a key on this line is given twice, first on line 1"],
    ),
    "tls_nothing": (
        "tls_server_config:\n",
        [
            "web.yml:1: tls_server_config: cert_file or cert is missing; to serve without TLS remove"
            " tls_server_config",
            "web.yml:1: tls_server_config: key_file or key is missing: it must hold the private key of the"
            " certificate",
        ],
    ),
    "no_such_file": (
        "tls_server_config:\n  cert_file: x.pem\n  key_file: k.pem\n",
        ["web.yml:2: tls_server_config.cert_file: the file cannot be read: No such file or directory"],
    ),
    "no_pem": (
        "tls_server_config:\n  cert_file: web.yml\n  key_file: k.pem\n",
        ["web.yml:2: tls_server_config.cert_file: names a file with no PEM block CERTIFICATE"],
    ),
    "swapped": (
        "tls_server_config:\n  cert_file: k.pem\n  key_file: c.pem\n",
        [
            "web.yml:2: tls_server_config.cert_file: names a file with no PEM block CERTIFICATE",
            "web.yml:3: tls_server_config.key_file: names a file with no PEM block PRIVATE KEY",
        ],
    ),
    "inline_no_pem": (
        "tls_server_config:\n  cert: hello\n  key_file: k.pem\n",
        ["web.yml:2: tls_server_config.cert: has no PEM block CERTIFICATE"],
    ),
    "both": (
        TLS + "  cert: x\n",
        ["web.yml:2: tls_server_config.cert_file: is given together with cert: keep one"],
    ),
    "other_key": (
        "tls_server_config:\n  cert_file: ca.pem\n  key_file: k.pem\n",
        ["web.yml:1: tls_server_config: the private key does not belong to the certificate"],
    ),
    "client_auth_unknown": (
        TLS + "  client_auth_type: Maybe\n",
        [
            "web.yml:4: tls_server_config.client_auth_type: must be one of NoClientCert, RequestClientCert,"
            " RequireAnyClientCert, RequireClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert,"
            ' not "Maybe"'
        ],
    ),
    "client_auth_unverified": (
        TLS + "  client_auth_type: RequireAnyClientCert\n",
        [
            "web.yml:4: tls_server_config.client_auth_type: RequireAnyClientCert is not offered: a"
            " certificate that nobody verifies protects nothing, and Python's TLS library always verifies;"
            " use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        ],
    ),
    "client_auth_requested": (
        TLS + "  client_auth_type: RequestClientCert\n",
        [
            "web.yml:4: tls_server_config.client_auth_type: RequestClientCert is not offered: a"
            " certificate that nobody verifies protects nothing, and Python's TLS library always verifies;"
            " use RequireAndVerifyClientCert or VerifyClientCertIfGiven"
        ],
    ),
    "ca_without_policy": (
        TLS + "  client_ca_file: ca.pem\n",
        [
            "web.yml:4: tls_server_config.client_ca_file: is given, but client_auth_type asks for no"
            " certificate: use RequireAndVerifyClientCert"
        ],
    ),
    "policy_without_ca": (
        TLS + "  client_auth_type: VerifyClientCertIfGiven\n",
        [
            "web.yml:4: tls_server_config.client_auth_type: needs client_ca_file: who signs the certificates"
            " of clients"
        ],
    ),
    "sans_without_policy": (
        TLS + "  client_allowed_sans: [a]\n",
        [
            "web.yml:4: tls_server_config.client_allowed_sans: needs client_auth_type:"
            " RequireAndVerifyClientCert"
        ],
    ),
    "sans_empty": (
        TLS + VERIFY + "  client_allowed_sans: []\n",
        [
            "web.yml:6: tls_server_config.client_allowed_sans: is empty: nobody could connect; name one or"
            " remove it"
        ],
    ),
    "old_version": (
        TLS + "  min_version: TLS10\n",
        [
            "web.yml:4: tls_server_config.min_version: must be TLS12 or TLS13: TLS10 was retired (RFC 8996)"
            " and is not offered"
        ],
    ),
    "no_version": (
        TLS + "  max_version: '1.3'\n",
        ['web.yml:4: tls_server_config.max_version: must be one of TLS13, TLS12, TLS11, TLS10, not "1.3"'],
    ),
    "versions_crossed": (
        TLS + "  min_version: TLS13\n  max_version: TLS12\n",
        ["web.yml:4: tls_server_config.min_version: must not be above max_version"],
    ),
    "suite_of_13": (
        TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        [
            "web.yml:4: tls_server_config.cipher_suites[0]: is a suite of TLS 1.3, which are always all on:"
            " remove it (Go ignores it)"
        ],
    ),
    "suites_without_effect": (
        TLS + "  min_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n",
        [
            "web.yml:5: tls_server_config.cipher_suites: has no effect with min_version TLS13, whose suites"
            " are fixed"
        ],
    ),
    "two_curves": (
        TLS + "  curve_preferences: [X25519, CurveP256]\n",
        [
            "web.yml:4: tls_server_config.curve_preferences: must name one curve: Python's TLS library takes"
            " no order of preference; without curve_preferences all usual curves are offered"
        ],
    ),
    "no_curve": (
        TLS + "  curve_preferences: [Curve25519]\n",
        [
            "web.yml:4: tls_server_config.curve_preferences[0]: must be one of CurveP256, CurveP384,"
            ' CurveP521, X25519, not "Curve25519"'
        ],
    ),
    "http2": (
        "http_server_config: {http2: true}",
        ["web.yml:1: http_server_config.http2: must be false: this server speaks HTTP/1.1 only"],
    ),
    "header_unknown": (
        "http_server_config:\n  headers:\n    Server: x\n",
        [
            "web.yml:3: http_server_config.headers.Server: is unknown; known here: Content-Security-Policy,"
            " X-Frame-Options, X-Content-Type-Options, X-XSS-Protection, Strict-Transport-Security"
        ],
    ),
    "header_value": (
        "http_server_config:\n  headers:\n    X-Frame-Options: DENY\n    X-Content-Type-Options: sniff\n",
        [
            "web.yml:3: http_server_config.headers.X-Frame-Options: must be deny or sameorigin, or empty to"
            " leave the header out",
            "web.yml:4: http_server_config.headers.X-Content-Type-Options: must be nosniff, or empty to leave"
            " the header out",
        ],
    ),
    "header_injection": (
        'http_server_config: {headers: {Content-Security-Policy: "a\\r\\nSet-Cookie: b"}}',
        [
            "web.yml:1: http_server_config.headers.Content-Security-Policy: must be one line of printable"
            " ASCII without blanks at its ends"
        ],
    ),
    "rate_without_burst": (
        "rate_limit: {interval: 1s}",
        [
            "web.yml:1: rate_limit: burst must be at least 1: with an interval and no burst"
            " nothing is answered"
        ],
    ),
    "burst_alone": (
        "rate_limit: {burst: 3}",
        ["web.yml:1: rate_limit: interval is missing: burst alone limits nothing"],
    ),
    "rate_without_unit": (
        "rate_limit: {interval: 10, burst: 3}",
        [
            "web.yml:1: rate_limit.interval: must be a duration with a unit such as 1s or 100ms, or 0 for no"
            " limit"
        ],
    ),
    "no_bcrypt": (
        "basic_auth_users:\n  alice: hunter2\n  bob: " + HASH.replace("$04$", "$31$"),
        [
            "web.yml:2: basic_auth_users: must be a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters), as from:"
            ' htpasswd -nBC 10 ""',
            "web.yml:3: basic_auth_users: must have a cost from 4 to 18, not 31",
        ],
    ),
    "user_name": (
        f'basic_auth_users:\n  "a:b": {HASH}\n',
        [
            "web.yml:2: basic_auth_users: the user name on this line must have no colon and no control"
            " characters"
        ],
    ),
    "all_at_once": (
        "tls_server_config: {cert_file: c.pem, min_version: TLS10}\nbasic_auth_users: {a: b}\nextra: 1\n",
        [
            "web.yml:1: tls_server_config.min_version: must be TLS12 or TLS13: TLS10 was retired (RFC 8996)"
            " and is not offered",
            "web.yml:1: tls_server_config: key_file or key is missing: it must hold the private key of the"
            " certificate",
            "web.yml:2: basic_auth_users: must be a bcrypt hash ($2a$, $2b$ or $2y$, 60 characters), as from:"
            ' htpasswd -nBC 10 ""',
            "web.yml:3: a key on this line is unknown; known here: tls_server_config, http_server_config,"
            " rate_limit, basic_auth_users",
        ],
    ),
}


@pytest.mark.parametrize(("text", "problems"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(folder: Path, text: str, problems: list[str]) -> None:
    """Every problem of the file in one go, each with its line, its key path and a remedy."""
    with pytest.raises(ConfigError) as refused:
        load_web_config(write(folder, text))
    assert sorted(str(refused.value).replace(f"{folder}/", "").splitlines()) == sorted(problems)


def test_an_encrypted_key_is_refused(folder: Path, tool: Tool) -> None:
    """Nobody is there to type the passphrase."""
    subprocess.run(
        [tool("openssl"), "ec", "-aes128", "-passout", "pass:p4ssphrase", "-in", "k.pem", "-out", "e.pem"],
        check=True, capture_output=True, cwd=folder, timeout=30,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="the private key is encrypted: remove its passphrase"):
        load_web_config(write(folder, TLS.replace("k.pem", "e.pem")))


def test_everything_at_once_is_taken(folder: Path) -> None:
    """Each part of the format, as the toolkit's documentation has it; relative paths are beside the file."""
    text = (
        TLS
        + VERIFY
        + "  client_allowed_sans: [monitoring.example.org]\n  min_version: TLS12\n  max_version: TLS13\n"
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n  prefer_server_cipher_suites: false\n"
        "  curve_preferences: [X25519]\n"
        "http_server_config: {http2: false, headers: {X-Frame-Options: sameorigin, X-XSS-Protection: ''}}\n"
        f"rate_limit: {{interval: 1.5s, burst: 20}}\nbasic_auth_users: {{alice: {HASH}}}\n"
    )
    config = load_web_config(write(folder, text))
    assert config.tls is not None
    assert config.tls.allowed_sans == {"monitoring.example.org"}
    assert config.headers == (("X-Frame-Options", "sameorigin"), ("X-XSS-Protection", ""))
    assert config.rate_limit == RateLimit(1.5, 20)
    assert config.users == {b"alice": HASH.encode()}
    assert [path.name for path in config.files] == ["web.yml", "c.pem", "k.pem", "ca.pem"]


@pytest.mark.parametrize("text", ["{}", "basic_auth_users: {}", "rate_limit: {interval: 0, burst: 0}"])
def test_open_access_is_accepted_when_meant(folder: Path, text: str) -> None:
    """No TLS, no users, no limit: ``{}`` says it, an empty file does not."""
    config = load_web_config(write(folder, text))
    assert (config.tls, config.users, config.rate_limit) == (None, {}, None)


def test_inline_pem_is_taken(folder: Path) -> None:
    """Certificate, key and authority may stand in the file itself."""

    def block(name: str) -> str:
        return "|\n" + "".join(f"    {line}\n" for line in (folder / name).read_text().splitlines())

    text = (
        f"tls_server_config:\n  cert: {block('c.pem')}  key: {block('k.pem')}  client_ca: {block('ca.pem')}"
    )
    config = load_web_config(write(folder, text + "  client_auth_type: VerifyClientCertIfGiven\n"))
    assert config.tls is not None
    assert config.files == (folder / "web.yml",)


SECRET = "s3cr3tHash0123456789"
INSERTED = (
    "",
    " ",
    "\n",
    ":",
    ": ",
    "- ",
    "[",
    "{",
    "}",
    '"',
    "'",
    "&",
    "*",
    "!",
    "? ",
    ",",
    "#",
    "|",
    "\x00",
)
WITH_SECRETS = f"""tls_server_config:
  cert: {SECRET}
  key: {SECRET}
basic_auth_users:
  alice: {SECRET}
  {SECRET}: $2y$10${SECRET}
rate_limit: {{interval: 1s, burst: 2}}
"""


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(st.integers(0, len(WITH_SECRETS)), st.integers(0, 9), st.sampled_from(INSERTED)), max_size=5
    )
)
def test_no_problem_shows_a_secret(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, str]]
) -> None:
    """However the file is mangled, neither keys nor hashes nor user names are repeated."""
    text = WITH_SECRETS
    for place, length, inserted in edits:
        text = text[:place] + inserted + text[place + length :]
    with pytest.raises(ConfigError) as refused:
        load_web_config(write(tmp_path_factory.getbasetemp(), text + "\nwrong: 1\n"))
    assert SECRET[:10] not in str(refused.value)


def sample_with_everything() -> str:
    """The sample with every line in force that it shows as a comment."""
    return re.sub(r"(?m)^#(?! \S)", "", SAMPLE.read_text())


def test_our_sample_is_taken() -> None:
    """As it stands."""
    assert load_web_config(SAMPLE).users


def test_our_whole_sample_is_taken(folder: Path) -> None:
    """And so is everything it shows as a comment."""
    (folder / "server.crt").write_text((folder / "c.pem").read_text())
    (folder / "server.key").write_text((folder / "k.pem").read_text())
    (folder / "clients-ca.crt").write_text((folder / "ca.pem").read_text())
    config = load_web_config(write(folder, sample_with_everything()))
    assert config.tls is not None
    assert config.rate_limit is not None
    assert dict(config.headers)["Strict-Transport-Security"]


@pytest.mark.parametrize("everything", [False, True], ids=["as-it-stands", "everything-but-rate-limit"])
def test_promtool_accepts_our_sample(folder: Path, tool: Tool, everything: bool) -> None:
    """Prometheus' own judge of the format. Debian's is older than ``rate_limit``."""
    (folder / "server.crt").write_text((folder / "c.pem").read_text())
    (folder / "server.key").write_text((folder / "k.pem").read_text())
    (folder / "clients-ca.crt").write_text((folder / "ca.pem").read_text())
    text = sample_with_everything().partition("rate_limit:")[0] if everything else SAMPLE.read_text()
    done = subprocess.run(
        [tool("promtool"), "check", "web-config", write(folder, text)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, "SUCCESS" in done.stderr) == (0, True)


def test_a_missing_bcrypt_is_known_before_a_password_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded with the first user of a configuration, at a start or a reload."""
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    assert load_web_config(write(tmp_path, "rate_limit: {interval: 1s, burst: 2}\n")).users == {}
    with pytest.raises(
        ConfigError, match=r"web\.yml:1: .* needs the Python package bcrypt: install it again"
    ):
        load_web_config(write(tmp_path, f"basic_auth_users: {{alice: {HASH}}}\n"))
