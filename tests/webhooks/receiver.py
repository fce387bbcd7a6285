"""A receiver that writes down what it gets, verifies it with the independent library, and misbehaves on request."""

import asyncio
import json
from collections import defaultdict
from dataclasses import dataclass, field

import standardwebhooks

Answer = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class Received:
    """One verified message."""

    message_id: str
    timestamp: int
    body: bytes
    headers: dict[str, str]

    @property
    def data(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)["data"]
        return found


@dataclass(slots=True)
class Receiver:
    """A plain HTTP/1.1 server on loopback. `answers` are used up one by one, then 204."""

    secrets: list[str] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    unverified: int = 0
    connections: int = 0
    port: int = 0
    hang_seconds: float = 0
    drip: bool = False
    huge: bool = False
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def by_subject(self) -> dict[str, list[int]]:
        """The numbers of each subject in the order of their first arrival."""
        found: dict[str, list[int]] = defaultdict(list)
        for each in self.received:
            subject = each.data["subject"]
            seq = each.data["seq"]
            assert isinstance(subject, dict)
            assert isinstance(seq, int)
            if seq not in found[subject["id"]]:
                found[subject["id"]].append(seq)
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self._note(headers, body)
            await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _note(self, headers: dict[str, str], body: bytes) -> None:
        for secret in self.secrets:
            try:
                standardwebhooks.Webhook(secret).verify(body, headers)
            except standardwebhooks.WebhookVerificationError:
                self.unverified += 1
        message_id = headers["webhook-id"]
        self.received.append(Received(message_id, int(headers["webhook-timestamp"]), body, headers))

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.hang_seconds)
        status, headers, body = self.answers.pop(0) if self.answers else (204, {}, b"")
        if self.drip or self.huge:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n" if self.huge else b"1\r\nx\r\n"
            for _ in range(100_000):
                writer.write(chunk)
                await writer.drain()
                if self.drip:
                    await asyncio.sleep(1)
            return
        lines = [
            f"HTTP/1.1 {status} X",
            f"Content-Length: {len(body)}",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
