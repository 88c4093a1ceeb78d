"""The gateway in front of the simulated API, as ASGI middleware; here faults happen.

Knows HTTP bytes and ``faults.py``; must not know what the API means.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import Final
from urllib.parse import parse_qs

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import wire
from .drift import LIST_FAULTS, change_list
from .faults import Fault
from .simulation import Simulation

TRANSPORT: Final = "simulator.transport"
"""Key in the ASGI scope's ``state`` under which ``server.py`` leaves the connection."""
_JSON: Final = "application/json;charset=UTF-8"
_PAGE: Final = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"


class BufferedResponse(msgspec.Struct):
    """An answer that has not been sent yet."""

    status: int
    headers: dict[str, str]
    body: bytes


class _Counted(msgspec.Struct):
    count: int = 0


def operation_of(method: str, path: str, query: bytes) -> str:
    """The name under which a request is counted and can be made to fail."""
    if path.endswith("/tts-jobs"):
        return (
            "get_job"
            if b"job_id" in query and parse_qs(query.decode("latin-1")).get("job_id")
            else "list_jobs"
        )
    if path.endswith("/service-configs"):
        return "get_service_configs"
    if path == "/v3/auth/tokens":
        return "create_token"
    if path == "/v3/projects":
        return "get_project"
    return "get_credentials"


class Gateway:
    """ASGI middleware around the API. The control paths under ``/simulator`` pass untouched."""

    def __init__(self, app: ASGIApp, simulation: Simulation) -> None:
        self._app = app
        self._simulation = simulation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/simulator"):
            await self._app(scope, receive, send)
            return
        now = self._simulation.now()
        operation = operation_of(scope["method"], scope["path"], scope["query_string"])
        fired = self._simulation.faults.firing(operation, now)
        scope["now"] = now
        scope["request_id"] = self._simulation.next_request_id()
        if not fired:
            await self._pass(scope, receive, send, operation)
            return
        exchange = _FaultyExchange(self._app, self._simulation, scope, receive, send)
        status = await exchange.run(fired, now)
        self._simulation.requests[operation, status] += 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send, operation: str) -> None:
        extra = {"x-request-id": scope["request_id"], **_date_headers((), scope["now"])}

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._simulation.requests[operation, str(message["status"])] += 1
                message["headers"] = [*message["headers"], *_raw(extra)]
            await send(message)

        await self._app(scope, receive, with_headers)


class _FaultyExchange:
    """One request with which something goes wrong."""

    def __init__(
        self, app: ASGIApp, simulation: Simulation, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._app = app
        self._simulation = simulation
        self._scope = scope
        self._receive = receive
        self._send = send

    async def run(self, fired: list[Fault], now: float) -> str:
        """Answer, or not. Returns the status to count, ``none`` when no whole answer was sent."""
        kinds: dict[str, Fault] = {fault.kind: fault for fault in fired}
        if "slow" in kinds:
            await self._simulation.sleep(kinds["slow"].delay)
            now = self._scope["now"] = self._simulation.now()
        if "hang" in kinds:
            await self._until_gone()
            return "none"
        if "reset" in kinds:
            await self._reset()
            return "none"
        instead = next((fault for fault in fired if fault.kind in _INSTEAD), None)
        if instead is not None:
            answer = _INSTEAD[instead.kind](instead, now, self._scope["request_id"])
            if answer.status == 200 and (genuine := await self._genuine()).status in (401, 403):
                answer = genuine  # it checks credentials before anything behind it answers
        else:
            answer = await self._genuine()
            if answer.status == 200:
                for fault in fired:
                    answer = self._change(answer, fault, now)
        answer.headers |= {"x-request-id": self._scope["request_id"], **_date_headers(fired, now)}
        return await self._deliver(answer, kinds)

    async def _genuine(self) -> BufferedResponse:
        answer = BufferedResponse(500, {}, b"")

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in message["headers"]}
            else:
                answer.body += message.get("body", b"")

        await self._app(self._scope, self._receive, collect)
        return answer

    def _change(self, answer: BufferedResponse, fault: Fault, now: float) -> BufferedResponse:
        if fault.kind in LIST_FAULTS:
            project_id = self._scope.get("path_params", {}).get("project_id", "")
            world = self._simulation.worlds.get(project_id)
            if world is not None:
                change_list(world, fault, answer.body, now, self._simulation.rng)
        change = _CHANGES.get(fault.kind)
        return answer if change is None else change(answer, fault)

    async def _deliver(self, answer: BufferedResponse, kinds: Mapping[str, Fault]) -> str:
        answer.headers["content-length"] = str(len(answer.body))
        cut = kinds.get("cut") or kinds.get("cut_chunked")
        if "cut_chunked" in kinds:
            del answer.headers["content-length"]  # the server then sends chunks
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": _raw(answer.headers)}
        )
        if cut is not None:
            part = answer.body[: int(len(answer.body) * cut.at)]
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            await self._close()
            return "none"
        pieces = 10 if "drip" in kinds else 1
        step = len(answer.body) // pieces + 1
        for number in range(pieces):
            piece = answer.body[number * step : (number + 1) * step]
            if "drip" in kinds:
                await self._simulation.sleep(kinds["drip"].delay / pieces)
            await self._send({"type": "http.response.body", "body": piece, "more_body": number < pieces - 1})
        return str(answer.status)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _close(self) -> None:
        """End the connection after what was sent. Without a connection (in-process) that is an error."""
        transport = self._transport()
        transport.close()
        await self._until_gone()

    async def _reset(self) -> None:
        transport = self._transport()
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:  # closing without lingering sends RST instead of FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await self._until_gone()

    def _transport(self) -> asyncio.Transport:
        transport: asyncio.Transport | None = self._scope.get("state", {}).get(TRANSPORT)
        if transport is None:
            raise ConnectionResetError("the simulated server closed the connection")
        return transport


