"""The webhook drill, small enough for every run of the suite; `make drill` holds the large one."""

from pathlib import Path

from tests.webhooks.drill import Size, assess, hold

SMALL = Size(events=200, subjects=40, endpoints=3, kills=1, pauses=1, lease_seconds=1, seconds=180)


async def test_everything_arrives_in_order_whatever_fails(tmp_path: Path) -> None:
    assess(await hold(SMALL, tmp_path), SMALL)
