"""The edge: one plain ASGI layer around everything, so that no answer leaves without its id, headers and log line."""

import asyncio
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import structlog
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import clock, limits, logs, metrics
from app.auth import Caller
from app.bodies import BodyTimeout, MalformedBody
from app.context import CALLER, HEADERS, request_id
from app.errors import BadRequest, BodyTooLarge, InvalidInput, NotFound, Problem, UnsupportedMediaType
from app.ids import new_hex
from app.limits import limiter
from app.masking import scrub
from app.problems import render
from app.settings import settings

BODY_BYTES = 1024 * 1024
UPLOAD_BYTES = 11 * 1024 * 1024
BODY_SECONDS = 15.0
_BYTES_PER_SECOND = 32 * 1024
_LONGEST_LENGTH = 12
_SANE_ID = re.compile(rb"[0-9A-Za-z][0-9A-Za-z._-]{7,63}")
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
_SIGNED = frozenset({"/v1/sync/district/events", "/v1/sync/district/watermarks"})
"""The platform of a whole district comes from one address: there, only what is not signed counts."""
_QUIET = frozenset({"read_healthz", "read_readyz", "read_metrics"})
_CLIENT_CLOSED_REQUEST = 499
SECURITY_HEADERS = [
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
]
_GIVEN_ONCE = frozenset(
    {
        b"authorization",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"host",
        b"idempotency-key",
        b"if-match",
        b"x-api-key",
    }
)
"""Two of these, and two readers may believe different ones."""
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_NO_STORE = (b"cache-control", b"no-store")
_OURS = frozenset({name for name, _ in [*SECURITY_HEADERS, _NO_STORE]})
_HSTS = (b"strict-transport-security", b"max-age=31536000; includeSubDomains")
_log = structlog.get_logger("edge")

Layer = Callable[[ASGIApp], ASGIApp]


def _no_layer(app: ASGIApp) -> ASGIApp:
    return app


def _is_encoded(query: bytes) -> bool:
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        return False
    return _BAD_ESCAPE.search(query) is None


