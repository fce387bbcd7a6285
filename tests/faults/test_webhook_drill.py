"""Ten thousand events, two hundred subjects, five receivers that fail, workers that are killed and paused."""

from pathlib import Path

import pytest

from tests.webhooks.drill import Size, assess, hold

pytestmark = pytest.mark.drill

LARGE = Size(events=10_000, subjects=200, endpoints=5, kills=5, pauses=3, lease_seconds=5, seconds=900)


async def test_everything_arrives_in_order_whatever_fails(tmp_path: Path) -> None:
    assess(await hold(LARGE, tmp_path), LARGE)
