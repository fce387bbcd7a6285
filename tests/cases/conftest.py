"""A community with everybody in it, and cases that went a long way."""

from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from tests.conftest import new_client
from tests.stories import Story, begin


@pytest.fixture(scope="module")
async def story(application: ASGIApp) -> AsyncIterator[Story]:
    """A community and everybody in it."""
    async with new_client(application) as client:
        yield await begin(client)
