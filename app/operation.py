"""The route class of every endpoint: it knows its policy row, checks the request, and keeps idempotent answers."""

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Form, Query
from fastapi.routing import APIRoute

from app import api_key_auth, auth, deps
from app.auth import Caller
from app.bodies import JsonRequest
from app.context import CALLER, HEADERS
from app.errors import FieldError, InvalidInput, Unauthenticated, UnsupportedMediaType
from app.limits import client_address, limiter
from app.policy import POLICY
from app.settings import settings
from app.shortcut import Shortcut, takes_several

_BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
_API_KEY: list[dict[str, list[str]]] = [{"api_key": []}]
_JSON = ("application/json",)
_FORM = ("multipart/form-data", "application/x-www-form-urlencoded")


class Operation(APIRoute):
    """One operation. Its name is the name of its function, in the policy, in OpenAPI and in the logs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        name = endpoint.__name__
        rule = POLICY[name]
        options["operation_id"] = name
        security = [*_BEARER, *(_API_KEY if rule.scopes else [])]
        extra = {"x-callers": rule.callers} | ({} if rule.anonymous else {"security": security})
        options["openapi_extra"] = (options.get("openapi_extra") or {}) | extra
        super().__init__(path, endpoint, **options)
        self._rule = rule
        self._query = {
            field.alias: takes_several(field)
            for field in get_flat_params(self.dependant)
            if isinstance(field.field_info, Query)
        }
        self._takes_body = self.body_field is not None or "requestBody" in options["openapi_extra"]
        self._takes_form = self.body_field is not None and isinstance(self.body_field.field_info, Form)
        self._shortcut = Shortcut.of(self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Identify, count, authorise, check the request; then the endpoint; then keep the answer for a repeat."""
        handle = super().get_route_handler()

        async def run(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            await self._check(request)
            response = await handle(request)
            await deps.keep(request, response)
            return response

        return run

    @property
    def is_hot(self) -> bool:
        """Whether it can be answered `directly`."""
        return self._shortcut is not None

    async def directly(self, request: JsonRequest) -> Response | None:
        """The answer without FastAPI; None when FastAPI has to have a look, for which everything is checked then."""
        await self._check(request)
        if self._shortcut is None:
            return None
        values = await self._shortcut.values(request)
        return None if values is None else await self._shortcut.answer(request, values)

    async def _check(self, request: JsonRequest) -> None:
        """Identify, count and authorise the caller, and refuse what nobody should read, once for each request."""
        if CALLER in request.scope:
            return
        caller = await _identify(request)
        request.scope[CALLER] = caller
        await limiter.count_caller(request.scope, caller)
        auth.authorise(caller, self._rule)
        self._check_query(request)
        self._check_content_type(request)
        if not self._takes_form and request.method != "GET":
            # Now, not inside the transaction that a repeated request is looked up in.
            body = await request.body()
            await self._check_body(request)
            if not self._takes_body and body.strip() not in (b"", b"{}"):
                raise InvalidInput.of(("body",), "no_body", "no body is taken here", "此操作不接受请求内容")

    def _check_query(self, request: JsonRequest) -> None:
        if not request.scope["query_string"]:
            return
        given = [key for key, _ in request.pairs]
        names = set(given)
        if len(names) == len(given) and names <= self._query.keys():
            return
        errors = [_unknown(key) for key in dict.fromkeys(given) if key not in self._query]
        errors += [
            _repeated(key)
            for key, times in Counter(given).items()
            if times > 1 and self._query.get(key) is False
        ]
        if errors:
            raise InvalidInput(fields=errors)

    async def _check_body(self, request: Request) -> None:
        """For routes whose raw bytes must be genuine before anybody parses them."""

    def _check_content_type(self, request: Request) -> None:
        if self.body_field is None or not _has_body(request):
            return
        essence, _, parameters = request.headers.get("content-type", "").lower().partition(";")
        _, _, charset = parameters.partition("charset=")
        readable = essence.strip() in (_FORM if self._takes_form else _JSON)
        if not readable or charset.strip(' "') not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType


class LenientOperation(Operation):
    """For standards whose clients send parameters that we do not know, or without a value: they are ignored."""

    def _check_query(self, request: JsonRequest) -> None:
        given = parse_qsl(request.scope["query_string"].decode("latin-1"))
        request.scope["query_string"] = urlencode(given).encode()


async def _identify(request: Request) -> Caller | None:
    """A bearer token or an API key, never both: a request has one caller."""
    given: Mapping[bytes, bytes] = request.scope[HEADERS]
    authorization, key = given.get(b"authorization"), given.get(b"x-api-key")
    if key is None:
        return await auth.identify(authorization.decode("latin-1") if authorization else None)
    if authorization is not None:
        raise Unauthenticated
    return await _holder_of(request, key.decode("latin-1"))


async def count_key(request: Request, key: str) -> Caller:
    """The caller behind an API key that came in the body of this request, which counts as theirs."""
    caller = await _holder_of(request, key)
    await limiter.count_caller(request.scope, caller)
    return caller


async def _holder_of(request: Request, key: str) -> Caller:
    return await api_key_auth.identify(key, client_address(request.scope, settings.trusted_proxies))


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _unknown(key: str) -> FieldError:
    return FieldError(("query", key), "unknown_parameter", "is not a parameter of this operation", "未知参数")


def _repeated(key: str) -> FieldError:
    return FieldError(("query", key), "repeated_parameter", "may be given only once", "参数不可重复")
