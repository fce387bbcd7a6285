"""Requests to addresses that other people gave us: resolved and judged each time, and only that address is dialled.

No redirects, no proxies, one deadline over everything, and no more of the answer than is needed.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, ip_address
from urllib.parse import urlsplit

import h11
import idna

from app import clock
from app.clients import http
from app.clients.addresses import Address, Network, is_dialable
from app.errors import InvalidInput

DEADLINE_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024
_EXCERPT_BYTES = 1024
_CHUNK_BYTES = 16 * 1024
_RESOLVERS = 32
_LONGEST_URL = 2_000
_PORTS = {443, 8443}
_PLAIN = re.compile(r"[!-~]+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]")


class UrlRefused(InvalidInput):
    """Not an ordinary public https address; which rule it breaks is in `detail`."""

    code = "url_refused"
    title_en, title_zh = "This URL is not allowed", "不允许使用该网址"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, read once."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What goes into the Host header."""
        standard = 443 if self.scheme == "https" else 80
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == standard else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request. `error` is a short word of ours, `excerpt` the cleaned beginning of the answer."""

    status: int | None
    error: str | None
    duration_ms: int
    excerpt: str | None = None
    retry_after: str | None = None

    @property
    def succeeded(self) -> bool:
        """2xx, and nothing else."""
        return self.status is not None and 200 <= self.status < 300


class Outbound:
    """The only way to dial what somebody else wrote down. `allowed` are networks that the operator trusts."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = allowed

    async def check(self, url: str) -> Target:
        """Read and resolve a URL; raises UrlRefused unless every address behind it is an ordinary public one."""
        target = _read(url, plain_allowed=bool(self._allowed))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await self._resolve(target)
        except TimeoutError:
            raise _unresolved() from None
        return target

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send, judged anew. Never raises for what the other side does."""
        began = clock.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                target = _read(url, plain_allowed=bool(self._allowed))
                address = (await self._resolve(target))[0]
                return await _send(target, address, headers, body, began)
        except UrlRefused:
            return Outcome(None, "url_refused", _since(began))
        except TimeoutError:
            return Outcome(None, "timeout", _since(began))
        except ssl.SSLError:
            return Outcome(None, "tls_error", _since(began))
        except h11.ProtocolError:
            return Outcome(None, "protocol_error", _since(began))
        except (OSError, ValueError):
            return Outcome(None, "connect_error", _since(began))

    async def get(self, url: str, most: int) -> bytes | None:
        """What a URL gives, judged like everything we dial, cut off behind `most` bytes; None when it cannot be had."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                target = _read(url, plain_allowed=bool(self._allowed))
                address = (await self._resolve(target))[0]
                answer, content = await _exchange(target, address, "GET", {}, b"", most)
        except (UrlRefused, OSError, ValueError, h11.ProtocolError):
            return None
        return content if answer.status_code == 200 else None

    async def _resolve(self, target: Target) -> list[Address]:
        addresses = await _names.look_up(target.host, target.port)
        if not addresses or not all(self._may_dial(address) for address in addresses):
            raise _refused("it leads to an address that is not public", "指向非公网地址")
        if target.scheme == "http" or target.port not in _PORTS:
            trusted = [network for network in self._allowed if addresses[0] in network]
            if not trusted:
                raise _refused(
                    "only https on port 443 or 8443 is allowed", "仅允许 https 的 443 或 8443 端口"
                )
        return addresses

    def _may_dial(self, address: Address) -> bool:
        if any(address in network for network in self._allowed):
            return True
        return is_dialable(address) and not _is_own(address)


class _Names:
    """Asks the system's resolver on threads of its own, one per name at a time: names that hang delay no others."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="names")
        self._asking: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def look_up(self, host: str, port: int) -> list[Address]:
        """Every address behind a name, asked now; raises UrlRefused when there is none."""
        with contextlib.suppress(ValueError):
            # The usual form of an address leads to itself; of its other forms the resolver knows more than we.
            return [IPv4Address(host)]
        loop, key = asyncio.get_running_loop(), (host, port)
        asking = self._asking.get(key)
        if asking is None or asking.get_loop() is not loop:
            asking = self._asking[key] = loop.run_in_executor(self._threads, _addresses_of, host, port)
            asking.add_done_callback(partial(self._answered, key))
        try:
            return await asyncio.shield(asking)
        except (OSError, UnicodeError, ValueError):
            raise _unresolved() from None

    def _answered(self, key: tuple[str, int], asking: asyncio.Future[list[Address]]) -> None:
        self._asking.pop(key, None)
        if not asking.cancelled():
            # Whoever asked may have stopped waiting: then nobody else looks at it.
            asking.exception()


_names = _Names()


def _addresses_of(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ip_address(str(entry[4][0])) for entry in found]


def _is_own(address: Address) -> bool:
    """Whether this machine has the address: only such a one can be bound. Nothing is sent."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def _unresolved() -> UrlRefused:
    return _refused("the name cannot be resolved", "域名无法解析")


