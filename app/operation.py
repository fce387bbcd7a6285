"""The route class of every endpoint: it knows its policy row, checks the query, and keeps idempotent answers."""

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.responses import StreamingResponse

from app import auth, idempotency, limits
from app.errors import FieldError, InvalidInput
from app.policy import POLICY

CALLER = "jincai.caller"
SESSION = "jincai.session"
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}]


class Operation(APIRoute):
    """One operation. Its name is the name of its function, in the policy, in OpenAPI and in the logs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        name = endpoint.__name__
        rule = POLICY[name]
        options["operation_id"] = name
        extra = {"x-callers": rule.callers} | ({} if rule.anonymous else {"security": _SECURITY})
        options["openapi_extra"] = (options.get("openapi_extra") or {}) | extra
        super().__init__(path, endpoint, **options)
        self._rule = rule
        self._query = {
            field.alias: _takes_several(field.field_info.annotation) for field in self.dependant.query_params
        }

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Identify, authorise, count, check the query; then FastAPI; then keep the answer for a repeat."""
        handle = super().get_route_handler()

        async def run(request: Request) -> Response:
            caller = await auth.identify(request.headers.get("authorization"))
            await limits.count(request, caller)
            request.scope[CALLER] = caller
            auth.authorise(caller, self._rule)
            self._check_query(request)
            response = await handle(request)
            session = request.scope.get(SESSION)
            if session is not None and response.status_code < 300 and not _streams(response):
                content_type = response.headers.get("content-type", "")
                await idempotency.keep(session, response.status_code, bytes(response.body), content_type)
            return response

        return run

    def _check_query(self, request: Request) -> None:
        given = Counter(key for key, _ in request.query_params.multi_items())
        errors = [_unknown(key) for key in given if key not in self._query]
        errors += [
            _repeated(key) for key, times in given.items() if times > 1 and self._query.get(key) is False
        ]
        if errors:
            raise InvalidInput(fields=errors)


def _takes_several(annotation: object) -> bool:
    return "list[" in str(annotation).lower()


def _streams(response: Response) -> bool:
    return isinstance(response, StreamingResponse) or not hasattr(response, "body")


def _unknown(key: str) -> FieldError:
    return FieldError(("query", key), "unknown_parameter", "is not a parameter of this operation", "未知参数")


def _repeated(key: str) -> FieldError:
    return FieldError(("query", key), "repeated_parameter", "may be given only once", "参数不可重复")
