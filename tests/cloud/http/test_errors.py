"""Foreign errors become ours in one place, and no secret of ours becomes visible on the way."""

from __future__ import annotations

import base64
import logging
import ssl
import traceback
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import log
from exporter.cloud.auth.request_auth import KeyPair, Token
from exporter.cloud.http import errors as mapping
from exporter.cloud.http.errors import read_body, transport_error
from exporter.cloud.redact import MessageRedactor
from exporter.config import AkskAuth, Auth, PasswordAuth, Secret, TokenAuth
from exporter.errors import ApiError, ErrorKind, ExporterError
from tests.cloud.harness import AK, SK, ClientHarness, reply, run


def _tree(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


ROOTS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
ABSTRACT = {httpx.HTTPError, httpx.RequestError, httpx.TransportError, httpx.ProtocolError}
LEAVES = [error for root in ROOTS for error in _tree(root) if error not in ABSTRACT]


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_every_httpx_exception_is_mapped(error: type[Exception]) -> None:
    """Each exception of httpx has a row of its own kind; a new one in httpx must get one too."""
    rows = [kinds for kinds, _, _, _ in mapping.TRANSPORT_ERRORS if issubclass(error, kinds)]
    assert rows[0] != (Exception,)


def test_the_exceptions_are_all_of_httpx() -> None:
    """The walked tree is the whole of httpx's public exceptions that a request can raise."""
    public = {
        value
        for value in vars(httpx).values()
        if isinstance(value, type) and issubclass(value, Exception) and value is not httpx.CookieConflict
    }
    assert public <= {*LEAVES, *ABSTRACT}


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (httpx.ConnectTimeout("x"), "timeout", "no connection in time; check endpoint and firewall"),
        (httpx.ReadTimeout("x"), "timeout", "no answer in time"),
        (httpx.ConnectError("[Errno -2] Name or service not known"), "connect",
         "cannot resolve the name; check region, endpoint and DNS"),
        (httpx.ConnectError("refused"), "connect", "cannot connect; check endpoint, firewall and proxy"),
        (httpx.LocalProtocolError("Illegal header value b'SECRET'"), "other",
         "the request cannot be written as HTTP"),
        (httpx.UnsupportedProtocol("x"), "other", "endpoint must begin with https://"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)  # fmt: skip
def test_transport_messages(error: httpx.HTTPError, kind: str, message: str) -> None:
    """The operator reads what to check; the library's own text, which may hold a header, is not shown."""
    mapped = transport_error(error, "api.example")
    assert (str(mapped.kind), mapped.message) == (kind, f"api.example: {message}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error_code":"A.1","error_msg":"m","request_id":"r"}', ("A.1", "m", "r")),
        (b'{"errorCode":"A.1","errorMsg":"m"}', ("A.1", "m", "")),
        (b'{"code":7,"message":"m"}', ("7", "m", "")),
        (b'{"error":{"code":"A.1","message":"m"},"request_id":"r"}', ("A.1", "m", "r")),
        (b'{"anything":{"error_code":"A.1"}}', ("A.1", "", "")),
        (b'{"error_code":null,"error_msg":["m"]}', ("", "", "")),
        (b'"text"', ("", "text", "")),
        (b"[1]", ("", "", "")),
        (b"nonsense", ("", "", "")),
        (b"[" * 60000, ("", "", "")),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_body_shapes(body: bytes, said: tuple[str, str, str]) -> None:
    """Code, text and request id are found in every documented shape, also one level down."""
    assert tuple(read_body(body)) == said


SECRETS = [AK, SK, "ST+token/==", "MIIF-token-value", 'p4ss"w<rd-example', "metadata-token-1"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "wrap", ["{}", "x{}x", "{}" * 3, "é" * 20000 + "{}"], ids=["bare", "inside", "thrice", "far"]
)
def test_no_spelling_of_a_secret_passes(secret: str, wrap: str) -> None:
    """A secret is redacted wherever it stands, also percent-encoded, and no part of it is left by a cut."""
    redact = MessageRedactor(SECRETS)
    assert secret not in redact(wrap.replace("{}", secret))
    assert secret not in redact(wrap.replace("{}", secret), limit=10**6)


@pytest.mark.slow
@given(
    text=st.text(), before=st.integers(16_300, 16_390), secret=st.text("abcXYZ0189", min_size=8, max_size=60)
)
def test_a_cut_leaves_no_beginning_of_a_secret(text: str, before: int, secret: str) -> None:
    """Even when the scanned part ends within a secret, no more than three characters of it remain."""
    shown = MessageRedactor([secret])("." * before + secret + text, limit=10**6)
    tail = shown.rstrip("…")[-60:]
    assert not any(tail.endswith(secret[:size]) for size in range(4, len(secret) + 1))


@given(st.text())
def test_messages_are_one_printable_line(text: str) -> None:
    """Whatever the text, the message is printable, bounded and on one line."""
    shown = MessageRedactor()(text)
    assert shown.isprintable() or shown == ""
    assert len(shown) <= 300


AUTHS: dict[str, Auth] = {
    "aksk": AkskAuth(Secret(AK), Secret(SK), Secret("ST-example-token")),
    "token": TokenAuth(Secret("MIIF-given-token")),
    "password": PasswordAuth("account", "user", Secret("p4ssw0rd-example")),
}
KNOWN = {
    "aksk": (AK, SK, "ST-example-token", "Signature="),
    "token": ("MIIF-given-token",),
    "password": ("p4ssw0rd-example", "MIIF-made-token"),
}


def _echo(request: httpx.Request) -> str:
    """All that the request carried, and what signed it, as a chatty gateway would repeat it."""
    signed = f" {SK}" if "Authorization" in request.headers else ""
    return f"{dict(request.headers)} {request.content.decode()}{signed}"


def _replies(status: int, text: str) -> dict[str, httpx.Response]:
    header = httpx.Headers({b"X-Request-Id": text[:900].encode("ascii", "replace")})
    return {
        "json": reply(status, {"error_code": text, "error_msg": text, "request_id": text}, header),
        "code": reply(status, {"error_code": text.split()[-1], "message": "m"}),
        "text": reply(status, text.encode()),
        "html": reply(status, f"<html><title>{text}</title>".encode()),
    }


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize("shape", ["json", "code", "text", "html"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 429, 500])
def test_no_secret_in_any_error(auth: str, shape: str, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """A gateway that repeats the whole request shows nothing of it in error, repr, traceback or log."""
    caplog.set_level(logging.DEBUG)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/auth/tokens" and shape != "html":
            return reply(201, {"token": {}}, {"X-Subject-Token": "MIIF-made-token"})
        return _replies(status, _echo(request))[shape]

    harness = ClientHarness(answer, auth=AUTHS[auth])
    with pytest.raises(ExporterError) as caught:
        run(harness.list_jobs(seconds=600.0))
    error = caught.value
    shown = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)]
    shown += [repr(harness.events.errors), repr(harness.shared.states()), caplog.text]
    for secret in KNOWN[auth]:
        assert not any(secret in text for text in shown), secret


