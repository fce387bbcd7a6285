"""What comes in from outside and is used like anything else breaches no invariant of `jincai verify`."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app.clients.storage import Storage
from app.db import Database
from app.models.hazard_comments import HazardComment
from app.models.notifications import Notification
from app.models.staff import Role
from app.services.verification import CHECKS
from app.services.verification_checks import Probe
from app.settings import settings
from tests.api.test_open311 import V2, here
from tests.factories import Person, make_staff
from tests.stories import Story, begin

HOUR = timedelta(hours=1).total_seconds()
Breaches = Callable[[str], Awaitable[list[str]]]


@pytest.fixture
async def story(client: httpx.AsyncClient) -> Story:
    return await begin(client)


@pytest.fixture
async def admin(story: Story) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, story.places.district)


@pytest.fixture
def storage() -> Iterator[Storage]:
    storage = Storage(settings.media_location)
    yield storage
    storage.close()


@pytest.fixture
def breaches(db: Database, storage: Storage) -> Breaches:
    """What the verification says about one hazard, its comments and what people were told of it."""

    async def look(hazard_id: str) -> list[str]:
        async with db.reading() as session:
            names = {hazard_id}
            for row in (
                select(HazardComment.id).where(HazardComment.hazard_id == UUID(hazard_id)),
                select(Notification.id).where(Notification.subject_id == UUID(hazard_id)),
            ):
                names |= {str(each) for each in await session.scalars(row)}
            probe = Probe(session, storage, lambda done, total: None)
            lines = [line for check in CHECKS async for line in check.find(probe)]
        return [line for line in lines if any(name in line for name in names)]

    return look


async def test_a_report_by_open311_keeps_its_note_with_its_filing(
    story: Story, admin: Person, breaches: Breaches
) -> None:
    wanted = {"name": "open311", "scopes": ["reports:write"], "region_id": str(story.places.district)}
    key = (await story.post(admin, "/v1/api-keys", wanted)).json()["key"]
    given = {"api_key": key, "service_code": "garbage", "description": "垃圾", **here(story.places)}
    given |= {"media_url": "https://example.org/a.jpg", "phone": "19000001234"}
    answer = await story.client.post(f"{V2}/requests.json", data=given)
    assert answer.status_code == 201, answer.text
    hazard_id = answer.json()[0]["service_request_id"]
    assert await breaches(hazard_id) == []
    note = "phone: 19000001234\nmedia_url: https://example.org/a.jpg"
    (filed,) = (await story.get(story.worker, f"/v1/hazards/{hazard_id}/timeline"))["items"]
    assert (filed["type"], filed["text"]) == ("hazard.filed", note)
    public = await story.get(story.neighbour, f"/v1/hazards/{hazard_id}/timeline")
    assert note not in str(public)
