"""One world for the tests of a file, and quotas that nobody uses up."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from starlette.types import ASGIApp

from app.limits import Limiter
from app.settings import settings
from tests.conftest import new_client
from tests.contract.world import World, make_world

_PLENTY = "900000000/day"


@pytest.fixture(autouse=True, scope="module")
def plenty() -> Iterator[None]:
    """These tests ask more than any client; how quotas are counted is shown elsewhere."""
    quotas = {"rate_limit_caller": _PLENTY, "rate_limit_address": _PLENTY}
    limiter = Limiter(settings.model_copy(update=quotas))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.operation.limiter", limiter)
        patch.setattr("app.edge.limiter", limiter)
        yield


@pytest.fixture(scope="module")
async def world(application: ASGIApp) -> World:
    """Everybody, and everything that they could ask about."""
    return await make_world()


@pytest.fixture(scope="module")
async def wire(application: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """One client for a whole file."""
    async with new_client(application) as client:
        yield client
