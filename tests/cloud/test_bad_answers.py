"""Every way an answer can be bad, through the real client: the kind, the code and the exact words."""

from __future__ import annotations

import gzip
import time
from typing import NamedTuple

import httpx
import pytest

from exporter.errors import ApiError
from tests.cloud.harness import AK, IAM, SK, ClientHarness, gateway, reply, run, script


class Bad(NamedTuple):
    name: str
    answer: httpx.Response
    kind: str
    code: str | None
    message: str
    attempts: int


def _verify(text: str) -> str:
    return f"Incorrect IAM authentication information: {text}"


def raw(content: bytes, status: int = 200, **headers: str) -> httpx.Response:
    """An answer whose body httpx leaves as it is."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=named)


BOMB = gzip.compress(bytes(65 << 20), 9)

NOT_A_LIST = "check endpoint, and any proxy on the way"
CREDENTIALS = "check the credentials"
NO_PERMISSION = "give the IAM user the permission MetaStudio ReadOnlyAccess"
ENDED = "the token ended or is of another region: a new one is needed"
WRONG_PLACE = "check region and endpoint"
THROTTLED = "throttled: lower rate_limit, or see who else calls this API"

CASES = [
    # 401 and 403: never the same request again
    Bad("wrong_keys", gateway(401, "APIG.0301", _verify("verify aksk signature fail")), "auth", "APIG.0301",
        _verify("verify aksk signature fail")
        + "; check access key and secret key, and that the account is not in arrears", 1),
    Bad("wrong_keys_old_prefix", gateway(401, "APIGW.0301", _verify("verify aksk signature fail")), "auth",
        "APIGW.0301", _verify("verify aksk signature fail")
        + "; check access key and secret key, and that the account is not in arrears", 1),
    Bad("no_such_key", gateway(401, "APIG.0301", _verify("Get secretKey failed,error:ak AKX not exist")),
        "auth", "APIG.0301", _verify("Get secretKey failed,error:ak AKX not exist")
        + "; no such access key, or it is disabled: check access_key", 1),
    Bad("locked_key", gateway(401, "APIG.0301", _verify("AK access failed to reach the limit,forbidden")),
        "auth", "APIG.0301", _verify("AK access failed to reach the limit,forbidden")
        + "; the access key is locked for 5 minutes after bad signatures: find who uses wrong keys", 1),
    Bad("signature_expired_same_clock", gateway(401, "APIG.0301", _verify("signature expired")), "auth",
        "APIG.0301", _verify("signature expired")
        + "; clock or temporary keys expired: check NTP on this machine", 1),
    Bad("token_broken", gateway(401, "APIG.0301", _verify("decrypt token fail")), "auth", "APIG.0301",
        _verify("decrypt token fail") + f"; {ENDED}", 1),
    Bad("token_must_be_updated", gateway(401, "APIG.0307", "The token must be updated."), "auth", "APIG.0307",
        f"The token must be updated.; {ENDED}", 1),
    Bad("unknown_401", gateway(401, "APIG.0301", "x-auth-token not found"), "auth", "APIG.0301",
        f"x-auth-token not found; {CREDENTIALS}", 1),
    Bad("bare_401", reply(401), "auth", None, f"an empty body; {CREDENTIALS}", 1),
    Bad("iam_user_not_allowed", gateway(403, "APIG.0302", "The IAM user is not authorized"), "auth",
        "APIG.0302", f"The IAM user is not authorized; {NO_PERMISSION}", 1),
    Bad("region_forbidden", gateway(403, "APIG.0802", "The IAM user is forbidden in the region"), "auth",
        "APIG.0802", f"The IAM user is forbidden in the region; {NO_PERMISSION}", 1),
    Bad("project_unavailable", gateway(403, "APIG.0310", "The project is unavailable"), "auth", "APIG.0310",
        "The project is unavailable; the project is not available: check project_id and arrears", 1),
    Bad("ip_not_allowed", gateway(403, "APIG.0401", "Access blocked"), "auth", "APIG.0401",
        "Access blocked; this machine's address is not allowed: ask for an IP allow-list entry", 1),
    Bad("html_403", reply(403, b"<html><head><title>Forbidden\n by WAF</title></head></html>"), "auth", None,
        "an HTML page: Forbidden by WAF; check the permissions of these credentials", 1),
    Bad("not_authenticated_by_the_page", gateway(400, "MSS.000000004", "not authenticated"), "auth",
        "MSS.000000004", f"not authenticated; {CREDENTIALS}", 1),
    # 4xx: ours to correct
    Bad("illegal_parameter", reply(400, {"error_code": "MSS.000000003", "error_msg": "Invalid parameter"}),
        "client", "MSS.000000003", "Invalid parameter", 1),
    Bad("foreign_project", gateway(400, "MSS.00010009", "urlTenantId is not equal tokenTenantId"), "client",
        "MSS.00010009",
        "urlTenantId is not equal tokenTenantId; project_id does not belong to these credentials", 1),
    Bad("bad_request_at_gateway", gateway(400, "APIG.0602", "Bad request"), "client", "APIG.0602",
        "Bad request", 1),
    Bad("no_such_api", gateway(404, "APIG.0101", "The API does not exist"), "client", "APIG.0101",
        f"The API does not exist; {WRONG_PLACE}", 1),
    Bad("plain_404", reply(404, b"404 page not found"), "client", None,
        "text: 404 page not found; check region, endpoint and project_id", 1),
    Bad("frozen_app", gateway(405, "APIG.0502", "The app has been frozen"), "client", "APIG.0502",
        "The app has been frozen", 1),
    Bad("arrears", gateway(400, "MSS.20050053", "no quota"), "client", "MSS.20050053",
        "no quota; the account must be topped up or the service switched on", 1),
    Bad("proxy_login", reply(407), "client", None,
        "an empty body; the proxy wants a login: check HTTPS_PROXY", 1),
    Bad("headers_too_large", gateway(494, "APIG.0201", "Request header too large"), "client", "APIG.0201",
        "Request header too large", 1),
    # 3xx
    Bad("redirect", reply(302, None, {"Location": "https://login.example/"}), "redirect", None,
        "redirected to https://login.example/", 1),
    # 429
    Bad("throttled", gateway(429, "APIG.0308", "The throttling threshold has been reached"), "throttled",
        "APIG.0308", f"The throttling threshold has been reached; {THROTTLED}", 5),
    Bad("throttled_without_body", reply(429), "throttled", None, f"an empty body; {THROTTLED}", 5),
    Bad("throttled_by_iam_code", gateway(400, "IAM.0012", "The throttling threshold has been reached."),
        "throttled", "IAM.0012", f"The throttling threshold has been reached.; {THROTTLED}", 5),
    # 5xx
    Bad("internal_error", gateway(500, "MSS.000000002", "internal error"), "server", "MSS.000000002",
        "internal error", 5),
    Bad("code_4_means_internal_with_500", gateway(500, "MSS.00000004", "Internal Error"), "server",
        "MSS.00000004", "Internal Error", 5),
    Bad("iam_unavailable", gateway(503, "APIG.0613", "IAM unavailable"), "server", "APIG.0613",
        "IAM unavailable", 5),
    Bad("gateway_configuration", gateway(404, "APIG.0103", "no back end"), "server", "APIG.0103",
        "no back end", 5),
    Bad("html_502", reply(502, b"<html><title>502 Bad Gateway</title><h1>x</h1></html>"), "server", None,
        "an HTML page: 502 Bad Gateway", 5),
    Bad("empty_504", reply(504), "server", None, "an empty body", 5),
    Bad("not_implemented", reply(501), "server", None, "an empty body", 1),
    Bad("timeout_status", reply(408), "timeout", None, "an empty body", 5),
    # body shapes
    Bad("keystone_shape",
        reply(401, {"error": {"message": "The request requires auth", "code": 401, "title": "Unauthorized"}}),
        "auth", None, f"The request requires auth; {CREDENTIALS}", 1),
    Bad("camel_case_shape", reply(400, {"errorCode": "MSS.9", "errorMsg": "camel"}), "client", "MSS.9",
        "camel", 1),
    Bad("code_message_shape", reply(400, {"code": "X.1", "message": "short"}), "client", "X.1", "short", 1),
    Bad("control_characters", gateway(400, "MSS.3", "a\nb\x1b[31m\u202ec"), "client", "MSS.3",
        r"a\nb\x1b[31m\u202ec", 1),
    Bad("absurd_code", gateway(400, "no code at all!", "x"), "client", None, "x", 1),
    Bad("endless_message", gateway(400, "MSS.3", "x" * 5000), "client", "MSS.3", "x" * 299 + "…", 1),
    Bad("our_keys_echoed", gateway(401, "APIG.0301", f"you sent {AK} and {SK}"), "auth", "APIG.0301",
        f"you sent *** and ***; {CREDENTIALS}", 1),
    # 200 that is no list
    Bad("empty_200", reply(200), "decode", None, f"the answer is an empty body; {NOT_A_LIST}", 2),
    Bad("blank_200", reply(200, b" \n "), "decode", None, f"the answer is an empty body; {NOT_A_LIST}", 2),
    Bad("html_200", reply(200, b"<!doctype html><title>Login</title>"), "decode", None,
        f"the answer is an HTML page: Login; {NOT_A_LIST}", 2),
    Bad("text_200", reply(200, b"OK"), "decode", None, f"the answer is text: OK; {NOT_A_LIST}", 2),
    Bad("array_200", reply(200, []), "decode", None, f"the answer is a JSON array; {NOT_A_LIST}", 2),
    Bad("number_200", reply(200, b"17"), "decode", None, f"the answer is text: 17; {NOT_A_LIST}", 2),
    Bad("truncated_json", reply(200, b'{"count":1,"data":[{"job_id":"a"'), "decode", None,
        f"the answer is broken or incomplete JSON; {NOT_A_LIST}", 2),
    Bad("invalid_utf8", reply(200, b"\xff\xfe{\x00}\x00"), "decode", None,
        "the answer is text: \ufffd\ufffd{\\x00}\\x00; " + NOT_A_LIST, 2),
    Bad("nested_too_deep", reply(200, b'{"count":0,"data":' + b"[" * 20000), "decode",
        None, f"the answer is JSON nested too deeply; {NOT_A_LIST}", 2),
    Bad("empty_object", reply(200, {}), "decode", None,
        f"the answer is JSON that is not a list of jobs; {NOT_A_LIST}", 2),
    Bad("null_data_with_count", reply(200, {"count": 3, "data": None}), "decode", None,
        f"the answer is JSON that is not a list of jobs; {NOT_A_LIST}", 2),
    Bad("no_data_with_count", reply(200, {"count": 3}), "decode", None,
        f"the answer is JSON that is not a list of jobs; {NOT_A_LIST}", 2),
    Bad("data_is_an_object", reply(200, {"count": 1, "data": {"job_id": "a"}}), "decode", None,
        f"the answer is JSON that is not a list of jobs; {NOT_A_LIST}", 2),
    Bad("error_in_200", reply(200, {"error_code": "MSS.000000001", "error_msg": "failure"}), "server",
        "MSS.000000001", "an error inside an answer with status 200: failure", 5),
    Bad("error_beside_data_in_200",
        reply(200, {"error_code": "MSS.000000003", "error_msg": "bad", "count": 0, "data": []}), "client",
        "MSS.000000003", "an error inside an answer with status 200: bad", 1),
    Bad("auth_error_in_200", gateway(200, "APIG.0301", "verify aksk signature fail"), "auth", "APIG.0301",
        "an error inside an answer with status 200: verify aksk signature fail; "
        "check access key and secret key, and that the account is not in arrears", 1),
    Bad("throttled_in_200", gateway(200, "APIG.0308", "slow down"), "throttled", "APIG.0308",
        f"an error inside an answer with status 200: slow down; {THROTTLED}", 5),
    Bad("unknown_error_in_200", reply(200, {"error": {"message": "odd"}}), "decode", None,
        "an error inside an answer with status 200: odd", 2),
    Bad("unexpected_204", reply(204), "decode", None, "an empty body", 2),
    # compression
    Bad("unknown_encoding", raw(b"x", Content_Encoding="zstd"), "decode", None,
        "unknown Content-Encoding zstd", 2),
    Bad("damaged_gzip", raw(b"nogzip", Content_Encoding="gzip"), "decode", None,
        "the compressed body is damaged", 2),
    Bad("cut_gzip", raw(gzip.compress(b'{"count":0}')[:-9], Content_Encoding="gzip"), "decode", None,
        "the compressed body ends too early", 2),
    Bad("data_after_gzip", raw(gzip.compress(b'{"count":0}') + b"more", Content_Encoding="gzip"), "decode",
        None, "data follow the end of the compressed body", 2),
    Bad("announced_too_large", raw(b"{}", Content_Length=str(65 << 20)), "too_large", None,
        "the body is larger than 4 MiB; check endpoint", 1),
    Bad("gzip_bomb", raw(BOMB, Content_Encoding="gzip"), "too_large", None,
        "the body is larger than 4 MiB; check endpoint", 1),
    # refusals that cannot be read: their status says enough
    Bad("gzip_bomb_503", raw(BOMB, 503, Content_Encoding="gzip"), "server", None, "an empty body", 5),
    Bad("endless_503", raw(b"x" * (65 << 20), 503), "server", None, "an empty body", 5),
    Bad("unknown_encoding_401", raw(b"?", 401, Content_Encoding="br"), "auth", None,
        f"an empty body; {CREDENTIALS}", 1),
    Bad("damaged_gzip_429", raw(b"?", 429, Content_Encoding="gzip"), "throttled", None,
        f"an empty body; {THROTTLED}", 5),
    # refusals that are not quite JSON
    Bad("byte_order_mark", raw(b'\xef\xbb\xbf{"error_code":"MSS.3","error_msg":"x"}', 400), "client", "MSS.3",
        "x", 1),
    Bad("control_character", raw(b'{"error_code":"MSS.3","error_msg":"a\x01b"}', 400), "client", "MSS.3",
        r"a\x01b", 1),
    Bad("half_a_pair", raw(rb'{"error_code":"MSS.3","error_msg":"\ud83d"}', 400), "client", "MSS.3",
        r"\ud83d", 1),
]  # fmt: skip


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_bad_answer(bad: Bad) -> None:
    """Each bad answer ends in one error with its kind, code and words, after as many attempts as help."""
    harness = ClientHarness(lambda request: bad.answer)
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs(seconds=600.0))
    error = caught.value
    assert (str(error.kind), error.code, error.message) == (bad.kind, bad.code, bad.message)
    assert error.operation == "list_jobs"
    assert error.status == bad.answer.status_code
    assert len(harness.requests) == bad.attempts
    assert harness.events.requests == [("list_jobs", str(bad.answer.status_code))] * bad.attempts
    assert harness.events.errors == [("list_jobs", bad.kind, bad.code)] * bad.attempts
    assert len(harness.events.retries) == bad.attempts - 1
    assert len(error.message) <= 301


@pytest.mark.parametrize(
    ("answer", "request_id"),
    [
        (gateway(429, "APIG.0308", "x", X_Request_Id="header-id"), "header-id"),
        (gateway(400, "APIG.0308", "x"), "body-id"),
        (reply(200, b"<html>", {"X-Request-Id": "header-id"}), "header-id"),
        (reply(500), None),
    ],
    ids=["header_first", "body", "decode_error", "none"],
)
def test_request_id_is_kept(answer: httpx.Response, request_id: str | None) -> None:
    """What Huawei's support asks for is kept, also for a 429 and for what could not be decoded."""
    harness = ClientHarness(lambda request: answer)
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs(seconds=600.0))
    assert caught.value.request_id == request_id
    assert harness.events.error_details[-1]["request_id"] == request_id


