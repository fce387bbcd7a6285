"""How the sandbox WeChat pushes events: signed, encrypted when an AES key is set, up to three times."""

import asyncio
import base64
import hashlib
import json
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlencode, urlsplit

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from app.sandbox.credentials import SANDBOX_ORIGINAL_ID

Deliver = Callable[[str, bytes], Awaitable[str]]
"""Posts a body to a URL and returns the text of a 200 answer; raises OSError when there is none."""

_ATTEMPTS = 3
_ATTEMPT_SECONDS = 5
_PENDING_LIMIT = 1000


async def post(url: str, body: bytes) -> str:
    """The `Deliver` of real life. Not the client's HTTP library: nothing is shared with what is being tested."""
    return await asyncio.to_thread(_post, url, body)


def _post(url: str, body: bytes) -> str:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_ATTEMPT_SECONDS)
    try:
        connection.request("POST", f"{parts.path}?{parts.query}", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read(65536).decode("utf-8", "replace")
        if answer.status != 200:
            raise OSError(f"HTTP {answer.status}")
        return text
    except HTTPException as failure:
        raise OSError(type(failure).__name__) from failure
    finally:
        connection.close()


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to push an event, and what the receiver said."""

    event: str
    attempt: int
    accepted: bool
    answer: str


class Pusher:
    """Signs, encrypts and delivers events to the one push address of the mini-program."""

    def __init__(
        self,
        *,
        appid: str,
        url: str | None,
        token: str,
        aes_key: str,
        now: Callable[[], datetime],
        deliver: Deliver,
    ) -> None:
        self.deliveries: deque[Delivery] = deque(maxlen=1000)
        self._appid = appid
        self._url = url
        self._token = token
        self._aes_key = aes_key
        self._now = now
        self._deliver = deliver
        self._pending: set[asyncio.Task[bool]] = set()

    def push_later(self, event: Mapping[str, object], delay_seconds: float) -> None:
        """Push in the background, unless there is no address or too much is waiting."""
        if self._url is None or len(self._pending) >= _PENDING_LIMIT:
            return
        task = asyncio.create_task(self._push_after(event, delay_seconds))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def aclose(self) -> None:
        """Push no more: what waits is dropped."""
        pending = list(self._pending)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def push(self, event: Mapping[str, object]) -> bool:
        """Push now, again when the answer is not `success` or empty. Whether the receiver took it."""
        if self._url is None:
            return False
        now = int(self._now().timestamp())
        message = {"ToUserName": SANDBOX_ORIGINAL_ID, "CreateTime": now, "MsgType": "event", **event}
        text = json.dumps(message, ensure_ascii=False).encode()
        openid = str(event.get("FromUserName", ""))
        for attempt in range(1, _ATTEMPTS + 1):
            url, body = self._envelope(self._url, text, openid, str(now))
            try:
                async with asyncio.timeout(_ATTEMPT_SECONDS):
                    answer = await self._deliver(url, body)
                accepted = answer.strip() in ("", "success")
            except OSError as failure:
                answer, accepted = str(failure) or type(failure).__name__, False
            name = str(event.get("Event", ""))
            self.deliveries.append(Delivery(name, attempt, accepted, answer[:200]))
            if accepted:
                return True
        return False

    async def _push_after(self, event: Mapping[str, object], delay_seconds: float) -> bool:
        await asyncio.sleep(delay_seconds)
        return await self.push(event)

    def _envelope(self, url: str, text: bytes, openid: str, timestamp: str) -> tuple[str, bytes]:
        nonce = str(secrets.randbelow(2**31))
        query = {
            "signature": sign(self._token, timestamp, nonce),
            "timestamp": timestamp,
            "nonce": nonce,
            "openid": openid,
        }
        body = text
        if self._aes_key:
            sealed = encrypt(self._aes_key, text, self._appid, secrets.token_hex(8).encode())
            query["encrypt_type"] = "aes"
            query["msg_signature"] = sign(self._token, timestamp, nonce, sealed)
            body = json.dumps({"ToUserName": SANDBOX_ORIGINAL_ID, "Encrypt": sealed}).encode()
        return f"{url}?{urlencode(query)}", body


def sign(*parts: str) -> str:
    """Hex SHA-1 over the parts in sorted order."""
    digest = hashlib.sha1(usedforsecurity=False)
    for part in sorted(parts):
        digest.update(part.encode())
    return digest.hexdigest()


def encrypt(aes_key: str, text: bytes, appid: str, random16: bytes) -> str:
    """AES-256-CBC over random16, length, text and appid, padded to 32 bytes; base64."""
    key = base64.b64decode(f"{aes_key}=")
    plain = b"".join((random16, len(text).to_bytes(4, "big"), text, appid.encode()))
    missing = 32 - len(plain) % 32
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    sealed = encryptor.update(plain + bytes([missing] * missing)) + encryptor.finalize()
    return base64.b64encode(sealed).decode()
