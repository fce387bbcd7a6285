"""Open311 GeoReport v2: the open standard for reporting, in XML and JSON.

One jurisdiction, so `jurisdiction_id` is ignored like every parameter that the standard does not name.
"""

import re
from collections import defaultdict
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.exceptions import HTTPException

from app import open311_format
from app.auth import Caller
from app.context import CALLER
from app.deps import ReadSession, Session
from app.errors import Forbidden, Unauthenticated
from app.models.api_keys import ApiScope
from app.operation import LenientOperation, count_key
from app.problems import language_of
from app.schemas.base import Moment, as_meant
from app.services import open311
from app.services.open311 import BadReport, Report311, Wanted
from app.settings import settings

router = APIRouter(prefix="/open311", tags=["open311"], route_class=LenientOperation)

Format = Literal["xml", "json"]
Lang = Annotated[str | None, Header(alias="accept-language", max_length=200)]
_ATTRIBUTE = re.compile(r"attribute\[([^\]]{1,40})\](?:\[\])?")
_CONTACT = ("first_name", "last_name", "email", "phone", "device_id", "account_id")
_LONGEST = 200
_XML: dict[str, object] = {"schema": {"type": "string"}}


def _documents(schema: dict[str, object], status: int = 200) -> dict[int | str, dict[str, object]]:
    return {status: {"content": {"text/xml": _XML, "application/json": {"schema": schema}}}}


_ONE = _documents({"type": "object"})
_MANY = _documents({"type": "array", "items": {"type": "object"}})
_MADE = _documents({"type": "array", "items": {"type": "object"}}, 201)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["service_code"],
                    "properties": {
                        name: {"type": "string"}
                        for name in (
                            "api_key",
                            "service_code",
                            "lat",
                            "long",
                            "address_string",
                            "address_id",
                            "description",
                            "media_url",
                            *_CONTACT,
                        )
                    },
                    "examples": [
                        {
                            "api_key": "jck_test_…",
                            "service_code": "street_lighting",
                            "lat": "30.6085",
                            "long": "104.1255",
                            "description": "Lamp CL-0123 is dark",
                            "attribute[LAMPS_OUT]": "2",
                        }
                    ],
                }
            }
        },
    }
}
_CHANGED = "2026-11-01T00:00:00Z"


@router.get("/discovery.{suffix}", response_class=Response, responses=_ONE)
async def read_open311_discovery(suffix: Format) -> Response:
    """Where the endpoints are and which formats they speak."""
    endpoint: open311_format.Record = {
        "specification": "http://wiki.open311.org/GeoReport_v2",
        "url": f"{settings.base_url}/open311/v2",
        "changeset": _CHANGED,
        "type": "production" if settings.env == "prod" else "test",
        "formats": ["text/xml", "application/json"],
    }
    document: open311_format.Record = {
        "changeset": _CHANGED,
        "contact": f"{settings.base_url}/docs",
        "key_service": f"{settings.base_url}/docs#tag/api-keys",
        "endpoints": [endpoint],
    }
    return open311_format.one("discovery", document, as_json=suffix == "json")


@router.get("/v2/services.{suffix}", response_class=Response, responses=_MANY)
async def list_open311_services(suffix: Format, session: ReadSession, language: Lang = None) -> Response:
    """The services: every category in use."""
    rows = await open311.services(session, language_of(language or ""))
    return open311_format.many("services", "service", rows, as_json=suffix == "json")


@router.get("/v2/services/{service_code}.{suffix}", response_class=Response, responses=_ONE)
async def read_open311_service(
    service_code: str,
    suffix: Format,
    session: ReadSession,
    language: Lang = None,
) -> Response:
    """The extra questions of a service whose `metadata` is true."""
    found = await open311.definition(session, service_code, language_of(language or ""))
    return open311_format.one("service_definition", found, as_json=suffix == "json")


@router.post(
    "/v2/requests.{suffix}",
    status_code=201,
    response_class=Response,
    responses=_MADE,
    openapi_extra=_FORM,
)
async def create_open311_request(request: Request, suffix: Format, session: Session) -> Response:
    """File a request with an `api_key` of scope `reports:write`; it goes through the same chain as any hazard."""
    form = await _form(request)
    caller = await _caller(request, _first(form, "api_key"))
    record = await open311.create(session, caller, _report(form))
    return open311_format.many("service_requests", "request", [record], as_json=suffix == "json", status=201)