def test_the_advice_survives_an_endless_message() -> None:
    """A long text of the cloud's is cut, not our advice on what to do."""
    answer = gateway(401, "APIG.0301", "verify aksk signature fail " + "x" * 5000)
    with pytest.raises(ApiError, match="check access key and secret key") as caught:
        run(ClientHarness(lambda request: answer).list_jobs())
    assert len(caught.value.message) <= 301


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            b'{"projects":[]}',
            "these credentials see no project named cn-north-4; set project_id for this target",
        ),
        (
            b'{"projects":[{"id":"a","name":"cn-north-4"},{"id":"b","name":"cn-north-4"}]}',
            "these credentials see 2 projects named cn-north-4; set project_id for this target",
        ),
        (
            b'{"projects":[{"id":"../x","name":"cn-north-4"}]}',
            "the project id found is not one; set project_id",
        ),
        (b"[]", "the answer is no list of projects; check iam_endpoint"),
    ],
    ids=["none", "two", "not_an_id", "no_list"],
)
def test_project_that_cannot_be_found(body: bytes, problem: str) -> None:
    """A region without exactly one project says so, and what to set."""
    harness = ClientHarness(lambda request: reply(200, body), project_id=None)
    with pytest.raises(ApiError) as caught:
        run(harness.list_jobs())
    assert caught.value.message == problem
    assert str(harness.requests[0].url) == f"{IAM}/v3/projects?name=cn-north-4"


