"""A real server with reports in it, for clients that were written without looking at ours."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from app import server
from app.geo import Point, wgs84_from_gcj02
from app.models.staff import Role
from app.settings import settings
from tests.factories import Places, make_regions, make_staff
from tests.stories import show_to_public


@dataclass(frozen=True)
class Served:
    """Where the server is, a key for it, and a place of which it knows the community."""

    url: str
    key: str
    places: Places

    @property
    def discovery(self) -> str:
        """The only address that a client has to be told, without its suffix."""
        return f"{self.url}/open311/discovery"

    @property
    def form(self) -> dict[str, str]:
        """A report that is taken."""
        point = wgs84_from_gcj02(Point(*self.places.centres[self.places.grid]))
        return {
            "api_key": self.key,
            "service_code": "garbage",
            "description": "垃圾 <b>&amp; co</b> 🗑\n第二行",
            "lat": f"{point.lat:.6f}",
            "long": f"{point.lng:.6f}",
        }


@pytest.fixture(scope="module")
async def served(application: ASGIApp) -> AsyncIterator[Served]:
    """The application that the session has started, behind a port."""
    configuration = server.configuration(port=0, app=application)
    configuration.lifespan = "off"
    running = uvicorn.Server(configuration)
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "public_url", url)
        yield await _populated(url)
    running.should_exit = True
    await task


async def _populated(url: str) -> Served:
    """With two requests that everybody may see, of different services."""
    places = await make_regions()
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    order = {"name": "open311", "scopes": ["reports:write"], "region_id": str(places.district)}
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        key = (await client.post("/v1/api-keys", headers=admin.headers, json=order)).json()["key"]
        served = Served(url, key, places)
        for service_code in ("garbage", "elevator_fault"):
            form = served.form | {"service_code": service_code}
            answer = await client.post("/open311/v2/requests.json", data=form)
            await show_to_public(answer.json()[0]["service_request_id"])
    return served
