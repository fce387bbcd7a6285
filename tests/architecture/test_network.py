"""The tests themselves stay on this machine."""

import socket
import sys

import pytest

from app.settings import Settings, settings
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


def test_what_the_sandbox_pushes_reaches_no_server_of_the_developers() -> None:
    """The address that it pushes to is that of this process's settings, where nobody can listen by default."""
    assert settings.base_url == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        (Settings(port=8123), "http://127.0.0.1:8123"),
        (Settings(port=8123, public_url="https://a.example.cn/"), "https://a.example.cn"),
    ],
)
def test_a_server_pushes_to_its_own_address(chosen: Settings, wanted: str) -> None:
    assert chosen.base_url == wanted
