"""The documented HTTP API: the list of TTS jobs (ShowTtsJob page), IAM, and the machine's metadata.

Translates requests to questions that the world can answer. Faults are not made here, but in ``gateway.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from . import wire
from .auth import AccessKeys, RawRequest, RequestRefusedError, iso_micro
from .control import control_routes
from .gateway import Gateway
from .job import SimulatedJob
from .query import Query, bad_parameter, parse_query
from .simulation import Options, Simulation
from .world import BUSINESS_TYPE, World

_JSON: Final = "application/json;charset=UTF-8"
_ONE_USER: Final = 0.5
"""The share of jobs that belong to any one ``X-App-UserId``."""
_METADATA_TOKEN: Final = "simulated-metadata-token"  # noqa: S105  made up, opens nothing


def build_app(simulation: Simulation) -> Starlette:
    """The API, and the control paths, behind the gateway."""
    api = Api(simulation)
    app = Starlette(
        routes=[
            Route("/v1/{project_id}/ttsc/tts-jobs", api.list_jobs, methods=["GET"]),
            Route("/v1/{project_id}/tenants/service-configs", api.service_configs, methods=["GET"]),
            Route("/v3/auth/tokens", api.create_token, methods=["POST"]),
            Route("/v3/projects", api.list_projects, methods=["GET"]),
            Route("/meta-data/latest/api/token", api.metadata_token, methods=["PUT"]),
            Route("/openstack/latest/securitykey", api.security_key, methods=["GET"]),
            Route("/pod-identity/credentials", api.pod_credentials, methods=["POST"]),
            *control_routes(simulation),
        ],
        middleware=[Middleware(Gateway, simulation=simulation)],
        exception_handlers={RequestRefusedError: _refuse, HTTPException: _no_such_api},
    )
    app.state.simulation = simulation
    return app


class Api:
    """The endpoints of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    # -- MetaStudio --------------------------------------------------------------------------------

    async def list_jobs(self, request: Request) -> Response:
        """``GET /v1/{project_id}/ttsc/tts-jobs``"""
        now: float = request.scope["now"]
        world = await self._world(request)
        user = request.headers.get("x-app-userid", "")
        if not user.isascii():
            raise bad_parameter("X-App-UserId", "Chinese characters are not allowed")
        options = self._simulation.options
        query = parse_query(request.query_params, options)._replace(owners=_owners(user, options))
        jobs, total = self._answer(world, query, options)
        count = {"records": total, "page": len(jobs), "none": None, "zero": 0}[options.count]
        return Response(wire.page(jobs, count, now, options.style), headers={"content-type": _JSON})

    async def service_configs(self, request: Request) -> Response:
        """``GET /v1/{project_id}/tenants/service-configs``"""
        await self._world(request)
        options = self._simulation.options
        if options.service_configs == "missing":
            raise HTTPException(404)
        if options.service_configs == "denied":
            raise RequestRefusedError(403, "MSS.000000004", "You have no permission to perform this action")
        control = {"separately_controlled": options.isolated, "sub_account_type": "IAM_USER"}
        return _json(200, {"sub_account_control_config": control, "is_ai_mark_on": False})

    async def _world(self, request: Request) -> World:
        """The jobs of the project asked for. Raises RequestRefusedError."""
        project_id: str = request.path_params["project_id"]
        self._simulation.auth.check(await _as_received(request), request.scope["now"], project_id)
        world = self._simulation.worlds.get(project_id)
        if world is None:
            raise RequestRefusedError(403, "APIG.0310", "The project is unavailable")
        return world

    def _answer(self, world: World, query: Query, options: Options) -> tuple[Sequence[SimulatedJob], int]:
        jobs, low, high = _matching(world, query, options)
        count = high - low if options.count_respects_filters else _number_listed(world, query.owners)
        limit = query.limit if options.limit_clip is None else min(query.limit, options.limit_clip)
        offset = {"records": query.offset, "pages": query.offset * limit, "nothing": 0}[options.offset_counts]
        end = offset + limit
        if options.max_offset is not None:
            if offset >= options.max_offset and options.deep_offsets == "refused":
                raise bad_parameter("offset", f"must be below {options.max_offset}")
            end = min(end, options.max_offset)
            if options.count_stops_at_max_offset:
                count = min(count, options.max_offset)
        start, end = min(offset, high - low), min(end, high - low)
        if end <= start:
            return (), count
        if options.order == "random":
            picked = self._simulation.rng.sample(range(low, high), end - start)
            return [jobs[index] for index in picked], count
        if options.order == "oldest":
            return jobs[low + start : low + end], count
        return jobs[high - end : high - start][::-1], count

    # -- IAM -----------------------------------------------------------------------------------------

    async def create_token(self, request: Request) -> Response:
        """``POST /v3/auth/tokens``: the token is in a header of the answer."""
        now: float = request.scope["now"]
        try:
            asked = msgspec.json.decode(await request.body(), type=_TokenRequest)
        except msgspec.DecodeError:
            return _keystone(400, "Bad Request", "Request body is invalid")
        accounts = self._simulation.auth.accounts
        user = asked.auth.identity.password.user
        if (user.domain.name, user.name, user.password) != (
            accounts.domain,
            accounts.username,
            accounts.password,
        ):
            return _keystone(401, "Unauthorized", "The username or password is wrong.")
        wanted = asked.auth.scope.project
        project_id = next(
            (pid for pid, name in accounts.projects.items() if wanted.id == pid or wanted.name == name), None
        )
        if project_id is None:
            return _keystone(401, "Unauthorized", "The project does not exist or is not yours.")
        token, expires = self._simulation.auth.issue_token(project_id, now)
        name = accounts.projects[project_id]
        body = {
            "token": {
                "expires_at": iso_micro(expires),
                "issued_at": iso_micro(now),
                "methods": ["password"],
                "project": {"id": project_id, "name": name, "domain": {"name": accounts.domain}},
                "user": {"name": accounts.username, "domain": {"name": accounts.domain}},
                "roles": [],
            }
        }
        return _json(201, body, {"x-subject-token": token})

    async def list_projects(self, request: Request) -> Response:
        """``GET /v3/projects?name=``"""
        self._simulation.auth.check(await _as_received(request), request.scope["now"])
        name = request.query_params.get("name")
        projects = [
            {"id": project_id, "name": known, "enabled": True, "is_domain": False}
            for project_id, known in self._simulation.auth.accounts.projects.items()
            if name in (None, known)
        ]
        return _json(200, {"projects": projects, "links": {"next": None, "previous": None}})

    # -- metadata of the machine
    # -----------------------------------------------------------------------------------

    async def metadata_token(self, request: Request) -> Response:
        """``PUT /meta-data/latest/api/token``"""
        if self._simulation.options.metadata_tokens == "unsupported":
            return PlainTextResponse("Not Found", 404)
        if not request.headers.get("x-metadata-token-ttl-seconds", "").isdigit():
            return PlainTextResponse("X-Metadata-Token-Ttl-Seconds is missing", 400)
        return PlainTextResponse(_METADATA_TOKEN)

    async def security_key(self, request: Request) -> Response:
        """``GET /openstack/latest/securitykey``"""
        options = self._simulation.options
        token = request.headers.get("x-metadata-token")
        if (options.metadata_tokens == "required" or token is not None) and token != _METADATA_TOKEN:
            return PlainTextResponse("Unauthorized", 401)
        if not options.agency:
            return PlainTextResponse("Please configure Cloud Service Agency first", 401)
        keys = self._simulation.auth.temporary_keys(request.scope["now"])
        return _json(200, {"credential": _spelled(keys, ("access", "secret", "securitytoken", "expires_at"))})

    async def pod_credentials(self, request: Request) -> Response:
        """The pod identity endpoint of CCE: the same keys under other names."""
        if request.headers.get("authorization") != self._simulation.auth.accounts.pod_token:
            return PlainTextResponse("Unauthorized", 401)
        keys = self._simulation.auth.temporary_keys(request.scope["now"])
        names = ("access_key_id", "secret_access_key", "security_token", "expiration")
        return _json(200, {"credentials": _spelled(keys, names)})