def _date_headers(fired: Iterable[Fault], now: float) -> dict[str, str]:
    headers = {"date": formatdate(int(now), usegmt=True)}
    for fault in fired:
        if fault.kind == "date_missing":
            headers.pop("date", None)
        elif fault.kind == "date_text":
            headers["date"] = fault.message
        elif fault.kind == "date_skew":
            headers["date"] = formatdate(int(now + fault.seconds), usegmt=True)
        elif fault.kind == "date_frozen":
            since = fault.start or now
            headers["date"] = formatdate(int(since), usegmt=True)
            if fault.age:
                headers["age"] = str(int(now - since))
    return headers


def _throttle(fault: Fault, now: float, request_id: str) -> BufferedResponse:
    unit = "minute" if fault.window >= 60.0 else "second"
    message = f"policy user over ratelimit,limit:{fault.limit},time:1 {unit}"
    text = f"The throttling threshold has been reached: {message}"
    headers = {"content-type": _JSON}
    if fault.retry_after is not None:
        date = formatdate(int(now + fault.retry_after), usegmt=True)
        headers["retry-after"] = date if fault.retry_after_date else f"{fault.retry_after:g}"
    return BufferedResponse(429, headers, wire.error_body("APIG.0308", text, request_id))


def _error(fault: Fault, _now: float, request_id: str) -> BufferedResponse:
    status = 200 if fault.kind == "error_200" else fault.status
    return BufferedResponse(
        status, {"content-type": _JSON}, wire.error_body(fault.code, fault.message, request_id)
    )


def _html(fault: Fault, _now: float, _request_id: str) -> BufferedResponse:
    return BufferedResponse(fault.status, {"content-type": "text/html"}, _PAGE.format(fault.message).encode())


def _empty(fault: Fault, _now: float, _request_id: str) -> BufferedResponse:
    return BufferedResponse(
        200, {"content-type": _JSON}, b'{"count":0,"data":[]}' if fault.kind == "empty" else b""
    )


def _redirect(fault: Fault, _now: float, _request_id: str) -> BufferedResponse:
    return BufferedResponse(302, {"location": fault.location}, b"")


def _invalid(answer: BufferedResponse, fault: Fault) -> BufferedResponse:
    return BufferedResponse(200, answer.headers, answer.body[: int(len(answer.body) * fault.at)])


def _null_data(answer: BufferedResponse, _fault: Fault) -> BufferedResponse:
    count = msgspec.json.decode(answer.body, type=_Counted).count
    return BufferedResponse(200, answer.headers, b'{"count":%d,"data":null}' % count)


def _gzip(answer: BufferedResponse, _fault: Fault) -> BufferedResponse:
    headers = {**answer.headers, "content-encoding": "gzip"}
    return BufferedResponse(200, headers, gzip.compress(answer.body, compresslevel=1))


def _huge(answer: BufferedResponse, fault: Fault) -> BufferedResponse:
    return BufferedResponse(
        200, answer.headers, b'{"padding":"' + b"x" * fault.size + b'",' + answer.body[1:]
    )


_INSTEAD: Final[dict[str, Callable[[Fault, float, str], BufferedResponse]]] = {
    "throttle": _throttle,
    "rate_limit": _throttle,
    "error": _error,
    "error_200": _error,
    "html": _html,
    "empty": _empty,
    "empty_body": _empty,
    "redirect": _redirect,
}
_CHANGES: Final[dict[str, Callable[[BufferedResponse, Fault], BufferedResponse]]] = {
    "invalid_json": _invalid,
    "null_data": _null_data,
    "huge": _huge,
    "gzip": _gzip,
}


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
