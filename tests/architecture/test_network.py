"""The tests themselves stay on this machine."""

import socket
import sys

import pytest

from tests.network import OutsideAddress


@pytest.mark.parametrize("host", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "api.weixin.qq.com"])
def test_other_machines_are_out_of_reach(host: str) -> None:
    """Raising the event alone: should the guard fail, nothing is sent."""
    with socket.socket() as unconnected, pytest.raises(OutsideAddress):
        sys.audit("socket.connect", unconnected, (host, 443))
    with pytest.raises(OutsideAddress):
        sys.audit("socket.getaddrinfo", host, 443, 0, 0, 0)


def test_this_machine_is_in_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass
