"""The route class of every endpoint: it knows its policy row, checks the request, and keeps idempotent answers."""

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Form, Query
from fastapi.routing import APIRoute
from starlette.responses import StreamingResponse

from app import auth, idempotency
from app.bodies import JsonRequest
from app.errors import FieldError, InvalidInput, UnsupportedMediaType
from app.limits import limiter
from app.policy import POLICY

CALLER = "jincai.caller"
SESSION = "jincai.session"
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]
_JSON = ("application/json",)
_FORM = ("multipart/form-data", "application/x-www-form-urlencoded")


class Operation(APIRoute):
    """One operation. Its name is the name of its function, in the policy, in OpenAPI and in the logs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401
        name = endpoint.__name__
        rule = POLICY[name]
        options["operation_id"] = name
        extra = {"x-callers": rule.callers} | ({} if rule.anonymous else {"security": _SECURITY})
        options["openapi_extra"] = (options.get("openapi_extra") or {}) | extra
        super().__init__(path, endpoint, **options)
        self._rule = rule
        self._query = {
            field.alias: _takes_several(field.field_info.annotation)
            for field in get_flat_params(self.dependant)
            if isinstance(field.field_info, Query)
        }
        self._takes_body = self.body_field is not None or "requestBody" in options["openapi_extra"]
        self._takes_form = self.body_field is not None and isinstance(self.body_field.field_info, Form)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Identify, count, authorise, check the request; then FastAPI; then keep the answer for a repeat."""
        handle = super().get_route_handler()

        async def run(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            caller = await auth.identify(request.headers.get("authorization"))
            request.scope[CALLER] = caller
            await limiter.count_caller(request.scope, caller)
            auth.authorise(caller, self._rule)
            self._check_query(request)
            self._check_content_type(request)
            if not self._takes_form and request.method != "GET":
                # Now, not inside the transaction that a repeated request is looked up in.
                body = await request.body()
                if not self._takes_body and body.strip() not in (b"", b"{}"):
                    raise InvalidInput.of(
                        ("body",), "no_body", "no body is taken here", "此操作不接受请求内容"
                    )
            response = await handle(request)
            session = request.scope.get(SESSION)
            if session is not None and response.status_code < 300 and not _streams(response):
                content_type = response.headers.get("content-type", "")
                await idempotency.keep(session, response.status_code, bytes(response.body), content_type)
            return response

        return run

    def _check_query(self, request: Request) -> None:
        if not request.scope["query_string"]:
            return
        given = Counter(key for key, _ in request.query_params.multi_items())
        errors = [_unknown(key) for key in given if key not in self._query]
        errors += [
            _repeated(key) for key, times in given.items() if times > 1 and self._query.get(key) is False
        ]
        if errors:
            raise InvalidInput(fields=errors)

    def _check_content_type(self, request: Request) -> None:
        if self.body_field is None or not _has_body(request):
            return
        essence, _, parameters = request.headers.get("content-type", "").lower().partition(";")
        _, _, charset = parameters.partition("charset=")
        readable = essence.strip() in (_FORM if self._takes_form else _JSON)
        if not readable or charset.strip(' "') not in ("", "utf-8", "utf8"):
            raise UnsupportedMediaType


def _takes_several(annotation: object) -> bool:
    return "list[" in str(annotation).lower()


def _has_body(request: Request) -> bool:
    return request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers


def _streams(response: Response) -> bool:
    return isinstance(response, StreamingResponse) or not hasattr(response, "body")


def _unknown(key: str) -> FieldError:
    return FieldError(("query", key), "unknown_parameter", "is not a parameter of this operation", "未知参数")


def _repeated(key: str) -> FieldError:
    return FieldError(("query", key), "repeated_parameter", "may be given only once", "参数不可重复")
