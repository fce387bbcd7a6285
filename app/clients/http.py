"""The only module that knows the HTTP library, so that another one costs one line.

Every outgoing client is opened here.
"""

import functools
import logging
import ssl

import httpx
from starlette.types import ASGIApp

Client = httpx.AsyncClient
Response = httpx.Response
Transport = httpx.AsyncBaseTransport

RequestFailed = httpx.HTTPError
"""Any failure of one exchange: no connection, no answer in time, a broken answer."""

NeverSent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""Failures after which the other side certainly has not seen the request."""

# Both log every request line, and WeChat wants its secrets there.
logging.getLogger("httpx").setLevel(logging.WARNING)
logging.getLogger("httpcore").setLevel(logging.WARNING)


def open_client(base_url: str, *, transport: Transport | None = None) -> Client:
    """A client of one outside system: bounded, following no redirect, blind to proxy variables."""
    return Client(
        base_url=base_url,
        transport=transport,
        timeout=httpx.Timeout(5.0, connect=2.0, pool=2.0),
        limits=httpx.Limits(max_connections=32, max_keepalive_connections=16, keepalive_expiry=30.0),
        follow_redirects=False,
        trust_env=False,
    )


@functools.cache
def certificates() -> ssl.SSLContext:
    """How servers are verified. Reading all authorities takes longer than most requests: once per process."""
    return httpx.create_ssl_context(trust_env=False)


def in_process(application: ASGIApp) -> Transport:
    """Reach an ASGI application without a network; its crash is a 500, as it would be over one."""
    return httpx.ASGITransport(app=application, raise_app_exceptions=False)
