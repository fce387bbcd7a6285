"""Every failure as `application/problem+json` (RFC 9457), the framework's own included, in the caller's language."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote
from uuid import UUID

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from app import events, metrics, open311_format
from app.auth import Caller
from app.bodies import MalformedBody
from app.context import CALLER, request_id
from app.db import database
from app.errors import (
    BodyTooLarge,
    FieldError,
    Forbidden,
    InvalidInput,
    Language,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from app.idempotency import Replay
from app.models.base import JsonObject
from app.operation import Operation
from app.validation_messages import message_en, message_zh

CONTENT_TYPE = "application/problem+json"
_MOST_FIELDS = 50
_LONGEST_NAME = 100
_RETRY_AFTER_SECONDS = 10
_METHODS = ("GET", "POST", "PUT", "DELETE")
_AUDITED = (403, 409)
_log = structlog.get_logger("problems")
_BY_STATUS: Mapping[int, type[Problem]] = {
    400: MalformedBody,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
    503: Unavailable,
}


def install(app: FastAPI) -> None:
    """Teach the application to answer with problems. A crash is answered here, and told by the edge."""
    app.add_exception_handler(Problem, cast(Any, _on_problem))
    app.add_exception_handler(RequestValidationError, cast(Any, _on_invalid))
    app.add_exception_handler(HTTPException, cast(Any, _on_http))
    app.add_exception_handler(Replay, cast(Any, _on_replay))
    app.add_exception_handler(ClientDisconnect, cast(Any, _on_disconnect))
    app.add_exception_handler(Exception, _on_crash)


async def answer(request: Request, failure: Problem | Replay | ClientDisconnect) -> Response:
    """What the framework would answer, for whoever goes past it."""
    if isinstance(failure, Problem):
        return await _on_problem(request, failure)
    if isinstance(failure, Replay):
        return await _on_replay(request, failure)
    return await _on_disconnect(request, failure)


def render(problem: Problem, path: str, accept_language: str | None) -> Response:
    """One problem as a response."""
    language = language_of(accept_language or "")
    if path.startswith(open311_format.PREFIX):
        return open311_format.error(problem, path, language)
    body: dict[str, object] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title(language),
        "status": problem.status,
        "detail": problem.detail(language),
        "code": problem.code,
        "instance": quote(path, safe="/:@!$&'()*+,;=~"),
        "request_id": request_id.get(),
    }
    if problem.fields or problem.status == 422:
        body["errors"] = [_field(error, language) for error in problem.fields[:_MOST_FIELDS]]
    if problem.retry_after is not None:
        # Besides the header: many clients look at status and body only.
        body["retry_after"] = problem.retry_after
    body |= problem.extensions
    return Response(orjson.dumps(body), problem.status, _headers(problem, language), CONTENT_TYPE)


@lru_cache(maxsize=1000)
def language_of(accept_language: str) -> Language:
    """The better liked of Chinese and English; Chinese when there is nothing to choose by."""
    liking = {"zh": 0.0, "en": 0.0, "*": 0.0}
    for choice in accept_language.lower().split(","):
        tag, _, weight = choice.strip().partition(";")
        primary = tag.strip().partition("-")[0]
        if primary in liking:
            liking[primary] = max(liking[primary], _weight(weight))
    return "en" if liking["en"] > max(liking["zh"], liking["*"]) else "zh-CN"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0


def _headers(problem: Problem, language: Language) -> dict[str, str]:
    headers = {"Content-Language": language, "Cache-Control": "no-store"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 408:
        headers["Connection"] = "close"
    return headers


async def _on_problem(request: Request, problem: Problem) -> Response:
    if problem.status >= 500:
        _log.warning("unavailable", code=problem.code, exc_info=problem)
    caller: Caller | None = request.scope.get(CALLER)
    if caller is not None and problem.status in _AUDITED and request.method != "GET":
        try:
            await _audit_denial(request, caller, problem)
        except Exception as failure:
            # No audit, no answer that counts: MLPS wants refusals on record.
            _log.error("audit_failed", exc_info=failure)
            problem = Unavailable(retry_after=5)
    return _render(request, problem)


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    rows = error.errors()[:_MOST_FIELDS]
    if any(row["type"] == "json_invalid" for row in rows):
        return _render(request, MalformedBody(fields=[_field_error(row) for row in rows]))
    return _render(request, InvalidInput(fields=[_field_error(row) for row in rows]))


async def _on_http(request: Request, error: HTTPException) -> Response:
    """The framework's own errors. FastAPI wraps whatever is raised while it reads a body, ours included."""
    if isinstance(error.__cause__, Problem):
        return await _on_problem(request, error.__cause__)
    if isinstance(error.__cause__, OSError):
        # A full disk has no room for the file that a large body waits in.
        return _render(request, Unavailable(retry_after=_RETRY_AFTER_SECONDS))
    response = _render(request, _BY_STATUS.get(error.status_code, Problem)())
    if error.status_code == 405:
        is_ours = isinstance(request.scope.get("route"), Operation)
        response.headers["Allow"] = _allowed(request) if is_ours else (error.headers or {}).get("Allow", "")
    return response


async def _on_replay(_: Request, replay: Replay) -> Response:
    headers = {"Idempotent-Replayed": "true"}
    return Response(replay.body, replay.status, headers, replay.content_type)


async def _on_crash(request: Request, _: Exception) -> Response:
    return _render(request, Problem())


async def _on_disconnect(request: Request, _: ClientDisconnect) -> Response:
    """Nobody reads this answer; it ends the exchange without an error in the log."""
    return _render(request, MalformedBody())


async def _audit_denial(request: Request, caller: Caller, problem: Problem) -> None:
    route = request.scope.get("route")
    operation = route.operation_id if isinstance(route, Operation) else None
    ids: JsonObject = {name: value for name, value in request.path_params.items() if _is_id(value)}
    payload: JsonObject = {
        "operation": operation,
        "method": request.method,
        "path": getattr(route, "path_format", None),
        "ids": ids,
        "status": problem.status,
        "code": problem.code,
    }
    metrics.DENIED.labels(operation or "", problem.code).inc()
    async with database.transaction() as session:
        events.record_access(session, caller, "access.denied", payload=payload)


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _allowed(request: Request) -> str:
    """Every method that the path knows: the router itself only tells those of the first route that fits."""
    routes = request.app.routes
    known = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join([*known, "HEAD"] if "GET" in known else known)


def _render(request: Request, problem: Problem) -> Response:
    return render(problem, request.scope["path"], request.headers.get("accept-language"))


def _field_error(row: Mapping[str, Any]) -> FieldError:
    type_, ctx = str(row["type"]), row.get("ctx", {})
    loc: Sequence[str | int] = row["loc"]
    if type_ == "value_error" and loc[-1:] == ("file",):
        # FastAPI's only way to say that a part of a form came without a file name.
        type_ = "file_expected"
    return FieldError(tuple(loc), type_, message_en(type_, ctx, str(row["msg"])), message_zh(type_, ctx))


def _field(error: FieldError, language: Language) -> dict[str, object]:
    message = error.message_zh if language == "zh-CN" else error.message_en
    loc = [part[:_LONGEST_NAME] if isinstance(part, str) else part for part in error.loc]
    return {"loc": loc, "code": error.code, "message": message}