def _matching(world: World, query: Query, options: Options) -> tuple[Sequence[SimulatedJob], int, int]:
    """The matching jobs: a sequence, oldest first, and the begin and end of the matching part of it."""
    if query.job_id is not None:
        job = world.find(query.job_id)
        found = [job] if job is not None and _in_time(job, query) and _fits(job, query, world.now) else []
        found = [job for job in found if not job.lacks("job_id")]
        return found, 0, len(found)
    jobs, low, high = world.between(query.since_ms, query.until_ms)
    if (query.job_type, query.service, query.business_type, query.owners) == (None, None, None, 1.0):
        return jobs, low, high
    fitting = [job for job in jobs[low:high] if _fits(job, query, world.now)]
    return fitting, 0, len(fitting)


def _in_time(job: SimulatedJob, query: Query) -> bool:
    return (query.since_ms is None or job.created_ms >= query.since_ms) and (
        query.until_ms is None or job.created_ms <= query.until_ms
    )


def _fits(job: SimulatedJob, query: Query, now: float) -> bool:
    return (
        query.job_type in (None, job.job_type)
        and query.service in (None, job.shown_service_at(now))
        and query.business_type in (None, BUSINESS_TYPE)
        and (query.owners == 1.0 or _owner(job) < query.owners)
    )