class Edge:
    """Wraps the application. A body has `body_seconds`, and more only while it keeps coming.

    `cors` goes around the application, and around what the edge itself answers, or no browser could read it.
    """

    def __init__(
        self, app: ASGIApp, *, hsts: bool, cors: Layer = _no_layer, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._app, self._cors = cors(app), cors
        self._headers = [*SECURITY_HEADERS, _NO_STORE, *([_HSTS] if hsts else [])]
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; everything that is not HTTP passes."""
        if scope["type"] == "http":
            exchange = _Exchange(scope, receive, send, self._headers, self._cors, self._body_seconds)
            await exchange.run(self._app)
        else:
            await self._app(scope, receive, send)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        headers: list[tuple[bytes, bytes]],
        cors: Layer,
        body_seconds: float,
    ) -> None:
        self._is_head = scope["method"] == "HEAD"
        self._started: asyncio.Event | None = None
        self._scope = dict(scope, method="GET") if self._is_head else scope
        self._given: dict[bytes, bytes] = dict(scope["headers"])
        self._scope[HEADERS] = self._given
        self._receive, self._send = receive, send
        self._headers, self._cors, self._body_seconds = headers, cors, body_seconds
        is_upload = self._given.get(b"content-type", b"").lower().startswith(b"multipart/")
        self._body_limit = UPLOAD_BYTES if is_upload else BODY_BYTES
        self._body_deadline: float | None = None
        self._body_ended = self._is_open_stream = False
        self._bytes_in = self._bytes_out = 0
        self._status: int | None = None
        self._began = clock.monotonic()
        self._answered_after = 0.0
        self._id = self._choose_id()

    async def run(self, app: ASGIApp) -> None:
        """Answer, whatever happens; then write it down."""
        request_id.set(self._id)
        metrics.requests.in_progress += 1
        try:
            await self._answer(app)
        finally:
            metrics.requests.in_progress -= 1
            self._write_down()

    async def _answer(self, app: ASGIApp) -> None:
        try:
            if self._scope["path"] not in _PROBES and not self._is_for_district:
                await limiter.count_address(self._scope)
            self._refuse_unreadable()
            await app(self._scope, self._on_receive, self._on_send)
            if self._is_head:
                await self._end_stream()
        except Problem as problem:
            await self._fail(problem)
        except asyncio.CancelledError:
            # The server stops. A stream ends here in good order, and its client comes back to another server.
            if not await self._end_stream():
                raise
        except Exception as crash:
            _log.error("unhandled_error", operation=self._operation, exc_info=crash)
            await self._fail(Problem())

    async def _end_stream(self) -> bool:
        """End an answer of unknown length; whether there was one."""
        is_open = self._is_open_stream
        if is_open:
            await self._on_send({"type": "http.response.body", "body": b"", "more_body": False})
        return is_open

    async def _fail(self, problem: Problem) -> None:
        if self._status is None:
            language = self._given.get(b"accept-language", b"").decode("latin-1")
            response = self._cors(render(problem, self._scope["path"], language))
            await response(self._scope, self._on_receive, self._on_send)

    def _refuse_unreadable(self) -> None:
        """What no operation takes, refused before anything is looked up."""
        self._refuse_repeated_headers()
        length = self._given.get(b"content-length", b"0")
        if not length.isdigit():
            raise MalformedBody
        if len(length) > _LONGEST_LENGTH or int(length) > self._body_limit:
            raise BodyTooLarge
        if self._given.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaType("Send the body uncompressed", "请求内容不得压缩")
        # An escaped slash is no separator: the path is another one than it looks like after decoding.
        if "\0" in self._scope["path"] or b"%2f" in self._scope.get("raw_path", b"").lower():
            raise NotFound
        query = self._scope["query_string"]
        if b"%" in query and not _is_encoded(query):
            raise InvalidInput.of(
                ("query",), "malformed_encoding", "is not valid percent-encoding of UTF-8", "百分号编码无效"
            )
        if b"%00" in query:
            raise InvalidInput.of(
                ("query",), "control_character", "must not contain control characters", "不能包含控制字符"
            )

    def _refuse_repeated_headers(self) -> None:
        if len(self._given) == len(self._scope["headers"]):
            return
        given_once = [name for name, _ in self._scope["headers"] if name in _GIVEN_ONCE]
        if len(given_once) != len(set(given_once)):
            raise BadRequest("A header came twice", "请求头不可重复")

    async def _on_receive(self) -> Message:
        if self._body_ended:
            if self._is_head and self._status is None:
                self._started = asyncio.Event()
                await self._started.wait()
            if self._is_head:
                return {"type": "http.disconnect"}
            return await self._receive()
        message = await self._next_part()
        if message["type"] == "http.disconnect":
            self._body_ended = True
        else:
            self._body_ended = not message.get("more_body", False)
            self._count_in(len(message.get("body", b"")))
        return message

    async def _next_part(self) -> Message:
        loop = asyncio.get_running_loop()
        if self._body_deadline is None:
            self._body_deadline = loop.time() + self._body_seconds
        try:
            async with asyncio.timeout_at(self._body_deadline):
                return await self._receive()
        except TimeoutError:
            raise BodyTimeout from None

    def _count_in(self, size: int) -> None:
        self._bytes_in += size
        if self._body_deadline is not None:
            self._body_deadline += size / _BYTES_PER_SECOND
        if self._bytes_in > self._body_limit:
            raise BodyTooLarge

    async def _on_send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            if self._started is not None:
                self._started.set()
            self._answered_after = clock.monotonic() - self._began
            headers = self._complete(message.get("headers", []))
            self._is_open_stream = all(name != b"content-length" for name, _ in headers)
            message["headers"] = headers
        elif message["type"] == "http.response.body":
            if self._is_head:
                message = {"type": "http.response.body", "more_body": message.get("more_body", False)}
            self._bytes_out += len(message.get("body", b""))
            self._is_open_stream &= message.get("more_body", False)
        await self._send(message)

    def _complete(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        chosen = {name for name, _ in headers}
        ours = self._headers
        if not chosen.isdisjoint(_OURS):
            ours = [header for header in ours if header[0] not in chosen]
        return [*headers, *ours, (b"x-request-id", self._id.encode()), *limits.headers(self._scope)]

    def _write_down(self) -> None:
        status = self._status or _CLIENT_CLOSED_REQUEST
        operation = self._operation
        metrics.requests.observe(operation, status, self._answered_after)
        if operation in _QUIET and status < 400:
            return
        caller: Caller | None = self._scope.get(CALLER)
        route = self._scope.get("route")
        fields = {
            "request_id": self._id,
            "method": "HEAD" if self._is_head else self._scope["method"],
            "route": getattr(route, "path_format", None),
            "operation": operation,
            "status": status,
            "milliseconds": round((clock.monotonic() - self._began) * 1000, 1),
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "caller_kind": caller.kind.value if caller else None,
            "caller": str(caller.id) if caller else None,
            # Kept because the law wants network logs (Cybersecurity Law, article 21); nothing else names anybody.
            "address": limits.client_address(self._scope, settings.trusted_proxies),
        }
        logs.access("error" if status >= 500 else "info", fields)

    @property
    def _operation(self) -> str:
        route = self._scope.get("route")
        operation = route.operation_id if isinstance(route, APIRoute) else None
        return operation or "other"

    @property
    def _is_for_district(self) -> bool:
        return self._scope["method"] == "POST" and self._scope["path"] in _SIGNED

    def _choose_id(self) -> str:
        """The caller's id when it is sane and nothing that would be scrubbed; it goes into logs and events."""
        given = self._given.get(b"x-request-id", b"")
        if _SANE_ID.fullmatch(given) and scrub(given.decode()) == given.decode():
            return given.decode()
        return new_hex()
