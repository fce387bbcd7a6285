"""Finds an operation by its path in one look-up; the router would try its routes in turn, twice (decision 11)."""

import re
from collections.abc import Sequence

from fastapi import APIRouter
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.operation import Operation

_ID = 3
"""The place of the id in a path such as `/v1/hazards/{hazard_id}/accept`, split at its slashes."""
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_PARAMETER = re.compile(r"\{(\w+)\}")


class Directory(BaseRoute):
    """Comes before all routes, and knows those without an id and those with one UUID. All else is left to the router."""

    def __init__(self, routers: Sequence[APIRouter]) -> None:
        self._plain: dict[tuple[str, str], Operation] = {}
        self._with_id: dict[tuple[str, str], tuple[Operation, str]] = {}
        for route in (route for each in routers for route in each.routes):
            if isinstance(route, Operation):
                self._enter(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether there is an operation, and what the router would have entered in the scope."""
        found = self.find(scope)
        if found is None:
            return Match.NONE, {}
        operation, path_params = found
        return Match.FULL, {"route": operation, "endpoint": operation.endpoint, "path_params": path_params}

    def find(self, scope: Scope) -> tuple[Operation, dict[str, str]] | None:
        """The operation of a request, with what its path names."""
        if scope["type"] != "http":
            return None
        method, path = scope["method"], scope["path"]
        operation = self._plain.get((method, path))
        if operation is not None:
            return operation, {}
        rest, given = _without_id(path)
        operation, name = self._with_id.get((method, rest), (None, ""))
        if operation is None or _UUID.fullmatch(given) is None:
            return None
        return operation, {name: given}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request over."""
        operation: Operation = scope["route"]
        await operation.app(scope, receive, send)

    def _enter(self, operation: Operation) -> None:
        names = _PARAMETER.findall(operation.path)
        rest, given = _without_id(operation.path)
        for method in operation.methods or ():
            if not names:
                self._plain.setdefault((method, operation.path), operation)
            elif [f"{{{name}}}" for name in names] == [given]:
                self._with_id.setdefault((method, rest), (operation, names[0]))


def _without_id(path: str) -> tuple[str, str]:
    """The path without its id, and the id."""
    parts = path.split("/")
    if len(parts) <= _ID:
        return path, ""
    given, parts[_ID] = parts[_ID], ""
    return "/".join(parts), given
