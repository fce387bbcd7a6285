"""Sends the requests of the cases, and reads no further than the head of an answer that never ends."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote
from uuid import uuid4
from xml.etree.ElementTree import fromstring

import httpx
from starlette.types import ASGIApp, Message

from app import clock
from app.sandbox.credentials import DEV_WEBHOOK_SECRET
from tests.contract.cases import Ask
from tests.contract.routes import OPERATIONS, Json

STREAM = "stream_events"


@dataclass(frozen=True)
class Answer:
    """What came back: all of it, or only the head of a stream."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def code(self) -> str | None:
        """Which problem it is."""
        if self.status < 400:
            return None
        if self.text.startswith("<?xml"):
            return fromstring(self.text.encode())[0].findtext("code")  # noqa: S314 - our own answer
        body: Json | list[Json] = json.loads(self.text)
        return str((body[0] if isinstance(body, list) else body)["code"])


def address(operation: str, ask: Ask) -> str:
    """The path with its ids."""
    return OPERATIONS[operation].path.format(**{name: str(value) for name, value in ask.ids.items()})


async def send(
    application: ASGIApp, client: httpx.AsyncClient, operation: str, ask: Ask, headers: Mapping[str, str]
) -> Answer:
    """One request as the document describes it."""
    path = address(operation, ask)
    if operation == STREAM:
        return await exchange(application, "GET", path, headers)
    query: dict[str, str] = {name: str(value) for name, value in ask.query.items()}
    if ask.signed:
        content = json.dumps(ask.body, ensure_ascii=False).encode()
        response = await client.request(
            OPERATIONS[operation].method,
            path,
            params=query or None,
            content=content,
            headers={**headers, **signature(content), "content-type": "application/json"},
        )
        return Answer(response.status_code, response.headers, response.text)
    response = await client.request(
        OPERATIONS[operation].method,
        path,
        params=query or None,
        json=ask.body,
        data=ask.form or None,
        files={"file": ("photo.jpg", ask.file, "image/jpeg")} if ask.file else None,
        headers=dict(headers),
    )
    return Answer(response.status_code, response.headers, response.text)


def signature(content: bytes) -> dict[str, str]:
    """What the district sends along, also with bytes that are no text."""
    message_id, stamp = f"msg_{uuid4().hex}", str(int(clock.now().timestamp()))
    key = base64.b64decode(DEV_WEBHOOK_SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{stamp}.".encode() + content, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


async def exchange(
    application: ASGIApp, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
) -> Answer:
    """One request with its target as it is, which clients like to tidy up. The client hangs up after some answer."""
    requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    answered: list[Message] = []
    enough = asyncio.Event()

    async def receive() -> Message:
        if requests:
            return requests.pop()
        await enough.wait()
        return {"type": "http.disconnect"}

    async def answer(message: Message) -> None:
        answered.append(message)
        if message["type"] == "http.response.body":
            enough.set()

    raw_path, _, query = target.encode().partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("testserver", 80),
        "client": ("10.9.9.9", 40_000),
    }
    await asyncio.wait_for(application(scope, receive, answer), 10)
    found = {name.decode(): value.decode() for name, value in answered[0]["headers"]}
    text = b"".join(message.get("body", b"") for message in answered[1:])
    return Answer(answered[0]["status"], found, text.decode())
