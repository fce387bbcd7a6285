"""One story per file of tests: its people are shared, its hazards are each test's own."""

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
