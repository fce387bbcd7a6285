"""The WeChat rig as a fixture."""

from collections.abc import AsyncIterator

import pytest

from tests.wechat_rig import Rig, open_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with open_rig() as opened:
        yield opened
