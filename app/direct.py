"""The short way to hot operations: inside the edge, past the layers that the framework puts around every endpoint.

Whatever is not hot, and whatever a hot operation cannot read by itself, goes the framework's way (decision 11).
"""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from app import problems
from app.bodies import JsonRequest
from app.directory import Directory
from app.errors import Problem
from app.idempotency import Replay


class Direct:
    """Asks the directory first, and then the framework."""

    def __init__(self, directory: Directory, framework: ASGIApp) -> None:
        self._directory, self._framework = directory, framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        found = self._directory.find(scope)
        if found is None or not found[0].is_hot:
            await self._framework(scope, receive, send)
            return
        operation, scope["path_params"] = found
        scope["route"], scope["endpoint"] = operation, operation.endpoint
        request = JsonRequest(scope, receive)
        try:
            response = await operation.directly(request)
        except (Problem, Replay, ClientDisconnect) as failure:
            response = await problems.answer(request, failure)
        if response is None:
            await self._framework(scope, request.from_the_start, send)
        else:
            await response(scope, receive, send)