@pytest.mark.parametrize("fault", [httpx.ConnectError, httpx.ReadTimeout, httpx.LocalProtocolError])
def test_no_secret_in_faults_of_the_way(fault: type[httpx.TransportError]) -> None:
    """A fault whose text quotes the request is reported in our words."""

    def answer(request: httpx.Request) -> Exception:
        return fault(_echo(request))

    with pytest.raises(ApiError) as caught:
        run(ClientHarness(answer, auth=AUTHS["aksk"]).list_jobs())
    shown = "".join(traceback.format_exception(caught.value))
    for secret in KNOWN["aksk"]:
        assert secret not in shown


def test_secrets_are_not_shown_by_their_holders() -> None:
    """The repr of keys and tokens shows nothing."""
    shown = repr(KeyPair(Secret(AK), Secret(SK), Secret("ST"))) + repr(Token(Secret("MIIF")))
    assert AK not in shown
    assert SK not in shown
    assert "MIIF" not in shown
    assert base64.b64encode(SK.encode()).decode() not in shown


def test_tls_faults_say_what_to_check() -> None:
    """A certificate that is not trusted names the variable that helps; other TLS faults may pass."""
    inner = ssl.SSLCertVerificationError(1, "certificate verify failed")
    outer = httpx.ConnectError("x")
    outer.__cause__ = inner
    mapped = transport_error(outer, "api.example")
    assert (mapped.kind, mapped.retryable) == (ErrorKind.TLS, False)
    assert "SSL_CERT_FILE" in mapped.message


def test_a_cut_leaves_no_part_of_another_targets_secret() -> None:
    """Only the beginning of a very long text is searched: a secret may stand across its end."""
    known = log.Redactor()
    known.add("another-targets-secret-of-forty-four-letters")
    text = " " * (16_384 - 43) + "another-targets-secret-of-forty-four-letters"
    assert MessageRedactor(["own"], known)(text) == ""
    assert MessageRedactor(["own"], known)(f"text {text}") == "text"


def test_a_short_secret_is_redacted() -> None:
    """What is redacted in the log is redacted in messages too, whoever knows it."""
    known = log.Redactor()
    known.add("abc")
    assert (
        MessageRedactor(["xyz"], known)("abc xyz SDK-HMAC-SHA256 Access=abc, Signature=xyz") == "*** *** ***"
    )


@pytest.mark.parametrize("signed", [", SignedHeaders=host;x-sdk-date", ""])
@pytest.mark.parametrize("proof", [", Signature=0a1b", ",Signature=***", ""])
def test_of_a_quoted_header_only_the_header_is_hidden(signed: str, proof: str) -> None:
    """Also of another's; what the message says of it behind stays."""
    header = f"SDK-HMAC-SHA256 Access=AK1{signed}{proof}"
    said = f"{header}: no such key\nand no Signature=, or another one"
    assert MessageRedactor()(said) == "***: no such key\\nand no Signature=, or another one"


def test_what_others_keep_secret_is_redacted_before_the_cut() -> None:
    """A secret of another target, or one just replaced, that would have been cut in the middle."""
    known = log.Redactor()
    known.add("another-targets-secret")
    assert (
        MessageRedactor(["own"], known)("x" * 20 + " another-targets-secret", limit=30) == "x" * 20 + " ***"
    )
