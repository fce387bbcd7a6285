"""The outside systems of this process: opened when it starts, closed when it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp

from app import clock
from app.clients.http import in_process
from app.clients.outbound import Outbound
from app.clients.storage import Storage
from app.clients.wechat import WeChatClient
from app.imaging import Imaging
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_SECRET
from app.settings import WECHAT_API, settings

SANDBOX_PATH = "/_wechat"


class Outside:
    """Where services find storage, pictures and WeChat."""

    storage: Storage
    imaging: Imaging
    wechat: WeChatClient
    outbound: Outbound

    @asynccontextmanager
    async def opened(self, sandbox: ASGIApp | None = None) -> AsyncIterator[None]:
        """Everything at hand inside the block. A process without a `sandbox` uses the one that the server mounted."""
        self.storage, self.imaging = Storage(settings.media_location), Imaging()
        self.outbound = Outbound(settings.webhook_networks)
        self.wechat = _sandboxed(sandbox) if settings.sandbox_wechat else _real()
        try:
            yield
        finally:
            await self.wechat.aclose()
            self.storage.close()


def _real() -> WeChatClient:
    return WeChatClient(
        base_url=settings.wechat_api_base or WECHAT_API,
        appid=settings.wechat_appid,
        secret=settings.wechat_secret,
        monotonic=clock.monotonic,
    )


def _sandboxed(sandbox: ASGIApp | None) -> WeChatClient:
    return WeChatClient(
        base_url=settings.base_url + ("" if sandbox else SANDBOX_PATH),
        appid=SANDBOX_APPID,
        secret=SANDBOX_SECRET,
        monotonic=clock.monotonic,
        transport=in_process(sandbox) if sandbox else None,
    )


outside = Outside()