@pytest.mark.parametrize("title", ["<title>" * 9000, "<title" * 10_000, "<title>" + "<" * 60_000])
def test_a_page_of_titles_costs_no_time(title: str) -> None:
    """A search that begins anew at each of them would hold the event loop for seconds."""
    started = time.process_time()
    with pytest.raises(ApiError, match="an HTML page"):
        run(ClientHarness(lambda request: reply(400, title.encode())).list_jobs())
    assert time.process_time() - started < 1.0


def test_a_million_projects_are_refused() -> None:
    """The identity service, too, cannot make a few bytes many."""
    body = gzip.compress(b'{"projects":[' + b",".join([b"{}"] * 1_000_000) + b"]}")
    answer = raw(body, Content_Encoding="gzip")
    with pytest.raises(ApiError, match="the body is larger than 256 KiB"):
        run(ClientHarness(lambda request: answer, project_id=None).list_jobs())


def test_a_good_answer_after_bad_ones_is_the_result() -> None:
    """Passing faults end in the page, and each of them is counted."""
    harness = ClientHarness(
        script([reply(502), httpx.ReadTimeout("slow"), reply(200, b""), reply(200, {"count": 0})])
    )
    page = run(harness.list_jobs())
    assert page.records == ()
    assert [code for _, code in harness.events.requests] == ["502", "none", "200", "200"]
    assert [kind for _, kind, _ in harness.events.errors] == ["server", "timeout", "decode"]
