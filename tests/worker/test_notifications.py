"""Who is told of what, once each, and who reads it."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

import pytest
import time_machine
from sqlalchemy import delete, select, update

from app.db import database
from app.models.events import Event
from app.models.hazards import HazardStatus
from app.models.notifications import Notification, NotificationStatus
from app.models.sessions import PrincipalKind
from app.models.staff import Role, Staff, StaffStatus
from app.models.subscriptions import Subscription, SubscriptionKind
from app.services import hazard_deadlines, notifications
from tests.factories import Person, make_organisation, make_resident, make_staff
from tests.stories import Story, problem, row_of
from tests.worker.chronicle import place_all


@pytest.fixture(autouse=True)
async def _no_followers_from_elsewhere(story: Story) -> None:
    """Whoever follows a category in another test follows it here too."""
    async with database.transaction() as session:
        await session.execute(
            delete(Subscription).where(
                Subscription.kind == SubscriptionKind.CATEGORY, Subscription.region_id.is_(None)
            )
        )


async def _told(hazard_id: str, type_: str) -> Counter[UUID]:
    """Who was told of the events of a type about a hazard, and how often."""
    await place_all()
    async with database.reading() as session:
        rows = await session.scalars(
            select(Notification.recipient_id).where(
                Notification.subject_id == UUID(hazard_id), Notification.type == type_
            )
        )
        return Counter(rows)


def _once(*people: Person) -> Counter[UUID]:
    return Counter(person.id for person in people)


async def test_a_report_goes_to_those_on_duty_there_and_to_nobody_else(story: Story) -> None:
    await make_staff(Role.GRID_WORKER, story.places.other_grid)
    await make_staff(Role.GRID_WORKER, story.places.neighbour)
    gone = await make_staff(Role.GRID_WORKER, story.places.grid)
    async with database.transaction() as session:
        await session.execute(update(Staff).where(Staff.id == gone.id).values(status=StaffStatus.DISABLED))
    hazard_id = await story.hazard(HazardStatus.FILED)
    # Before the worker gets to it, as after a crash.
    await story.take(story.neighbour, hazard_id, "support")
    assert await _told(hazard_id, "hazard.filed") == _once(story.worker, story.colleague, story.manager)


async def test_the_reporter_and_supporters_are_told_of_every_step(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    await story.take(story.neighbour, hazard_id, "support")
    for take in (story.accept, story.call, story.dispatch, story.check_in):
        await take(hazard_id)
    await story.resolve(hazard_id, story.officer)
    for step in ("accepted", "called", "dispatched", "checked_in", "resolved"):
        told = await _told(hazard_id, f"hazard.{step}")
        assert told[story.reporter.id] == told[story.neighbour.id] == 1, step
    await story.confirm(hazard_id)
    assert await _told(hazard_id, "hazard.confirmed") == _once(story.neighbour)


async def test_the_chain_tells_whoever_has_to_act_next(story: Story) -> None:
    residents = {story.reporter.id, story.neighbour.id}
    await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=await make_organisation(story.places.district))
    hazard_id = await story.hazard(HazardStatus.CALLED)
    assert (await _told(hazard_id, "hazard.called")).keys() - residents == {story.dispatcher.id}
    await story.dispatch(hazard_id, story.department, story.second_department)
    officers = {story.officer.id, story.second_officer.id}
    assert (await _told(hazard_id, "hazard.dispatched")).keys() - residents == officers
    await story.refuse(hazard_id)
    assert (await _told(hazard_id, "hazard.refused")).keys() - residents == {story.dispatcher.id}
    await story.dispatch(hazard_id)
    await story.check_in(hazard_id)
    await story.resolve(hazard_id, story.officer)
    await story.dispute(hazard_id)
    assert await _told(hazard_id, "hazard.disputed") == _once(story.worker, story.officer)


async def test_nobody_is_told_what_they_did_and_staff_matters_stay_with_staff(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    note = {"text": "电话联系过物业", "visibility": "internal"}
    await story.take(story.colleague, hazard_id, "comments", note)
    assert await _told(hazard_id, "hazard.noted") == Counter()
    await story.take(story.reporter, hazard_id, "comments", {"text": "谢谢"})
    told = await _told(hazard_id, "hazard.commented")
    assert story.reporter.id not in told
    assert told[story.worker.id] == 1


async def test_deadlines_are_told_to_the_handler_the_level_and_those_above(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED, category="gas_leak")
    due_at = (await row_of(hazard_id)).due_at
    assert due_at is not None
    for sweep, at in (
        (hazard_deadlines.sweep_warnings, due_at - timedelta(seconds=1)),
        (hazard_deadlines.sweep_escalations, due_at),
    ):
        with time_machine.travel(at, tick=False):
            async with database.transaction() as session:
                await sweep(session)
    community = (story.worker, story.colleague, story.manager)
    assert await _told(hazard_id, "hazard.deadline_warned") == _once(*community)
    assert await _told(hazard_id, "hazard.escalated") == _once(*community, story.dispatcher)


async def test_an_event_that_is_handled_again_tells_nobody_twice(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    before = await _told(hazard_id, "hazard.accepted")
    async with database.transaction() as session:
        batch = list(await session.scalars(select(Event).where(Event.subject_id == UUID(hazard_id))))
        await notifications.tell(session, batch)
    assert await _told(hazard_id, "hazard.accepted") == before == _once(story.reporter)


async def test_what_staff_are_told_has_arrived(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    await place_all()
    async with database.reading() as session:
        states = await session.scalars(
            select(Notification.status).where(
                Notification.subject_id == UUID(hazard_id),
                Notification.recipient_kind == PrincipalKind.STAFF,
            )
        )
        assert set(states) == {NotificationStatus.SENT}


async def test_my_notifications_are_mine_newest_first_in_pages(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    await story.take(story.worker, hazard_id, "comments", {"text": "明天处理"})
    await place_all()
    first = await story.get(story.reporter, "/v1/me/notifications", limit=1)
    second = await story.get(story.reporter, "/v1/me/notifications", limit=1, cursor=first["next_cursor"])
    assert [page["items"][0]["type"] for page in (first, second)] == ["hazard.commented", "hazard.accepted"]
    assert first["items"][0]["subject"] == {"kind": "hazards", "id": hazard_id}
    assert first["items"][0]["read_at"] is None


async def test_reading_counts_once_and_only_for_me(story: Story) -> None:
    await story.hazard(HazardStatus.ACCEPTED)
    await place_all()
    newest = (await story.get(story.reporter, "/v1/me/notifications", limit=1))["items"][0]
    path = f"/v1/me/notifications/{newest['id']}/read"
    problem(await story.post(story.neighbour, path), 404, "not_found")
    problem(await story.post(story.worker, path), 404, "not_found")
    read = (await story.post(story.reporter, path)).json()
    assert read["read_at"] is not None
    assert (await story.post(story.reporter, path)).json() == read
    unread = await story.get(story.reporter, "/v1/me/notifications", unread=True, limit=100)
    assert newest["id"] not in [item["id"] for item in unread["items"]]


async def test_a_handler_who_was_let_go_is_not_told(story: Story) -> None:
    gone = await make_staff(Role.GRID_WORKER, story.places.grid)
    hazard_id = await story.hazard(HazardStatus.FILED)
    await story.accept(hazard_id, gone)
    async with database.transaction() as session:
        await session.execute(update(Staff).where(Staff.id == gone.id).values(status=StaffStatus.DISABLED))
    await story.take(story.reporter, hazard_id, "comments", {"text": "还没有人来"})
    assert await _told(hazard_id, "hazard.commented") == _once(story.worker, story.colleague)


async def test_who_deleted_their_account_is_not_told(story: Story) -> None:
    leaver = await make_resident(story.places.community)
    hazard_id = await story.hazard(HazardStatus.FILED)
    await story.take(leaver, hazard_id, "support")
    answer = await story.client.delete("/v1/me", headers=leaver.headers)
    assert answer.status_code == 204, answer.text
    await story.accept(hazard_id)
    assert await _told(hazard_id, "hazard.accepted") == _once(story.reporter)
