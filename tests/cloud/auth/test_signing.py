"""SDK-HMAC-SHA256 against the official SDK: its recorded answers, and the SDK itself on random requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cloud.auth import signing

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "signing_vectors.json").read_text())


def _headers(case: dict[str, Any]) -> dict[str, str]:
    """Headers of a vector as its ``how_to_use`` says, with the marker that a text body needs."""
    headers = dict(case["headers"])
    if case["project_id"]:
        headers["X-Project-Id"] = case["project_id"]
    if case["security_token"]:
        headers["X-Security-Token"] = case["security_token"]
    if not any(name.lower() == "host" for name in headers):
        headers["Host"] = case["host"]
    marker = signing.payload_marker(headers.get("Content-Type"))
    if marker:
        headers[signing.CONTENT_HASH_HEADER] = marker
    return headers


def test_all_vectors_are_there() -> None:
    """The recorded answers are the whole set, so that a lost file cannot pass as success."""
    assert len(VECTORS["cases"]) == 56


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_every_step_equals_the_sdk(case: dict[str, Any]) -> None:
    """Each intermediate text and the header are byte for byte those that the official SDK made."""
    given_, expected = case["input"], case["expected"]
    body = given_["body"].encode() if given_["body"] is not None else None
    query = [(name, value) for name, value in given_["query"]]
    signature = signing.sign(
        method=given_["method"],
        path=given_["path"],
        query=query,
        headers=_headers(given_),
        body=body,
        access_key=given_["ak"],
        secret_key=given_["sk"],
    )
    assert signature._asdict() == {name: expected[name] for name in signature._fields}
    text = signing.canonical_query(query)
    assert (f"{given_['path']}?{text}" if text else given_["path"]) == expected["uri"]


@pytest.mark.parametrize("case", VECTORS["sdk_end_to_end"], ids=lambda case: case["name"])
def test_the_sdks_own_list_request_signs_the_same(case: dict[str, Any]) -> None:
    """Signing what the SDK's ShowTtsJob really sends gives the Authorization that it sent."""
    expected = case["expected"]
    url = urlsplit(expected["url"])
    headers = {name: value for name, value in expected["headers"].items() if name != "Authorization"}
    signature = signing.sign(
        method=expected["method"],
        path=url.path,
        query=parse_qsl(url.query, keep_blank_values=True),
        headers=headers,
        body=None,
        access_key=case["input"]["ak"],
        secret_key=case["input"]["sk"],
    )
    assert signature.authorization == expected["headers"]["Authorization"]
    assert signing.canonical_query(parse_qsl(url.query)) == url.query


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HEADER_NAME = st.from_regex(r"X-[A-Za-z][A-Za-z0-9_-]{0,10}", fullmatch=True).filter(
    lambda name: name.lower() not in {"x-sdk-date", "x-sdk-content-sha256"}
)
HEADER_VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "put", "Delete"]),
    segments=st.lists(TEXT, max_size=4),
    # Names are unique: the SDK cannot sort values of two types under one name.
    query=st.lists(
        st.tuples(TEXT, TEXT | st.integers() | st.booleans()), max_size=5, unique_by=lambda p: p[0]
    ),
    headers=st.dictionaries(HEADER_NAME, HEADER_VALUE, max_size=4).filter(
        lambda headers: len({name.lower() for name in headers}) == len(headers)
    ),
    body=st.none() | st.binary(max_size=40),
)
def test_random_requests_sign_as_the_sdk_signs(
    method: str,
    segments: list[str],
    query: list[tuple[str, object]],
    headers: dict[str, str],
    body: bytes | None,
) -> None:
    """Whatever the request, our Authorization is the one that the SDK's signer computes."""
    path = "/" + "/".join(segments)
    headers = {**headers, "X-Sdk-Date": "20251119T080000Z", "Host": "api.example"}
    request = SdkRequest(
        method=method,
        schema="https",
        host="api.example",
        resource_path=path,
        query_params=list(query),
        header_params=dict(headers),
        body=body,
    )
    judged = Signer(BasicCredentials("AK", "SK")).sign(request)
    ours = signing.sign(
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        access_key="AK",
        secret_key="SK",
    )
    assert ours.authorization == judged.header_params["Authorization"]
