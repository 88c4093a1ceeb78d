"""An API that repeats the secrets of its client wherever an answer has room for text.

One HTTP server on loopback; each target is told apart by its project id and gets one bad answer after the
other, then good ones. Passwords are passed on to the simulator's IAM, whose tokens it keeps.
"""

from __future__ import annotations

import html
import json
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from exporter.simulator.simulation import PROJECT_ID

MARK = "REPEATED-BY-ECHO-SERVER"
"""Stands beside every repeated secret: where it is seen, the secret could have been, too."""


class EchoServer:
    """The secrets received so far, and the answers that repeat them."""

    def __init__(self, iam: str, secrets: dict[str, list[str]]) -> None:
        """``secrets`` by project id, also those that are never sent."""
        self.iam = iam
        self.secrets = secrets
        self.served: Counter[str] = Counter()
        self.refusing = False
        """Answer 401 to every request."""
        self.tokens: list[str] = []
        self.pod_keys: dict[str, str] = {}
        self.url = ""

    def echo(self, request: BaseHTTPRequestHandler, body: str = "") -> str:
        """All secrets that this client has sent or received, in every spelling that servers use."""
        words = [*self.of(request), *request.headers.values(), body]
        text = " ".join(words)
        return " ".join((MARK, text, quote(text, safe=""), json.dumps(text), html.escape(text), MARK))

    def of(self, request: BaseHTTPRequestHandler) -> list[str]:
        """The secrets of the project in the path; for IAM those of the password's target."""
        project = project_of(request)
        return [*self.secrets.get(project, []), *(self.tokens if project == "password-project" else [])]

    def answer(self, request: Handler) -> None:
        project = project_of(request)
        number = self.served[project]
        self.served[project] += 1
        if self.refusing:
            said = {"error_code": "APIG.0301", "error_msg": self.echo(request)}
            request.say(401, json.dumps(said))
        else:
            BEHAVIOURS[min(number, len(BEHAVIOURS) - 1)](self, request)


def project_of(request: BaseHTTPRequestHandler) -> str:
    return request.path.split("/")[2] if request.path.startswith("/v1/") else request.path


class Handler(BaseHTTPRequestHandler):
    echo_server: EchoServer
    protocol_version = "HTTP/1.1"

    def say(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.echo_server.answer(self)

    def do_PUT(self) -> None:
        self.say(404, self.echo_server.echo(self))

    def do_POST(self) -> None:
        echo_server = self.echo_server
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        echo_server.served[self.path] += 1
        if echo_server.refusing or echo_server.served[self.path] < 3:
            said = echo_server.echo(self, body)
            self.say(
                500 if echo_server.served[self.path] == 1 else 400, json.dumps({"error": {"message": said}})
            )
        elif self.path.startswith("/v3/auth/tokens"):
            self.forward(body)
        else:
            self.say(200, json.dumps({"credential": echo_server.pod_keys, "note": echo_server.echo(self)}))

    def forward(self, body: str) -> None:
        body = body.replace("password-project", PROJECT_ID)
        request = urllib.request.Request(  # noqa: S310  # loopback only
            self.echo_server.iam + self.path, body.encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  # loopback only
            token = answer.headers["X-Subject-Token"]
            self.echo_server.tokens.append(token)
            self.say(201, answer.read().decode(), x_subject_token=token)

    def log_message(self, format: str, *args: object) -> None:
        """Its own log is nobody's business."""


def _error(echo_server: EchoServer, request: Handler) -> None:
    said = echo_server.echo(request)
    request.say(400, json.dumps({"error_code": f"MSS.{said}", "error_msg": said}), x_request_id=said[:2000])


def _page(echo_server: EchoServer, request: Handler) -> None:
    request.say(502, f"<html>{echo_server.echo(request)}</html>", content_type="text/html")


def _redirect(echo_server: EchoServer, request: Handler) -> None:
    request.say(
        302,
        echo_server.echo(request),
        location="https://elsewhere.invalid/?" + echo_server.echo(request),
    )


def _no_json(echo_server: EchoServer, request: Handler) -> None:
    request.say(200, echo_server.echo(request))


def _wrong_json(echo_server: EchoServer, request: Handler) -> None:
    request.say(200, json.dumps({"count": echo_server.echo(request), "data": echo_server.echo(request)}))


def _error_200(echo_server: EchoServer, request: Handler) -> None:
    request.say(200, json.dumps({"error_code": "MSS.1", "error_msg": echo_server.echo(request)}))


def _encoding(echo_server: EchoServer, request: Handler) -> None:
    request.say(
        200,
        "{}",
        content_encoding=echo_server.echo(request)[:4000],
        date=echo_server.echo(request)[:4000],
    )


def _throttle(echo_server: EchoServer, request: Handler) -> None:
    said = echo_server.echo(request)
    request.say(429, json.dumps({"error_code": "APIG.0308", "error_msg": said}), retry_after=said[:4000])


def _jobs(echo_server: EchoServer, request: Handler) -> None:
    """Jobs that failed with a message of secrets; one of them is malformed."""
    now = time.time()
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 1))
    jobs = [
        {
            "job_id": f"job-{int(now)}-{number}",
            "job_type": "TTS",
            "job_state": "FAILED",
            "text_length": 3,
            "create_time": created,
            "fail_msg": f"the server received {secret} {MARK}",
        }
        for number, secret in enumerate((*echo_server.of(request), echo_server.echo(request)))
    ]
    odd = {
        "job_id": "odd",
        "job_state": echo_server.echo(request),
        "create_time": echo_server.echo(request),
    }
    request.say(200, json.dumps({"count": len(jobs) + 1, "data": [*jobs, odd]}))


BEHAVIOURS: list[Callable[[EchoServer, Handler], None]] = [
    *(_page, _redirect, _no_json, _wrong_json, _encoding, _throttle, *[_jobs] * 6, _error_200, _error)
]

BAD_ANSWERS = BEHAVIOURS.index(_error_200)
"""What every client gets to see; those after may look like refused credentials to it."""


@contextmanager
def echo_server(iam: str, secrets: dict[str, list[str]]) -> Iterator[EchoServer]:
    """A running server, stopped at the end of the block."""
    echo = EchoServer(iam, secrets)
    handler = type("EchoHandler", (Handler,), {"echo_server": echo})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    echo.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield echo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