def _owners(user: str, options: Options) -> float:
    """The share of users whose jobs a request lists."""
    if options.isolated:
        return options.own_share  # an X-App-UserId sent along is replaced
    return _ONE_USER if user and options.app_user_id_filters else 1.0


def _owner(job: SimulatedJob) -> float:
    """Of whom a job is: a number from 0 to 1, evenly spread."""
    return (job.number * 0x9E3779B1 >> 7 & 0xFFFF) / 0x10000


def _number_listed(world: World, owners: float) -> int:
    return len(world.listing) if owners == 1.0 else sum(_owner(job) < owners for job in world.listing)


def _spelled(keys: AccessKeys, names: tuple[str, str, str, str]) -> dict[str, str | None]:
    values = (keys.ak, keys.sk, keys.security_token, iso_micro(keys.expires_at))
    return dict(zip(names, values, strict=True))


async def _as_received(request: Request) -> RawRequest:
    scope = request.scope
    return RawRequest(
        method=request.method,
        path=scope["raw_path"].decode("ascii", "replace"),
        query=scope["query_string"].decode("ascii", "replace"),
        headers={name.decode("ascii").lower(): _text(value) for name, value in scope["headers"]},
        body=await request.body(),
    )


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status, {"content-type": _JSON, **(headers or {})})


def _keystone(status: int, title: str, message: str) -> Response:
    return _json(status, {"error": {"message": message, "code": status, "title": title}})


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefusedError)  # noqa: S101  registered for nothing else
    body = wire.error_body(error.code, error.message, request.scope["request_id"])
    return Response(body, error.status, {"content-type": _JSON})


async def _no_such_api(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    text = "The API does not exist or has not been published in the environment"
    body = wire.error_body("APIG.0101", text, request.scope.get("request_id", ""))
    return Response(body, status, {"content-type": _JSON})


class _Named(msgspec.Struct):
    name: str


class _User(msgspec.Struct):
    name: str
    password: str
    domain: _Named


class _Password(msgspec.Struct):
    user: _User


class _Identity(msgspec.Struct):
    password: _Password
    methods: tuple[str, ...] = ()


class _ProjectScope(msgspec.Struct):
    name: str | None = None
    id: str | None = None


class _Scope(msgspec.Struct):
    project: _ProjectScope


class _Auth(msgspec.Struct):
    identity: _Identity
    scope: _Scope


class _TokenRequest(msgspec.Struct):
    auth: _Auth
