"""A resolver for tests: names that it was told, and every notation of a number that the C library understands."""

import ipaddress
import socket
import sys
import threading
from collections import deque

import pytest

_dialled: list[str] = []
_watching = False


class Resolver:
    """Stands in for the network's name service. `answers[name]` are used up one by one, the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, deque[list[str]]] = {}
        self.asked: list[str] = []
        self.hanging: set[str] = set()
        self.hang_seconds = 5.0
        self.released = threading.Event()

    def tell(self, name: str, *answers: list[str]) -> None:
        """What to answer when asked for `name`: the addresses of the first time, of the second and so on."""
        self.answers[name] = deque(answers)

    def getaddrinfo(
        self, host: str, port: int, **_: object
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """As the C library's; a name in `hanging` is never answered before `hang_seconds` are over."""
        self.asked.append(host)
        if host in self.hanging:
            self.released.wait(self.hang_seconds)
        return [
            (
                socket.AF_INET6 if ":" in found else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (found, port),
            )
            for found in self._find(host)
        ]

    def _find(self, host: str) -> list[str]:
        if host in self.answers:
            waiting = self.answers[host]
            return waiting.popleft() if len(waiting) > 1 else waiting[0]
        if host == "localhost":
            return ["127.0.0.1"]
        try:
            return [socket.inet_ntoa(socket.inet_aton(host))]
        except OSError:
            pass
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "unknown") from None


def install(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Let this process ask the resolver that is returned."""
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    return resolver


def dialled() -> list[str]:
    """The list that every address dialled by this process is added to, as `host:port`."""
    global _watching
    if not _watching:
        sys.addaudithook(_watch)
        _watching = True
    _dialled.clear()
    return _dialled


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and isinstance(address := arguments[1], tuple):
        _dialled.append(f"{address[0]}:{address[1]}")
