"""The OpenAPI document: what FastAPI knows of the endpoints, and what is true of all of them."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app import __version__, open311_format
from app.bodies import BodyTimeout, MalformedBody
from app.errors import (
    BodyTooLarge,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Problem,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    VersionConflict,
)
from app.idempotency import BadIdempotencyKey
from app.models.base import JsonObject, JsonValue
from app.schemas.case_examples import CASE_EXAMPLE

_DESCRIPTION = """\
Backend of the community mini-program. 社区小程序后端接口。

- Send `Authorization: Bearer <access_token>`; sign in at `POST /v1/sessions/wechat` or `/v1/sessions/staff`.
- Every failure is `application/problem+json` (RFC 9457) with a stable `code`; `title`, `detail` and the messages in
  `errors` follow `Accept-Language` (`zh-CN` unless `en` is preferred).
- Every answer carries `X-Request-Id`, `RateLimit` and `RateLimit-Policy`.
- A POST with an `Idempotency-Key` may be repeated for 7 days and is done once; the repeat is answered as before, with
  `Idempotent-Replayed: true`.
- Times are RFC 3339 in UTC; coordinates are GCJ-02 unless `datum` says `wgs84`; lists are paged by `cursor`.
"""
_TAGS = {
    "sessions": "Signing in and out 登录与退出",
    "me": "One's own account and data 我的账号与个人信息",
    "regions": "Places and organisations 区域与单位",
    "media": "Pictures 图片",
    "hazards": "Reports of dangers and their way to closure 隐患随手拍",
    "residents": "Residents and households 居民与住户",
    "staff": "Staff and their grants 工作人员与授权",
    "api keys": "Keys of other systems 接口密钥",
    "webhooks": "Webhooks that we send 事件推送",
    "district": "The district platform 区平台对接",
    "open311": "The open reporting standard 开放上报标准",
    "live": "Live updates 实时动态",
    "wechat": "Called by WeChat 微信回调",
    "notifications": "Messages to the caller 消息通知",
    "operations": "Health and metrics 运行状态",
}
_PROBLEMS: dict[str, type[Problem]] = {
    "BadRequest": BadIdempotencyKey,
    "Unauthenticated": Unauthenticated,
    "Forbidden": Forbidden,
    "NotFound": NotFound,
    "BodyTimeout": BodyTimeout,
    "Conflict": Conflict,
    "VersionConflict": VersionConflict,
    "BodyTooLarge": BodyTooLarge,
    "UnsupportedMediaType": UnsupportedMediaType,
    "InvalidInput": InvalidInput,
    "TooManyRequests": TooManyRequests,
    "Unavailable": Unavailable,
}
_MEANINGS = {
    "BadRequest": "The `Idempotency-Key` is not usable",
    "Unauthenticated": "No token, or one that is wrong, expired or revoked",
    "Forbidden": "The caller may not do this",
    "NotFound": "Not there, or not for the caller to see",
    "BodyTimeout": "The body came too slowly",
    "Conflict": "The state of the resource does not allow this now",
    "VersionConflict": "`If-Match` is stale",
    "BodyTooLarge": "The body is too large",
    "UnsupportedMediaType": "The content type is not the one of this operation",
    "InvalidInput": "Malformed or invalid input; `errors` says which field",
    "TooManyRequests": "A quota is used up; wait for `Retry-After` seconds",
    "Unavailable": "Something behind the service does not answer; nothing was changed",
}
_IDEMPOTENCY_KEY: JsonObject = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A name for this request, so that repeating it does nothing twice. 幂等键",
    "schema": {
        "type": "string",
        "pattern": "^[!-~]{1,255}$",
        "examples": ["0193a5c2-7d1e-7c3a-9a52-6f0d2b8e4c11"],
    },
}
_IF_MATCH: JsonObject = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "The `version` that you read; when it is stale the answer is 412. 版本号",
    "schema": {"type": "string", "pattern": '^"[0-9]{1,12}"$', "examples": ['"3"']},
}
_ACCEPT_LANGUAGE: JsonObject = {
    "name": "Accept-Language",
    "in": "header",
    "required": False,
    "description": "`zh-CN` (default) or `en`. 语言",
    "schema": {"type": "string", "examples": ["zh-CN"]},
}
_PROBLEM_SCHEMA: JsonObject = {
    "type": "object",
    "description": "RFC 9457 problem details. 错误说明",
    "required": ["type", "title", "status", "detail", "code", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$", "description": "Stable; decide by this."},
        "instance": {"type": "string", "format": "uri-reference"},
        "request_id": {"type": ["string", "null"]},
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/FieldProblem"}},
        "retry_after": {"type": "integer", "description": "Seconds to wait, as in the header `Retry-After`."},
    },
}
_FIELD_SCHEMA: JsonObject = {
    "type": "object",
    "description": "What is wrong with one field. 字段错误",
    "required": ["loc", "code", "message"],
    "properties": {
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "code": {"type": "string"},
        "message": {"type": "string"},
    },
}


_OPEN311_REFUSAL: JsonObject = {
    "description": "Refused; `errors` say why. 400 for bad input, 403 for a missing or wrong key. 上报接口错误",
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/Open311Errors"},
            "example": [{"code": "bad_report", "description": "未提供 service_code"}],
        },
        "text/xml": {"schema": {"type": "string"}},
    },
}


def document(app: FastAPI) -> JsonObject:
    """The whole document. Every operation lists the problems that its shape and its policy row allow."""
    described: JsonObject = get_openapi(
        title="Jincai Life 锦彩生活",
        version=__version__,
        description=_DESCRIPTION,
        routes=app.routes,
        servers=[{"url": "/"}],
    )
    components = _inside(described, "components")
    schemas = _inside(components, "schemas")
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= {
        "Problem": _PROBLEM_SCHEMA,
        "FieldProblem": _FIELD_SCHEMA,
        "Open311Errors": open311_format.ERRORS_SCHEMA,
    }
    if "CaseDocument" in schemas:
        # FastAPI leaves null members out of examples, and this one needs them.
        _inside(schemas, "CaseDocument")["examples"] = [CASE_EXAMPLE]
    # Parts of a form that nobody asked for are refused.
    if "Body_upload_media" in schemas:
        _inside(schemas, "Body_upload_media")["additionalProperties"] = False
    _inside(components, "responses").update({name: _response(name, kind) for name, kind in _PROBLEMS.items()})
    _inside(components, "responses")["Open311Refusal"] = _OPEN311_REFUSAL
    _inside(components, "parameters").update({"AcceptLanguage": _ACCEPT_LANGUAGE})
    _inside(components, "securitySchemes")["bearer"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "The `access_token` of a session; opaque, starts with `jcs_`.",
    }
    _inside(components, "securitySchemes")["api_key"] = {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "The key of another system; starts with `jck_`. `x-callers` names the scope that it needs.",
    }
    used: set[str] = set()
    for method, operation in _operations(described):
        _complete(method, operation)
        used.update(str(tag) for tag in _list(operation.get("tags")))
    described["tags"] = [{"name": tag, "description": text} for tag, text in _TAGS.items() if tag in used]
    return described


def _operations(described: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    for path in _inside(described, "paths").values():
        if isinstance(path, dict):
            yield from (
                (method, operation) for method, operation in path.items() if isinstance(operation, dict)
            )


def _complete(method: str, operation: JsonObject) -> None:
    parameters = [_documented(each) for each in _list(operation.get("parameters")) if isinstance(each, dict)]
    if method != "post" or "security" not in operation:
        parameters = [each for each in parameters if each["name"] != _IDEMPOTENCY_KEY["name"]]
    language: JsonObject = {"$ref": "#/components/parameters/AcceptLanguage"}
    operation["parameters"] = [*parameters, language]
    responses = _inside(operation, "responses")
    is_open311 = "open311" in _list(operation.get("tags"))
    if is_open311:
        responses.pop(str(InvalidInput.status), None)
    for name in _possible(method, operation, parameters):
        status = _PROBLEMS[name].status
        if is_open311:
            responses[str(open311_format.status_of(status))] = {
                "$ref": "#/components/responses/Open311Refusal"
            }
        else:
            responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
    operation["responses"] = dict(sorted(responses.items()))


def _possible(method: str, operation: JsonObject, parameters: list[JsonObject]) -> Iterator[str]:
    names = {each["name"] for each in parameters}
    places = {each["in"] for each in parameters}
    known_callers_only = "security" in operation
    named = set(_inside(operation, "responses"))
    yield from (name for name, kind in _PROBLEMS.items() if str(kind.status) in named)
    yield from ("Unauthenticated", "InvalidInput", "TooManyRequests", "Unavailable")
    if known_callers_only:
        yield "Forbidden"
    if "path" in places:
        yield "NotFound"
    if known_callers_only and method != "get":
        yield "Conflict"
    if _IDEMPOTENCY_KEY["name"] in names:
        yield "BadRequest"
    if _IF_MATCH["name"] in names:
        yield "VersionConflict"
    if method in ("post", "put"):
        yield from ("BodyTooLarge", "BodyTimeout")
    if "requestBody" in operation:
        yield "UnsupportedMediaType"


def _documented(parameter: JsonObject) -> JsonObject:
    """FastAPI lists headers under the names of Python parameters and knows nothing of their form."""
    for known in (_IDEMPOTENCY_KEY, _IF_MATCH):
        if str(parameter["name"]).lower() == str(known["name"]).lower():
            return known
    return parameter


def _response(name: str, kind: type[Problem]) -> JsonObject:
    example: JsonObject = {
        "type": f"/problems/{kind.code}",
        "title": kind.title_zh,
        "status": kind.status,
        "detail": kind.title_zh,
        "code": kind.code,
        "instance": "/v1/hazards",
        "request_id": "0193a5c27d1e7c3a9a526f0d2b8e4c11",
    }
    if kind.status == MalformedBody.status:
        example["errors"] = [{"loc": ["body", "category"], "code": "missing", "message": "不能为空"}]
    headers: JsonObject = {"X-Request-Id": {"schema": {"type": "string"}}}
    if kind in (TooManyRequests, Unavailable):
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds"}
        example["retry_after"] = 5
    content: JsonObject = {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    }
    return {"description": f"{_MEANINGS[name]} {kind.title_zh}", "headers": headers, "content": content}


def _inside(holder: JsonObject, name: str) -> JsonObject:
    inner = holder.setdefault(name, {})
    if not isinstance(inner, dict):
        raise TypeError(f"{name} is not an object")
    return inner


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
