"""Everything that is stored about a resident comes out on request, lies nowhere in the open, and really goes."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest
from sqlalchemy import ColumnElement, func, select

from app import leases, outbox
from app.db import database
from app.models.events import Event
from app.models.hazard_comments import HazardSupport
from app.models.notifications import MessageQuota, Notification
from app.models.residents import Consent, Resident
from app.models.reveals import Reveal
from app.models.sessions import LoginSession, PrincipalKind
from app.services import personal_data, residents
from tests import canaries
from tests.residents import Told, tell_everything
from tests.stories import Story, begin, events_of, pictures, problem, row_of


@dataclass(frozen=True)
class Life:
    """Two residents of one building who told, reported and wrote all they could."""

    story: Story
    told: Told
    other: Told
    hazard_id: str
    other_hazard_id: str
    written: tuple[str, ...]
    description: str
    other_written: tuple[str, ...]
    unused_picture: str

    @property
    def client(self) -> httpx.AsyncClient:
        return self.story.client

    @property
    def private(self) -> tuple[str, ...]:
        """Whatever must not outlive the resident."""
        return (*self.told.secrets, *self.written)

    async def export(self) -> httpx.Response:
        return await self.client.get("/v1/me/export", headers=self.told.person.headers)

    async def leave(self) -> None:
        response = await self.client.delete("/v1/me", headers=self.told.person.headers)
        assert (response.status_code, response.content) == (204, b"")


@pytest.fixture
async def life(client: httpx.AsyncClient) -> Life:
    story = await begin(client)
    told = await tell_everything(client, story.reporter, story.places.building)
    other = await tell_everything(client, story.neighbour, story.places.building)
    mark, other_mark = secrets.token_hex(6), secrets.token_hex(6)
    written = tuple(f"{what}{mark}" for what in ("门牌", "评论", "异议", "评价", "理由"))
    place, comment, dispute, praise, reason = written
    description = f"路灯整夜不亮{mark}"
    hazard = await story.file(description=description, address=place, anonymous=False)
    hazard_id = hazard["id"]
    other_place, other_comment = f"门牌{other_mark}", f"评论{other_mark}"
    other_hazard = await story.file(story.neighbour, address=other_place)
    await story.post(story.neighbour, f"/v1/hazards/{hazard_id}/support", key="support-1")
    await story.take(story.reporter, other_hazard["id"], "support")
    await story.post(story.worker, f"/v1/hazards/{hazard_id}/accept", key="accept-1")
    await story.post(story.reporter, f"/v1/hazards/{hazard_id}/comments", {"text": comment}, key="say-1")
    await story.take(story.neighbour, hazard_id, "comments", {"text": other_comment})
    await story.resolve(hazard_id)
    await story.dispute(hazard_id, dispute)
    await story.resolve(hazard_id)
    await story.take(story.reporter, hazard_id, "rate", {"score": 2, "comment": praise})
    reveal = {"fields": ["phone", "address"], "reason": reason}
    path = f"/v1/residents/{told.person.id}/reveal"
    assert (await story.post(story.manager, path, reveal, key="reveal-1")).status_code == 200
    confirmed = await story.post(story.manager, f"/v1/households/{told.household_id}/confirm", key="home-1")
    assert confirmed.status_code == 200
    [unused] = await pictures(story.reporter)
    await _tell(told.person.id, hazard_id)
    return Life(
        story,
        told,
        other,
        hazard_id,
        other_hazard["id"],
        written,
        description,
        (other_place, other_comment),
        unused,
    )


async def _tell(resident_id: UUID, hazard_id: str) -> None:
    """What the worker would have told the resident by now."""
    async with database.transaction() as session:
        about = select(Event.id).where(Event.subject_id == UUID(hazard_id), Event.type == "hazard.accepted")
        notification = Notification(
            recipient_kind=PrincipalKind.RESIDENT,
            recipient_id=resident_id,
            event_id=(await session.scalars(about)).one(),
            type="hazard.accepted",
            subject_kind="hazards",
            subject_id=UUID(hazard_id),
        )
        session.add(notification)
        session.add(MessageQuota(resident_id=resident_id, template_id="template", remaining=2))


async def count(*conditions: ColumnElement[bool]) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(*conditions)) or 0


# --- At rest ----------------------------------------------------------------------------------------------------


async def test_nothing_personal_lies_open_in_the_database(life: Life) -> None:
    planted = (*life.private, life.description)
    assert await canaries.lying_open(*planted) == set()
    assert {canary for canary, _ in await canaries.anywhere(*planted)} == set(planted)


# --- Export -----------------------------------------------------------------------------------------------------


async def test_the_export_has_everything_of_the_subject_and_nothing_of_others(life: Life) -> None:
    response = await life.export()
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].startswith("attachment")
    assert [each for each in (*life.private, life.description) if each not in response.text] == []
    assert [each for each in (*life.other.secrets, *life.other_written) if each in response.text] == []
    staff = (life.story.worker, life.story.manager)
    assert [person.username for person in staff if person.username in response.text] == []
    assert [str(person.id) for person in (*staff, life.other.person) if str(person.id) in response.text] == []


async def test_the_export_is_complete(life: Life) -> None:
    answer = (await life.export()).json()
    assert answer["profile"]["phone"] == life.told.phone
    assert [each["address"] for each in answer["households"]] == [life.told.address]
    assert [each["id"] for each in answer["hazards"]] == [life.hazard_id]
    assert (answer["hazards"][0]["rating"], len(answer["comments"])) == (2, 2)
    assert [each["hazard_id"] for each in answer["supports"]] == [life.other_hazard_id]
    assert {each["purpose"] for each in answer["consents"]} == {"contact_phone", "identity"}
    assert {each["hazard_id"] for each in answer["pictures"]} == {life.hazard_id, None}
    assert [each["subject"]["id"] for each in answer["notifications"]] == [life.hazard_id]
    assert answer["message_quotas"] == [{"template_id": "template", "remaining": 2}]
    assert len(answer["sessions"]) == 1
    [look] = answer["access_log"]
    assert (look["role"], look["fields"]) == ("community_manager", ["address", "phone"])
    assert {"resident.phone_bound", "household.claimed", "hazard.filed"} <= {
        each["type"] for each in answer["history"]
    }


# --- Deletion ---------------------------------------------------------------------------------------------------


async def test_after_deletion_no_word_of_the_person_is_left(life: Life) -> None:
    assert {canary for canary, _ in await canaries.anywhere(*life.private)} == set(life.private)
    await life.leave()
    assert await canaries.anywhere(*life.private) == set()
    others = (*life.other.secrets, *life.other_written)
    assert {canary for canary, _ in await canaries.anywhere(*others)} == set(others)


async def test_the_case_goes_on_without_the_person(life: Life) -> None:
    before = await row_of(life.other_hazard_id)
    await life.leave()
    hazard = await life.story.get(life.story.worker, f"/v1/hazards/{life.hazard_id}")
    assert (hazard["description"], hazard["status"]) == (life.description, "resolved")
    assert (hazard["reporter"], hazard["reporter_name"], hazard["address"]) == (None, None, None)
    assert (hazard["rating"], len(hazard["photos"])) == (2, 1)
    comments = await life.story.get(life.story.worker, f"/v1/hazards/{life.hazard_id}/comments")
    assert {each["text"] for each in comments["items"] if each["author_kind"] == "resident"} == {
        None,
        life.other_written[1],
    }
    after = await row_of(life.other_hazard_id)
    rows = await count(HazardSupport.hazard_id == after.id)
    assert after.supporters == before.supporters == rows == 1
    assert (await events_of(life.hazard_id))[0] == "hazard.filed"


async def test_nothing_points_to_the_person(life: Life) -> None:
    who = life.told.person.id
    await life.leave()
    assert await count(LoginSession.principal_id == who) == 0
    assert await count(Notification.recipient_id == who) == 0
    assert await count(MessageQuota.resident_id == who) == 0
    assert await count(Consent.resident_id == who, Consent.withdrawn_at.is_(None)) == 0
    assert await count(Reveal.resident_id == who, Reveal.reason_sealed.is_(None)) == 1
    async with database.reading() as session:
        row = await session.get_one(Resident, who)
    assert row.deleted_at is not None
    assert {row.openid_index, row.phone_index, row.id_number_index, row.community_id} == {None}
    gone = await life.client.get(f"/v1/residents/{who}", headers=life.story.manager.headers)
    problem(gone, 404, "not_found")
    reporter = await life.story.step(
        life.story.worker,
        life.hazard_id,
        "reveal-reporter",
        {"fields": ["phone"], "reason": "需要联系上报人"},
    )
    problem(reporter, 409, "no_reporter")


async def test_the_person_is_signed_out_at_once_and_comes_back_as_somebody_new(life: Life) -> None:
    person = life.told.person
    await life.leave()
    problem(await life.client.get("/v1/me", headers=person.headers), 401, "unauthenticated")
    renewed = await life.client.post("/v1/sessions/refresh", json={"refresh_token": person.refresh_token})
    assert renewed.status_code == 401
    async with database.transaction() as session:
        assert await residents.find_or_create(session, life.told.openid, None) != person.id


async def test_a_repeated_key_does_not_bring_the_data_back(life: Life) -> None:
    story = life.story
    reveal = {"fields": ["phone", "address"], "reason": life.written[4]}
    path = f"/v1/residents/{life.told.person.id}/reveal"
    shown = await story.post(story.manager, path, reveal, key="reveal-1")
    assert shown.headers["Idempotent-Replayed"] == "true"
    assert (shown.json()["phone"], shown.json()["addresses"]) == (None, None)
    await life.leave()
    accepted = await story.post(story.worker, f"/v1/hazards/{life.hazard_id}/accept", key="accept-1")
    assert accepted.headers["Idempotent-Replayed"] == "true"
    assert (accepted.json()["address"], accepted.json()["reporter"]) == (None, None)


async def test_two_deletions_at_once_are_one(life: Life) -> None:
    headers = life.told.person.headers
    answers = await asyncio.gather(*(life.client.delete("/v1/me", headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {204, 401}
    assert 204 in {answer.status_code for answer in answers}
    caller = await life.story.neighbour.caller()
    async with database.transaction() as session:
        await personal_data.delete_me(session, caller)
    async with database.transaction() as session:
        await personal_data.delete_me(session, caller)
    async with database.reading() as session:
        row = await session.get_one(Resident, caller.id)
    assert row.deleted_at is not None


async def test_what_came_in_at_the_same_moment_goes_a_little_later(
    life: Life, advance: Callable[[float], None]
) -> None:
    await life.leave()
    await _tell(life.told.person.id, life.hazard_id)
    assert not await _sweep(life.told)
    advance(121)
    assert await _sweep(life.told)
    assert await count(Notification.recipient_id == life.told.person.id) == 0


async def test_those_who_stay_are_not_swept(life: Life) -> None:
    async with database.transaction() as session:
        await outbox.enqueue(session, personal_data.ERASE, {"resident_id": str(life.told.person.id)})
    assert await _sweep(life.told)
    assert await count(Notification.recipient_id == life.told.person.id) == 1


async def _sweep(told: Told) -> bool:
    """Do what the worker would do now; whether this resident was among it."""
    due = await leases.claim([personal_data.ERASE], 100)
    for lease in due:
        await personal_data.erase_stragglers(lease)
    return str(told.person.id) in {lease.payload["resident_id"] for lease in due}