@router.get("/v2/tokens/{token}.{suffix}", response_class=Response, responses=_MANY)
async def read_open311_token(token: str, suffix: Format, session: ReadSession) -> Response:
    """The id behind a token. Requests are given their id at once, so this is for completeness."""
    found = await open311.token(session, token)
    return open311_format.many("service_requests", "request", [found], as_json=suffix == "json")


@router.get("/v2/requests.{suffix}", response_class=Response, responses=_MANY)
async def list_open311_requests(
    suffix: Format,
    session: ReadSession,
    language: Lang = None,
    service_request_id: Annotated[str | None, Query(max_length=4_000)] = None,
    service_code: Annotated[str | None, Query(max_length=1_000)] = None,
    start_date: Moment | None = None,
    end_date: Moment | None = None,
    status: Annotated[str | None, Query(max_length=20)] = None,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=open311.MAX_REQUESTS)] = open311.MAX_REQUESTS,
) -> Response:
    """Public requests of at most 90 days, newest first, 1,000 or `page_size` at a time."""
    statuses = _listed(status)
    if not set(statuses) <= {"open", "closed"}:
        raise BadReport("status is open, closed or both", "status 只能是 open 或 closed")
    wanted = Wanted(
        _listed(service_request_id), _listed(service_code), start_date, end_date, statuses, page, page_size
    )
    rows = await open311.requests(session, wanted, language_of(language or ""))
    return open311_format.many("service_requests", "request", rows, as_json=suffix == "json")


@router.get("/v2/requests/{service_request_id}.{suffix}", response_class=Response, responses=_MANY)
async def read_open311_request(
    service_request_id: str,
    suffix: Format,
    session: ReadSession,
    language: Lang = None,
) -> Response:
    """One public request."""
    found = await open311.request(session, service_request_id, language_of(language or ""))
    return open311_format.many("service_requests", "request", [found], as_json=suffix == "json")


Form = dict[str, list[str]]


async def _form(request: Request) -> Form:
    """The fields of a form by name, in the order in which they came."""
    fields: Form = defaultdict(list)
    try:
        form = await request.form(max_files=0, max_fields=200)
    except HTTPException:
        raise BadReport(
            "the form cannot be read; pictures come as a media_url, not as files",
            "无法解析表单；图片请以 media_url 提供，不能直接上传文件",
        ) from None
    for name, value in form.multi_items():
        if isinstance(value, str) and (text := as_meant(value)).strip():
            fields[name].append(text)
    return fields


async def _caller(request: Request, key: str | None) -> Caller:
    """The holder of the `api_key` in the form, or of the `X-API-Key` header."""
    caller: Caller | None = request.scope[CALLER]
    if caller is None and key is not None:
        with suppress(Unauthenticated):
            caller = await count_key(request, key)
    if caller is None or ApiScope.REPORTS_WRITE not in caller.api_scopes:
        raise Forbidden(
            "an api_key of scope reports:write is needed", "需要具有 reports:write 权限的 api_key"
        )
    return caller


def _report(form: Form) -> Report311:
    attributes: dict[str, list[str]] = {}
    for name, values in form.items():
        if match := _ATTRIBUTE.fullmatch(name):
            attributes.setdefault(match[1], []).extend(values)
    return Report311(
        service_code=_first(form, "service_code"),
        lat=_first(form, "lat"),
        long=_first(form, "long"),
        address_string=_first(form, "address_string"),
        address_id=_first(form, "address_id"),
        description=_first(form, "description", open311.MAX_DESCRIPTION) or "",
        media_url=_first(form, "media_url", 1_000),
        contact={name: _first(form, name) or "" for name in _CONTACT},
        attributes=attributes,
    )


def _first(form: Form, name: str, longest: int = _LONGEST) -> str | None:
    values = form.get(name, [])
    if len(values) > 1:
        raise BadReport(f"{name} was given more than once", f"{name} 重复")
    if values and len(values[0]) > longest:
        raise BadReport(f"{name} is longer than {longest} characters", f"{name} 超过 {longest} 字")
    return values[0] if values else None


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
