"""Client, sandbox and push receiver over real sockets: mounted in one server, as in development."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import Message

from app.clients import wechat_errors as errors
from app.clients.http import open_client
from app.clients.wechat import Suggestion, WeChatClient
from app.clients.wechat_push import MediaChecked, MessagePush, PushEvent
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN, SANDBOX_SECRET
from app.sandbox.wechat import create_sandbox


def now() -> datetime:
    return datetime.now(UTC)


class Server:
    """One process's server: the sandbox under `/_wechat`, and the push address that it calls."""

    def __init__(self) -> None:
        self.events: list[PushEvent] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._push = MessagePush(
            token=SANDBOX_PUSH_TOKEN, aes_key=SANDBOX_PUSH_AES_KEY, appid=SANDBOX_APPID, now=now
        )
        sandbox = create_sandbox(push_url=f"{self.url}/push", clock=now, verdict_delay_seconds=0)
        app = Starlette(routes=[Mount("/_wechat", sandbox), Route("/push", self._receive, methods=["POST"])])
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    async def _receive(self, request: Request) -> PlainTextResponse:
        self.events.append(self._push.open(request.query_params, await request.body()))
        return PlainTextResponse("success")


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    running.start()
    yield running
    running.stop()


def client_of(server: Server, deadline_seconds: float = 8.0) -> WeChatClient:
    return WeChatClient(
        base_url=f"{server.url}/_wechat",
        appid=SANDBOX_APPID,
        secret=SANDBOX_SECRET,
        monotonic=time.monotonic,
        deadline_seconds=deadline_seconds,
    )


async def test_everything_over_real_sockets(server: Server) -> None:
    client = client_of(server)
    login = await client.code2session("demo:li")
    numbers = await asyncio.gather(*(client.phone_number(f"demo:{n}", login.openid) for n in range(50)))
    assert len(set(numbers)) == 50
    assert (await client.getwxacodeunlimit("a=1")).content.startswith(b"\xff\xd8")
    trace_id = await client.media_check_async("https://example.com/sandbox-review.jpg", login.openid)
    async with open_client(f"{server.url}/_wechat/_sandbox") as control:
        calls = (await control.get("/calls")).json()
    assert calls["/cgi-bin/stable_token"] == 1
    for _ in range(500):
        if server.events:
            break
        await asyncio.sleep(0.01)
    (event,) = server.events
    assert isinstance(event, MediaChecked)
    assert (event.trace_id, event.suggestion) == (trace_id, Suggestion.REVIEW)
    await client.aclose()


async def test_a_silent_server_and_a_dead_one(server: Server) -> None:
    client = client_of(server, deadline_seconds=0.2)
    async with open_client(f"{server.url}/_wechat/_sandbox") as control:
        await control.post("/faults", json={"path": "/sns/jscode2session", "delay_seconds": 0.6})
    with pytest.raises(errors.WeChatUnavailable, match="deadline"):
        await client.code2session("demo:li")
    assert (await client.code2session("demo:li")).openid
    server.stop()
    with pytest.raises(errors.WeChatUnavailable):
        await client.code2session("demo:li")
    await client.aclose()


async def test_a_worker_that_is_killed_while_it_asks_is_no_error_of_the_server() -> None:
    sent: list[Message] = []

    async def hang_up() -> Message:
        return {"type": "http.disconnect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/wxa/media_check_async",
        "query_string": b"access_token=x",
        "headers": [],
    }
    await create_sandbox(push_url=None, clock=now)(scope, hang_up, keep)
    assert sent[0]["status"] == 400
