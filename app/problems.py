"""Every failure as `application/problem+json`, the framework's own included, in the caller's language."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.context import request_id
from app.errors import (
    BadRequest,
    BodyTooLarge,
    FieldError,
    Forbidden,
    InvalidInput,
    Language,
    MethodNotAllowed,
    NotFound,
    Problem,
    Unavailable,
    UnsupportedMediaType,
)
from app.idempotency import Replay
from app.validation_messages import message_zh

CONTENT_TYPE = "application/problem+json"
_log = structlog.get_logger("problems")
_BY_STATUS: Mapping[int, type[Problem]] = {
    400: BadRequest,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
    503: Unavailable,
}


def language_of(accept_language: str | None) -> Language:
    """zh-CN unless the client asks for English first."""
    preferred = (accept_language or "").lstrip().lower()
    return "en" if preferred.startswith("en") else "zh-CN"


def render(problem: Problem, path: str, accept_language: str | None) -> Response:
    """One problem as a response."""
    language = language_of(accept_language)
    body: dict[str, object] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title(language),
        "status": problem.status,
        "detail": problem.detail(language),
        "code": problem.code,
        "instance": path,
        "request_id": request_id.get(),
    }
    if problem.fields or problem.status == 422:
        body["errors"] = [_field(error, language) for error in problem.fields]
    body |= problem.extensions
    headers = {"Content-Language": language, "Cache-Control": "no-store"}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(orjson.dumps(body), problem.status, headers, CONTENT_TYPE)


def install(app: FastAPI) -> None:
    """Teach the application to answer with problems."""
    app.add_exception_handler(Problem, cast(Any, _on_problem))
    app.add_exception_handler(RequestValidationError, cast(Any, _on_invalid))
    app.add_exception_handler(HTTPException, cast(Any, _on_http))
    app.add_exception_handler(Replay, cast(Any, _on_replay))
    app.add_exception_handler(Exception, _on_crash)


def _render(request: Request, problem: Problem) -> Response:
    return render(problem, request.url.path, request.headers.get("accept-language"))


async def _on_problem(request: Request, problem: Problem) -> Response:
    return _render(request, problem)


async def _on_invalid(request: Request, error: RequestValidationError) -> Response:
    return _render(request, InvalidInput(fields=[_field_error(row) for row in error.errors()]))


async def _on_http(request: Request, error: HTTPException) -> Response:
    kind = _BY_STATUS.get(error.status_code, BadRequest)
    response = _render(request, kind())
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _on_replay(_: Request, replay: Replay) -> Response:
    headers = {"Idempotent-Replayed": "true"}
    return Response(replay.body, replay.status, headers, replay.content_type)


async def _on_crash(request: Request, error: Exception) -> Response:
    _log.error("unhandled_error", kind=type(error).__name__, path=request.url.path, exc_info=error)
    return _render(request, Problem())


def _field_error(row: Mapping[str, Any]) -> FieldError:
    loc: Sequence[str | int] = row["loc"]
    return FieldError(
        tuple(loc), str(row["type"]), str(row["msg"]), message_zh(row["type"], row.get("ctx", {}))
    )


def _field(error: FieldError, language: Language) -> dict[str, object]:
    message = error.message_zh if language == "zh-CN" else error.message_en
    return {"loc": list(error.loc), "code": error.code, "message": message}