def _read(url: str, *, plain_allowed: bool) -> Target:
    """Strict on purpose: what browsers forgive, attackers use."""
    if len(url) > _LONGEST_URL or not _is_plain(url):
        raise _refused("it has characters that do not belong into a URL", "含有非法字符")
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError:
        raise _refused("it cannot be read", "无法解析") from None
    if parts.scheme not in (("https", "http") if plain_allowed else ("https",)):
        raise _refused("only https is allowed", "仅允许 https")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not host or "@" in parts.netloc or parts.fragment or "\\" in url or not path.isascii():
        raise _refused(
            "a host and an encoded path are needed, and neither user nor fragment",
            "必须包含主机名和已编码的路径，且不得包含用户信息或片段",
        )
    return Target(parts.scheme, _ascii_host(host), port or (443 if parts.scheme == "https" else 80), path)


def _is_plain(url: str) -> bool:
    return _PLAIN.fullmatch(url.encode("ascii", "ignore").decode()) is not None and not any(
        char.isspace() or ord(char) < 0x21 for char in url
    )


def _ascii_host(host: str) -> str:
    """IDNA 2008 with the mapping of UTS 46; numbers stay numbers and are judged after they are resolved."""
    if ":" in host:
        return host
    try:
        return idna.encode(host.rstrip("."), uts46=True).decode()
    except idna.IDNAError:
        raise _refused("the host name is not valid", "主机名无效") from None


async def _send(
    target: Target, address: Address, headers: Mapping[str, str], body: bytes, began: float
) -> Outcome:
    answer, content = await _exchange(target, address, "POST", headers, body, MAX_ANSWER_BYTES)
    return Outcome(
        answer.status_code,
        None,
        _since(began),
        _clean(content[:_EXCERPT_BYTES]),
        next((value.decode("latin-1") for name, value in answer.headers if name == b"retry-after"), None),
    )


async def _exchange(
    target: Target, address: Address, method: str, headers: Mapping[str, str], body: bytes, most: int
) -> tuple[h11.Response, bytes]:
    """One request over a connection of its own: nothing is reused, resolved again or followed."""
    secure = target.scheme == "https"
    reader, writer = await asyncio.open_connection(
        str(address),
        target.port,
        ssl=http.certificates() if secure else None,
        server_hostname=target.host if secure else None,
    )
    try:
        if ip_address(writer.get_extra_info("peername")[0]) != address:
            raise ConnectionError
        protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_ANSWER_BYTES)
        writer.write(_request(protocol, target, method, headers, body))
        return await _answer(protocol, reader, most)
    finally:
        writer.transport.abort()


def _request(
    protocol: h11.Connection, target: Target, method: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    content = {"Content-Type": "application/json", "Content-Length": str(len(body))} if body else {}
    sent = {
        "Host": target.authority,
        "User-Agent": "jincai-webhooks",
        **content,
        "Connection": "close",
        **headers,
    }
    request = h11.Request(method=method, target=target.path, headers=list(sent.items()))
    parts = (request, *([h11.Data(body)] if body else []), h11.EndOfMessage())
    return b"".join(protocol.send(part) or b"" for part in parts)


async def _answer(
    protocol: h11.Connection, reader: asyncio.StreamReader, most: int
) -> tuple[h11.Response, bytes]:
    """The head of the answer and the beginning of its body, undecoded; no more than about `most` bytes are read."""
    answer: h11.Response | None = None
    content, taken = bytearray(), 0
    while taken < most:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(_CHUNK_BYTES)
            taken += len(data)
            protocol.receive_data(data)
        elif isinstance(event, h11.Response):
            answer = event
        elif isinstance(event, h11.Data):
            content += event.data
        elif not isinstance(event, h11.InformationalResponse):
            break
    if answer is None:
        raise h11.RemoteProtocolError("no answer")
    return answer, bytes(content)


def _clean(content: bytes) -> str:
    return _UNPRINTABLE.sub(" ", content.decode("utf-8", "replace")).strip()


def _since(began: float) -> int:
    return round((clock.monotonic() - began) * 1000)


def _refused(english: str, chinese: str) -> UrlRefused:
    return UrlRefused.of(("body", "url"), UrlRefused.code, english, chinese)
