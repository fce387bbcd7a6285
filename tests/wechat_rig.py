"""The WeChat client wired to the sandbox, on a clock that a test moves."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
from starlette.types import ASGIApp

from app.clients import http
from app.clients.wechat import WeChatClient
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_SECRET
from app.sandbox.wechat import create_sandbox

START = datetime(2026, 1, 1, 4, 0, tzinfo=UTC)
TEMPLATE = "template-of-progress"


class MovableClock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self._passed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        return self._passed

    def advance(self, seconds: float) -> None:
        self._passed += seconds


class Recorder(httpx.AsyncBaseTransport):
    """Passes requests on and keeps them."""

    def __init__(self, inner: http.Transport) -> None:
        self.requests: list[httpx.Request] = []
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return await self._inner.handle_async_request(request)


@dataclass
class Mailbox:
    """Receives what the sandbox pushes, and answers what a test wants."""

    answers: list[str] = field(default_factory=list)
    pushes: list[tuple[str, bytes]] = field(default_factory=list)

    async def deliver(self, url: str, body: bytes) -> str:
        self.pushes.append((url, body))
        return self.answers.pop(0) if self.answers else "success"


@dataclass
class Rig:
    """A client, the sandbox it talks to, and the sandbox's control."""

    wechat: WeChatClient
    control: http.Client
    raw: http.Client
    recorder: Recorder
    clock: MovableClock
    mailbox: Mailbox

    async def order(self, target: str, /, **order: object) -> dict[str, object]:
        """Give the sandbox an order; the answer as an object."""
        response = await self.control.post(target, json=order)
        assert response.is_success, response.text
        answer = json.loads(response.content or b"{}")
        assert isinstance(answer, dict)
        return answer

    async def calls(self, path: str) -> int:
        """How often the sandbox has been asked for an API."""
        counted = (await self.control.get("/calls")).json()
        return int(counted.get(path, 0))

    async def messages(self) -> list[dict[str, object]]:
        """The subscribe messages that arrived."""
        return list((await self.control.get("/messages")).json())

    async def openid(self, name: str = "li") -> str:
        """The openid of a demo user."""
        return (await self.wechat.code2session(f"demo:{name}")).openid


@asynccontextmanager
async def open_rig(*, push_aes_key: str | None = None, deadline_seconds: float = 8.0) -> AsyncIterator[Rig]:
    """A rig in process; retries do not wait."""
    clock, mailbox = MovableClock(), Mailbox()
    options = {} if push_aes_key is None else {"push_aes_key": push_aes_key}
    sandbox: ASGIApp = create_sandbox(
        push_url="http://127.0.0.1/v1/wechat/push",
        clock=clock.now,
        deliver=mailbox.deliver,
        verdict_delay_seconds=0,
        **options,
    )
    recorder = Recorder(http.in_process(sandbox))
    wechat = WeChatClient(
        base_url="http://wechat",
        appid=SANDBOX_APPID,
        secret=SANDBOX_SECRET,
        monotonic=clock.monotonic,
        transport=recorder,
        deadline_seconds=deadline_seconds,
        backoff_seconds=(0.0, 0.0),
    )
    control = http.open_client("http://wechat/_sandbox", transport=http.in_process(sandbox))
    raw = http.open_client("http://wechat", transport=http.in_process(sandbox))
    async with control, raw:
        yield Rig(wechat, control, raw, recorder, clock, mailbox)
        await wechat.aclose()
