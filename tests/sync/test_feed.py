"""Who follows the feed by its cursor misses nothing, whatever commits late, and sees nothing of elsewhere."""

import asyncio
from uuid import UUID

import httpx
import pytest

from app.db import Database
from app.ids import new_id
from app.models.staff import Role
from app.settings import settings
from tests.factories import Places, make_staff
from tests.stories import complaints, problem
from tests.worker.chronicle import happen, new_subject, place_all, record

FEED = "/v1/events"


async def _key(client: httpx.AsyncClient, places: Places, region_id: UUID) -> dict[str, str]:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    body = {"name": "平台", "scopes": ["events:read"], "region_id": str(region_id)}
    made = (await client.post("/v1/api-keys", headers=admin.headers, json=body)).json()
    return {"X-API-Key": made["key"]}


async def _read(client: httpx.AsyncClient, key: dict[str, str], cursor: str | None) -> tuple[list[str], str]:
    query = {"limit": 100} | ({"cursor": cursor} if cursor else {})
    answer = await client.get(FEED, headers=key, params=query)
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["items"]], answer.json()["next_cursor"]


async def test_a_late_commit_is_not_missed(client: httpx.AsyncClient, db: Database, places: Places) -> None:
    """Twenty transactions overlap; each begins before and commits after others that a reader has already seen."""
    key = await _key(client, places, places.district)
    cursor: str | None = None
    seen: list[str] = []
    made: list[UUID] = []
    done = asyncio.Event()

    async def hold(number: int) -> None:
        subject = await new_subject(places.grid)
        async with db.transaction() as session:
            event_id = await record(session, subject)
            # On SQLite one writes at a time, and the others wait for it here.
            await asyncio.sleep(0 if settings.is_sqlite else 0.01 * (number * 7 % 20))
        made.append(event_id)

    async def follow() -> None:
        nonlocal cursor
        last = False
        while not last:
            last = done.is_set()
            await place_all({})
            found, cursor = await _read(client, key, cursor)
            seen.extend(found)

    following = asyncio.create_task(follow())
    await asyncio.gather(*(hold(number) for number in range(20)))
    done.set()
    await following
    assert sorted(seen) == sorted(map(str, made))
    found, same = await _read(client, key, cursor)
    assert (found, same) == ([], cursor)


async def test_the_feed_is_of_ones_own_region_and_of_the_types_asked_for(
    client: httpx.AsyncClient, places: Places
) -> None:
    near = await _key(client, places, places.street)
    event_id = await happen(await new_subject(places.grid), "region.updated")
    await happen(await new_subject(places.far_grid), "region.updated")
    await place_all({})
    found, _ = await _read(client, near, None)
    assert found == [str(event_id)]
    counted: tuple[tuple[list[str], int], ...] = (
        (["region."], 1),
        (["region.updated"], 1),
        (["hazard."], 0),
        (["hazard.filed"], 0),
        (["hazard.filed", "region.updated", "region."], 1),
    )
    for types, count in counted:
        answer = await client.get(FEED, headers=near, params={"type": types})
        assert len(answer.json()["items"]) == count, types
    bent = await client.get(FEED, headers=near, params={"cursor": new_id().hex})
    assert bent.status_code == 422


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (["nothing."], ("query.type.0", "unknown_event_type")),
        (["nothing.at_all"], ("query.type.0", "unknown_event_type")),
        (["hazard.filed", "hazard.field"], ("query.type.1", "unknown_event_type")),
        # Of audit alone, which nobody is sent.
        (["staff.created"], ("query.type.0", "unknown_event_type")),
        (["REGION."], ("query.type.0", "string_pattern_mismatch")),
        (["r__ion."], ("query.type.0", "unknown_event_type")),
        (["hazard.filed,hazard.closed"], ("query.type.0", "string_pattern_mismatch")),
        ([""], ("query.type.0", "string_pattern_mismatch")),
    ],
)
async def test_a_type_that_never_comes_is_no_question(
    client: httpx.AsyncClient, places: Places, types: list[str], wanted: tuple[str, str]
) -> None:
    """An empty page would look like an answer, and whoever misspelt a type would wait for ever."""
    key = await _key(client, places, places.district)
    answer = await client.get(FEED, headers=key, params={"type": types})
    assert complaints(problem(answer, 422, "invalid_input")) == [wanted]
