"""The short way to an endpoint that answers with ready JSON: FastAPI's own way there costs more than our queries.

A value is taken from the request by the very field that FastAPI made of the signature. Whatever is missing, malformed
or out of the ordinary is left to FastAPI, which finds the words for it: there is one set of rules.
"""

from collections.abc import Awaitable, Callable
from typing import get_type_hints

from fastapi import Request, Response
from fastapi._compat import ModelField
from fastapi.routing import APIRoute

from app import deps
from app.bodies import JsonRequest

_JSON = (b"content-type", b"application/json")


class Ready(Response):
    """JSON that a service has rendered: byte for byte what the declared `response_model` would make of it."""

    media_type = "application/json"

    def __init__(self, content: bytes, status_code: int = 200) -> None:
        self.status_code, self.body, self.background = status_code, content, None
        self.raw_headers = [(b"content-length", b"%d" % len(content)), _JSON]


class Shortcut:
    """How one endpoint is called: with values of the path, the query and the body, the caller and a session."""

    def __init__(self, route: APIRoute) -> None:
        asked = route.dependant
        self._call: Callable[..., Awaitable[Response]] = route.endpoint
        self._path, self._body = asked.path_params, route.body_field
        self._query = {field.alias: field for field in asked.query_params}
        self._headers = [field for each in asked.dependencies for field in each.header_params]
        self._lists = {alias for alias, field in self._query.items() if takes_several(field)}
        fields = [*asked.query_params, *asked.body_params]
        self._defaults = {field.name: field.default for field in fields if not field.field_info.is_required()}
        self._required = {field.name for field in fields if field.field_info.is_required()}
        names = {each.call: each.name for each in asked.dependencies}
        self._caller, self._session = names.get(deps.caller), names.get(deps.session)

    @classmethod
    def of(cls, route: APIRoute) -> "Shortcut | None":
        """None for an endpoint that answers otherwise, or asks for anything else."""
        asked = route.dependant
        known = {deps.caller, deps.session}
        others = [each for each in asked.dependencies if each.call not in known]
        embedded = asked.body_params and asked.body_params[0] is not route.body_field
        special = asked.header_params or asked.cookie_params or asked.request_param_name
        if others or embedded or special or get_type_hints(route.endpoint).get("return") is not Ready:
            return None
        return cls(route)

    async def values(self, request: JsonRequest) -> dict[str, object] | None:
        """What the endpoint is called with, apart from caller and session; None when FastAPI has to have a look."""
        given = [(field, request.path_params[field.alias]) for field in self._path]
        given += self._queried(request)
        given += [
            (field, request.headers[field.alias]) for field in self._headers if field.alias in request.headers
        ]
        if self._body is not None and await request.body():
            given.append((self._body, await request.json()))
        values = self._defaults.copy()
        for field, raw in given:
            values[field.name], errors = field.validate(raw)
            if errors:
                return None
        return values if self._required <= values.keys() else None

    async def answer(self, request: Request, values: dict[str, object]) -> Response:
        """Call the endpoint; what it has written is committed when this returns."""
        # The only header that a dependency of an endpoint reads.
        key = values.pop("idempotency_key", None)
        if self._caller is not None:
            values[self._caller] = await deps.caller(request)
        if self._session is None:
            return await self._call(**values)
        async with deps.writing(request, None if key is None else str(key)) as session:
            response = await self._call(**values, **{self._session: session})
            await deps.keep(request, response)
            return response

    def _queried(self, request: JsonRequest) -> list[tuple[ModelField, object]]:
        if not request.scope["query_string"]:
            return []
        given: list[tuple[ModelField, object]] = []
        lists: dict[str, list[str]] = {}
        for key, text in request.pairs:
            if key in self._lists:
                lists.setdefault(key, []).append(text)
            else:
                given.append((self._query[key], text))
        return given + [(self._query[key], texts) for key, texts in lists.items()]


def takes_several(field: ModelField) -> bool:
    """Whether a query parameter may be repeated."""
    return "list[" in str(field.field_info.annotation).lower()
