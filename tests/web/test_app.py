"""Paths, methods, codes and headers, through the ASGI application itself."""

from __future__ import annotations

import asyncio
import gzip
import html
import re
from urllib.parse import urljoin

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_prometheus

from exporter.errors import ExporterError
from exporter.exposition.render import Exposition
from exporter.web.app import create_app
from tests.exposition.views import PROCESS, full_api, full_status, full_view

OPENMETRICS = {"accept": "application/openmetrics-text"}


def exposition() -> Exposition:
    made = Exposition(full_api("production"), PROCESS, created_timestamps=False)
    made.publish((full_view(),))
    return made


def ask(
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    ready: bool = True,
    telemetry_path: str = "/metrics",
) -> httpx.Response:
    app = create_app(
        exposition=exposition(), status=full_status, ready=lambda: ready, telemetry_path=telemetry_path
    )

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://exporter") as client:
            request = client.build_request(
                method, path, headers={"accept-encoding": "identity", **(headers or {})}
            )
            return await client.send(request)

    return asyncio.run(send())


def test_metrics_in_the_plain_format() -> None:
    """By default, with the type that says so, and readable."""
    answer = ask("GET", "/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert "metastudio_up" in {family.name for family in parse_prometheus(answer.text)}


def test_metrics_in_openmetrics() -> None:
    """When asked for."""
    answer = ask("GET", "/metrics", headers=OPENMETRICS)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert "metastudio_up" in {family.name for family in parse_openmetrics(answer.text)}


@pytest.mark.parametrize("headers", [{}, OPENMETRICS], ids=["prometheus", "openmetrics"])
def test_gzip_is_one_member_that_every_client_reads(headers: dict[str, str]) -> None:
    """A client such as httpx drops a second member silently: what it reads must be all there is."""
    query = "/metrics?name[]=metastudio_tts_jobs"
    plain = ask("GET", query, headers=headers)
    compressed = ask("GET", query, headers={**headers, "accept-encoding": "gzip"})
    assert compressed.headers["content-encoding"] == "gzip"
    assert int(compressed.headers["content-length"]) < len(plain.content)
    assert compressed.content == plain.content


def test_gzip_only_when_accepted() -> None:
    """A client that says nothing gets text."""
    answer = ask("GET", "/metrics")
    assert "content-encoding" not in answer.headers
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(answer.content)


def test_name_filter() -> None:
    """Repeated, exact, and across all sources of metrics."""
    answer = ask("GET", "/metrics?name[]=metastudio_up&name[]=python_info&name[]=nothing")
    assert {family.name for family in parse_prometheus(answer.text)} == {"metastudio_up", "python_info"}
    assert ask("GET", "/metrics?name[]=nothing").text == ""
    assert ask("GET", "/metrics?name[]=nothing", headers=OPENMETRICS).text == "# EOF\n"


@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/status", "/-/healthy", "/-/ready"])
def test_head_is_get_without_its_body(path: str) -> None:
    """Same status and type. (That no body is sent is the server's part, and tested there.)"""
    head, get = ask("HEAD", path), ask("GET", path)
    assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])


def test_health_does_not_depend_on_readiness() -> None:
    """The process serves even while it has nothing to show."""
    assert ask("GET", "/-/healthy", ready=False).text == "healthy\n"
    assert ask("GET", "/-/healthy", ready=False).status_code == 200


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)], ids=["ready", "not-ready"])
def test_readiness_is_what_the_program_says(ready: bool, status: int) -> None:
    """One line, whichever it is."""
    answer = ask("GET", "/-/ready", ready=ready)
    assert answer.status_code == status
    assert answer.text.count("\n") == 1


def test_status_page_links_and_escapes() -> None:
    """Nothing that is configured can become markup."""
    page = ask("GET", "/", telemetry_path='/a"><script>').text
    assert 'href="./a&#34;&gt;&lt;script&gt;"' in page
    assert "<script" not in page


@pytest.mark.parametrize("telemetry", ["/metrics", "/deep/er/metrics", "/a:b"])
@pytest.mark.parametrize("prefix", ["", "/tts", "/a/b/c"])
def test_links_stay_under_the_prefix_of_a_proxy(prefix: str, telemetry: str) -> None:
    """A proxy that serves us as /tts/ takes that away: no link may begin at its root."""
    page = ask("GET", "/", telemetry_path=telemetry).text
    found = [html.unescape(link) for link in re.findall(r'(?:href|src|action)="([^"]*)"', page)]
    links = {urljoin(f"https://proxy.test{prefix}/", link) for link in found if not link.startswith("data:")}
    pages = {link for link in links if "#" not in link}
    paths = (telemetry, "/api/v1/status", "/-/healthy", "/-/ready")
    assert {f"https://proxy.test{prefix}{path}" for path in paths} < pages
    assert all(link.startswith(f"https://proxy.test{prefix}/") for link in links)


def test_telemetry_path_is_configurable() -> None:
    """Also to ``/``, which then has no status page; the JSON stays."""
    assert "metastudio_up" in ask("GET", "/here", telemetry_path="/here").text
    assert ask("GET", "/metrics", telemetry_path="/here").status_code == 404
    assert "metastudio_up" in ask("GET", "/", telemetry_path="/").text
    assert ask("GET", "/api/v1/status", telemetry_path="/").json()["targets"][0]["name"] == "production"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "metrics",
        "/{x}",
        "/a b",
        "/-/ready",
        "/-/healthy",
        "/-/reload",
        "/api/v1/status",
        "/a?b",
        "/a\n",
        "/%41",
    ],
)
def test_a_telemetry_path_that_cannot_work_is_refused(path: str) -> None:
    """One line that names the flag."""
    with pytest.raises(ExporterError) as refused:
        ask("GET", "/", telemetry_path=path)
    assert str(refused.value) == (
        f"--web.telemetry-path {path!r}: must be a plain path such as /metrics, "
        "and not one of /-/healthy, /-/ready, /-/reload, /api/v1/status"
    )


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/-/", "/-/quit", "/favicon.ico"])
def test_unknown_paths_are_404_in_one_plain_line(path: str) -> None:
    """No redirect either: a nearly right path is wrong."""
    answer = ask("GET", path)
    assert (answer.status_code, answer.text) == (404, "not found\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/metrics", "/", "/api/v1/status", "/-/healthy", "/-/ready"])
def test_other_methods_are_405_and_say_what_is_allowed(method: str, path: str) -> None:
    """As RFC 9110 wants it."""
    answer = ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert answer.text == "method not allowed: use GET or HEAD\n"


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/ready", "/nothing"])
def test_strict_headers_everywhere(path: str) -> None:
    """No scripts, no frames, no guessing of types."""
    headers = ask("GET", path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
