"""What comes in from outside and is used like anything else breaches no invariant of `jincai verify`."""

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import select

from app import clock
from app.clients.storage import Storage
from app.db import Database
from app.models.hazard_comments import HazardComment
from app.models.hazards import HazardStatus
from app.models.notifications import Notification
from app.models.residents import Resident
from app.models.staff import Role
from app.models.sync import SyncCase
from app.services.verification import CHECKS
from app.services.verification_checks import Probe
from app.settings import settings
from tests.api.test_open311 import V2, here
from tests.cases.papers import elsewhere, lasting, paper
from tests.factories import Person, make_staff
from tests.stories import Story, begin
from tests.sync.test_district_events import apply, region_code, send
from tests.sync.test_district_events import story as district_story
from tests.worker.chronicle import place_all

S = HazardStatus
HOUR = 3600.0
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


@pytest.mark.parametrize("outcome", ["fixed", "unfixed"])
@pytest.mark.parametrize("status", [S.FILED, S.ACCEPTED, S.CALLED, S.DISPATCHED, S.CHECKED_IN, S.RESOLVED])
async def test_what_the_district_closes_is_whole_and_goes_round(
    story: Story, admin: Person, db: Database, breaches: Breaches, status: HazardStatus, outcome: str
) -> None:
    """Wherever the case is: taken by nobody, at a department, or resolved."""
    hazard_id = await story.hazard(status)
    await _tell(story, db, hazard_id, 1, "case.closed", {"outcome": outcome})
    assert await breaches(hazard_id) == []
    document = await paper(story, hazard_id)
    taken = (document["case"]["accepted_at"], document["case"]["handler"])
    assert (document["case"]["status"], taken == (None, None)) == ("closed", status is S.FILED)
    copy = elsewhere(document)
    answer = await story.post(admin, "/v1/cases", copy)
    assert answer.status_code == 201, answer.text
    assert lasting(await paper(story, copy["case"]["id"])) == lasting(copy)
    assert await breaches(copy["case"]["id"]) == []
    await _tell(story, db, hazard_id, 2, "case.returned", {"reason": "次日复查又熄灭"})
    assert await breaches(hazard_id) == []


async def test_what_nobody_took_is_filed_again_when_the_district_returns_it(
    story: Story, db: Database, breaches: Breaches
) -> None:
    case = f"D-{uuid4().hex[:12]}"
    created, _, _, closed, returned = district_story(case, await region_code(db, story.places))
    for seq, body in enumerate((created, closed, returned), start=1):
        assert (await send(story.client, body | {"seq": seq})).status_code == 202
    await apply(db, case)
    async with db.reading() as session:
        hazard_id = str(await session.scalar(select(SyncCase.hazard_id).where(SyncCase.case_key == case)))
    assert (await story.get(story.manager, f"/v1/hazards/{hazard_id}"))["status"] == "filed"
    assert await breaches(hazard_id) == []


async def test_the_reporter_of_an_imported_case_is_a_stranger_and_nobody_who_left(
    story: Story, admin: Person, breaches: Breaches, advance: Callable[[float], None]
) -> None:
    """Hours after the import, too, and after the case went on here; no stranger is told of it."""
    hazard_id = await story.hazard(S.ACCEPTED)
    for who in (story.reporter, story.neighbour):
        await story.take(who, hazard_id, "comments", {"text": "还在堵着"})
    await story.take(story.neighbour, hazard_id, "support")
    copy = elsewhere(await paper(story, hazard_id))
    answer = await story.post(admin, "/v1/cases", copy)
    assert answer.status_code == 201, answer.text
    imported = copy["case"]["id"]
    await story.take(story.manager, imported, "assign", {"staff_id": str(story.worker.id)})
    await story.call(imported)
    await place_all()
    advance(2 * HOUR)
    assert await breaches(imported) == []


async def test_who_left_is_found_where_a_case_was_imported_as_well(
    story: Story, admin: Person, db: Database, breaches: Breaches, advance: Callable[[float], None]
) -> None:
    copy = elsewhere(await paper(story, await story.hazard(S.ACCEPTED)))
    assert (await story.post(admin, "/v1/cases", copy)).status_code == 201
    imported = copy["case"]["id"]
    await story.take(story.neighbour, imported, "comments", {"text": "我家也走不通"})
    async with db.transaction() as session:
        (await session.get_one(Resident, story.neighbour.id)).deleted_at = clock.now()
    advance(2 * HOUR)
    (line,) = await breaches(imported)
    assert line.endswith("the words of somebody who left")


async def _tell(story: Story, db: Database, case: str, seq: int, kind: str, data: dict[str, object]) -> None:
    """What the district says about a case, and that it is done."""
    at = datetime.now(UTC).isoformat()
    body = {"type": kind, "case": case, "seq": seq, "occurred_at": at, "data": data}
    assert (await send(story.client, body)).status_code == 202
    async with db.reading() as session:
        key = await session.scalar(select(SyncCase.case_key).where(SyncCase.hazard_id == UUID(case)))
    await apply(db, str(key))
