"""The HTTP server: uvicorn, with a time limit for headers and with problems for requests that it cannot parse."""

import asyncio
import resource
from typing import cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.context import request_id
from app.edge import SECURITY_HEADERS
from app.errors import BadRequest
from app.ids import new_id
from app.problems import render
from app.settings import settings

HEADER_SECONDS = 10.0
HEADER_BYTES = 64 * 1024
_GRACE_SECONDS = 5
_OPEN_FILES = 65_536


class PatientProtocol(HttpToolsProtocol):
    """Patient, but not for ever: who sends no complete header for a while is let go."""

    header_seconds = HEADER_SECONDS
    header_bytes = HEADER_BYTES
    _deadline: asyncio.TimerHandle | None = None
    _in_header = False
    _heard = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection opened: the first header is due."""
        super().connection_made(transport)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came. Most headers are complete with the first; only for the others a clock is wound up."""
        super().data_received(data)
        if not self._is_waiting or self.transport.is_closing():
            return
        self._heard += len(data)
        if self._heard > self.header_bytes:
            # What they are made of is put together anew with every piece.
            self.send_400_response("The request header is too large")
        elif self._deadline is None:
            self._expect_header()

    @property
    def _is_waiting(self) -> bool:
        """Whether a header is due: one has begun, or there were but line ends since the last answer."""
        cycle = cast(RequestResponseCycle | None, self.cycle)
        return self._in_header or cycle is None or cycle.response_complete

    def on_message_begin(self) -> None:
        """The first byte of another request."""
        self._in_header = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The header is here; the body has a limit of its own."""
        self._in_header, self._heard = False, 0
        self._stop_waiting()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed never reaches the application, but is answered like everything else."""
        request_id.set(new_id().hex)
        response = render(BadRequest(msg), "/", None)
        headers = [
            *response.raw_headers,
            *SECURITY_HEADERS,
            (b"x-request-id", str(request_id.get()).encode()),
        ]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[400] + lines + b"connection: close\r\n\r\n" + bytes(response.body))
        self.transport.close()

    def _expect_header(self) -> None:
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def configuration(*, app: ASGIApp | str = "app.main:app", port: int = settings.port) -> uvicorn.Config:
    """How the service is served. Open streams get a few seconds to end when the server is stopped."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=port,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Only `limits.client_address` reads X-Forwarded-For, as far as the settings trust it.
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def serve() -> None:
    """Serve until SIGTERM or SIGINT."""
    _raise_file_limit()
    uvicorn.Server(configuration()).run()


def _raise_file_limit() -> None:
    """Each idle client costs a descriptor, and many systems still begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, _OPEN_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
