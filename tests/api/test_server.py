"""The server itself, over real sockets: clients that are slow, lie about lengths or do not speak HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
import uvicorn
from starlette.types import ASGIApp

from app import server
from app.edge import BODY_BYTES, UPLOAD_BYTES
from app.main import create_app

JSON = "Content-Type: application/json\r\n"


@dataclass(frozen=True)
class Answer:
    """What came back on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        return str(json.loads(self.body)["code"])


class Impatient(server.PatientProtocol):
    """Waits as long as a test can."""

    header_seconds = 1.0


@pytest.fixture(scope="module")
async def port(application: ASGIApp) -> AsyncIterator[int]:
    """A real server with short time limits, in front of the application that the session has started."""
    app = create_app(body_seconds=0.4)
    configuration = server.configuration(port=0, app=app)
    configuration.http, configuration.lifespan = Impatient, "off"
    running = uvicorn.Server(configuration)
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    await task


async def test_a_body_that_drips_is_cut_off(port: int) -> None:
    began = time.monotonic()
    async with _connected(port) as (reader, writer):
        writer.write(
            f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}Content-Length: 500\r\n\r\n".encode()
        )
        drip = asyncio.create_task(_drip(writer))
        answer = await _answer(reader)
        drip.cancel()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert (answer.status, answer.code) == (408, "body_timeout")
    assert answer.headers["connection"] == "close"
    assert time.monotonic() - began < 3


async def test_a_body_shorter_than_promised_is_cut_off(port: int) -> None:
    answer = await _say(
        port, f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}Content-Length: 50\r\n\r\n{{}}"
    )
    assert (answer.status, answer.code) == (408, "body_timeout")


async def test_chunks_without_an_end_are_cut_off(port: int) -> None:
    answer = await _say(
        port,
        f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n",
    )
    assert (answer.status, answer.code) == (408, "body_timeout")


async def test_chunks_are_counted(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(
            f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(BODY_BYTES // 65_536 + 1):
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        answer = await _answer(reader)
    assert (answer.status, answer.code) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("kind", "limit"), [("application/json", BODY_BYTES), ("multipart/form-data; boundary=x", UPLOAD_BYTES)]
)
async def test_a_promise_of_too_much_is_refused_unread(port: int, kind: str, limit: int) -> None:
    answer = await _say(
        port,
        f"POST /v1/media HTTP/1.1\r\nHost: t\r\nContent-Type: {kind}\r\nContent-Length: {limit + 1}\r\n\r\n",
    )
    assert (answer.status, answer.code) == (413, "body_too_large")


async def test_a_body_longer_than_promised_is_no_second_request(port: int) -> None:
    """The server answers with 400 and hangs up, whatever became of the first part."""
    body = '{"code":"demo:li"}'
    length = f"Content-Length: {len(body)}\r\n\r\n"
    answer = await _say(
        port, f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}{length}{body}rest\r\n\r\n"
    )
    assert (answer.status, answer.code) == (400, "bad_request")


@pytest.mark.parametrize(
    "request_",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/media HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: t\r\nbad header\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_with_a_problem(port: int, request_: str) -> None:
    answer = await _say(port, request_)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert answer.headers["x-request-id"] == json.loads(answer.body)["request_id"]
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["//v1/regions", "/v1/./regions", "/v1/x/../regions", "/v1/regions//"])
async def test_paths_are_taken_as_they_are(port: int, path: str) -> None:
    assert (await _say(port, f"GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")).status == 404


async def test_a_header_that_does_not_come_is_not_waited_for(port: int) -> None:
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: t\r\nX-Slow: ")
        assert await asyncio.wait_for(reader.read(), 3) == b""
    async with _connected(port) as (reader, _):
        assert await asyncio.wait_for(reader.read(), 3) == b""


async def test_line_ends_do_not_keep_a_connection(port: int) -> None:
    """They are no request, and stop the clock that idle connections are let go by."""
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert (await _answer(reader)).status == 200
        writer.write(b"\r\n")
        assert await asyncio.wait_for(reader.read(), 3) == b""


async def test_line_ends_may_come_before_a_request(port: int) -> None:
    async with _connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(b"\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            assert (await _answer(reader)).status == 200


async def test_an_endless_header_is_refused(port: int) -> None:
    """Each piece of it would cost as much as all before it."""
    async with _connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: t\r\nX-Long: ")
        for _ in range(8):
            writer.write(b"x" * 65_536)
        with suppress(ConnectionResetError):
            answer = await _answer(reader)
            assert (answer.status, answer.code) == (400, "bad_request")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_second_request_may_come_on_the_same_connection(port: int) -> None:
    async with _connected(port) as (reader, writer):
        for _ in range(3):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
            assert (await _answer(reader)).status == 200


async def test_many_slow_clients_do_not_hold_up_the_others(port: int) -> None:
    slow = []
    for _ in range(200):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /v1/sessions/wechat HTTP/1.1\r\nHost: t\r\n{JSON}Content-Length: 9\r\n\r\n{{".encode()
        )
        slow.append((reader, writer))
    for _ in range(20):
        began = time.monotonic()
        assert (await _say(port, "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")).status == 200
        assert time.monotonic() - began < 1
    assert {(await _answer(reader)).status for reader, _ in slow} == {408}
    for _, writer in slow:
        writer.close()


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.05)


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _say(port: int, request: str) -> Answer:
    async with _connected(port) as (reader, writer):
        writer.write(request.encode())
        return await _answer(reader)


async def _answer(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(int(status.split()[1]), headers, body)
