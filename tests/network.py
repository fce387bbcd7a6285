"""Keeps tests on this machine: whoever reaches for another address fails loudly."""

import ipaddress
import sys

_installed = False


class OutsideAddress(Exception):
    """A test tried to talk to another machine; not an OSError, so that no client takes it for a bad network."""


def stay_on_this_machine() -> None:
    """Refuse every connection and name look-up of this process but to the loopback addresses and Unix sockets."""
    global _installed
    if not _installed:
        sys.addaudithook(_watch)
        _installed = True


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise OutsideAddress(address)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and not _is_here(arguments[0]):
        raise OutsideAddress(arguments[0])


def _is_here(host: object) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(str(name)).is_loopback
    except ValueError:
        return False
