"""Who follows something is told of it for as long as they may see it, loudly about one thing, quietly about many."""

from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import delete, select, update
from starlette.types import ASGIApp

from app import auth
from app.db import database, signal_after_commit
from app.models.hazard_categories import HazardCategory
from app.models.hazards import HazardStatus, PublicState
from app.models.notifications import MessageQuota, Notification, NotificationStatus
from app.models.staff import Grant, Role
from app.models.subscriptions import Subscription
from app.services import hazard_categories, messages, subscriptions
from tests.conftest import new_client
from tests.factories import Person, make_resident, make_staff
from tests.stories import CATEGORY, Story, begin, change
from tests.worker.chronicle import place_all
from tests.worker.listening import listening

S = NotificationStatus


@pytest.fixture
async def story(application: ASGIApp) -> AsyncIterator[Story]:
    """A place of its own: nobody of another test follows anything there."""
    async with new_client(application) as client:
        yield await begin(client)
        await place_all()


async def follow(story: Story, who: Person, **target: object) -> str:
    answer = await story.post(who, "/v1/subscriptions", target)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def told(who: Person) -> list[tuple[str, NotificationStatus]]:
    """What somebody was told of, and what became of the message."""
    await place_all()
    async with database.reading() as session:
        rows = await session.execute(
            select(Notification.type, Notification.status)
            .where(Notification.recipient_id == who.id)
            .order_by(Notification.id)
        )
        return [(row.type.removeprefix("hazard."), row.status) for row in rows]


async def follower(story: Story, quota: int = 10, **target: object) -> Person:
    """A resident with so many messages left, who follows something."""
    who = await make_resident(story.places.community)
    async with database.transaction() as session:
        session.add(MessageQuota(resident_id=who.id, template_id=messages.template_id(), remaining=quota))
    await follow(story, who, **target)
    return who


async def test_a_followed_hazard_is_told_of_step_by_step(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    await place_all()
    who = await follower(story, kind="hazard", hazard_id=hazard_id)
    await story.accept(hazard_id)
    await story.call(hazard_id)
    await story.take(story.worker, hazard_id, "comments", {"text": "内部", "visibility": "internal"})
    assert await told(who) == [("accepted", S.QUEUED), ("called", S.QUEUED)]


async def test_a_busy_area_takes_one_message_an_hour_and_the_rest_is_in_the_app(
    story: Story, advance: Callable[[float], None]
) -> None:
    who = await follower(story, kind="region", region_id=str(story.places.street))
    for _ in range(3):
        await story.hazard(HazardStatus.ACCEPTED)
    assert [status for _, status in await told(who)] == [S.QUEUED] + [S.SKIPPED] * 5
    assert (await story.get(who, "/v1/subscriptions"))["items"][0]["quiet_until"] is not None
    await story.hazard(HazardStatus.FILED)
    assert (await told(who))[-1] == ("filed", S.SKIPPED)
    advance(subscriptions.QUIET.total_seconds() + 1)
    await story.hazard(HazardStatus.FILED)
    assert (await told(who))[-1] == ("filed", S.QUEUED)


async def test_who_has_no_message_left_is_not_hushed(story: Story) -> None:
    who = await follower(story, quota=0, kind="region", region_id=str(story.places.grid))
    await story.hazard(HazardStatus.FILED)
    assert await told(who) == [("filed", S.SKIPPED)]
    assert (await story.get(who, "/v1/subscriptions"))["items"][0]["quiet_until"] is None


async def test_targets_cover_what_they_say_and_nothing_beside_it(story: Story) -> None:
    lng, lat = story.spot["lng"], story.spot["lat"]
    near = {"lng": lng, "lat": lat + 0.0012}
    by_point = await follower(story, kind="point", location=near, radius_m=150)
    too_far = await follower(story, kind="point", location=near, radius_m=120)
    by_category = await follower(story, kind="category", category=CATEGORY)
    elsewhere = await follower(
        story, kind="category", category=CATEGORY, region_id=str(story.places.far_street)
    )
    here = await follower(story, kind="category", category=CATEGORY, region_id=str(story.places.community))
    other = await follower(story, kind="category", category="street_lighting")
    beside = await follower(story, kind="region", region_id=str(story.places.other_grid))
    await story.hazard(HazardStatus.FILED)
    for who in (by_point, by_category, here):
        assert await told(who) == [("filed", S.QUEUED)]
    for who in (too_far, elsewhere, other, beside):
        assert await told(who) == []


async def test_somebody_with_several_reasons_is_told_once(story: Story) -> None:
    who = await follower(story, kind="region", region_id=str(story.places.grid))
    await follow(story, who, kind="category", category=CATEGORY)
    hazard_id = await story.hazard(HazardStatus.FILED)
    await follow(story, who, kind="hazard", hazard_id=hazard_id)
    await story.take(who, hazard_id, "support")
    await story.accept(hazard_id)
    assert await told(who) == [("filed", S.QUEUED), ("accepted", S.QUEUED)]


async def test_what_was_hidden_or_became_private_is_not_told(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.FILED)
    await place_all()
    who = await follower(story, kind="hazard", hazard_id=hazard_id)
    await change(hazard_id, public_state=PublicState.HIDDEN)
    await story.accept(hazard_id)
    assert await told(who) == []
    await change(hazard_id, public_state=PublicState.VISIBLE)
    await _publish(CATEGORY, public=False)
    try:
        await story.call(hazard_id)
        assert await told(who) == []
    finally:
        await _publish(CATEGORY, public=True)
    await story.dispatch(hazard_id)
    assert [kind for kind, _ in await told(who)] == ["dispatched"]


async def test_staff_are_told_until_their_scope_is_lost(story: Story) -> None:
    auditor = await make_staff(Role.AUDITOR, story.places.street)
    await follow(story, auditor, kind="category", category=CATEGORY)
    hazard_id = await story.hazard(HazardStatus.FILED)
    assert await told(auditor) == [("filed", S.SENT)]
    async with database.transaction() as session:
        await session.execute(delete(Grant).where(Grant.staff_id == auditor.id))
        signal_after_commit(session, auth.topic(auditor.id))
    await story.accept(hazard_id)
    assert len(await told(auditor)) == 1


async def test_an_officer_is_told_of_what_the_department_was_sent_to(story: Story) -> None:
    await follow(story, story.second_officer, kind="category", category=CATEGORY)
    hazard_id = await story.hazard(HazardStatus.CALLED)
    assert await told(story.second_officer) == []
    await story.dispatch(hazard_id, story.second_department)
    assert ("dispatched", S.SENT) in await told(story.second_officer)


async def test_who_ended_it_or_left_is_told_nothing(story: Story) -> None:
    ended = await follower(story, kind="region", region_id=str(story.places.grid))
    left = await follower(story, kind="region", region_id=str(story.places.grid))
    [mine] = (await story.get(ended, "/v1/subscriptions"))["items"]
    await story.client.delete(f"/v1/subscriptions/{mine['id']}", headers=ended.headers)
    await story.client.delete("/v1/me", headers=left.headers)
    await story.hazard(HazardStatus.FILED)
    assert (await told(ended), await told(left)) == ([], [])


async def test_the_message_is_held_back_when_it_was_hidden_meanwhile(story: Story) -> None:
    who = await follower(story, kind="region", region_id=str(story.places.grid))
    hazard_id = await story.hazard(HazardStatus.FILED)
    assert await told(who) == [("filed", S.QUEUED)]
    await change(hazard_id, public_state=PublicState.HIDDEN)
    async with database.reading() as session:
        event_id = (
            await session.scalars(select(Notification.event_id).where(Notification.recipient_id == who.id))
        ).one()
        assert await messages.unsent(session, event_id) == []


async def test_the_stream_has_what_is_followed_and_resumes(application: ASGIApp, story: Story) -> None:
    who = await make_resident(story.places.community)
    await story.hazard(HazardStatus.FILED)
    await place_all()
    async with listening(application, who) as listener:
        await follow(story, who, kind="region", region_id=str(story.places.street))
        hazard_id = await story.hazard(HazardStatus.ACCEPTED)
        await place_all()
        first, second = await listener.events(2)
    assert first.data is not None
    assert first.data["subject"]["id"] == hazard_id
    async with listening(application, who, headers={"Last-Event-ID": str(first.id)}) as resumed:
        [again] = await resumed.events(1)
        assert again.data == second.data
        await change(hazard_id, public_state=PublicState.HIDDEN)
        await story.call(hazard_id)
        await place_all()
        await resumed.silence(0.3)


async def test_a_subscription_that_ended_meanwhile_does_no_harm(story: Story) -> None:
    who = await follower(story, kind="region", region_id=str(story.places.grid))
    async with database.transaction() as session:
        rows = list(await session.scalars(select(Subscription).where(Subscription.subscriber_id == who.id)))
        voice = subscriptions.Voice()
        assert voice.speaks(rows)
        assert not voice.speaks(rows)
        await session.execute(delete(Subscription).where(Subscription.subscriber_id == who.id))
        await voice.keep(session)


async def _publish(code: str, *, public: bool) -> None:
    async with database.transaction() as session:
        await session.execute(update(HazardCategory).where(HazardCategory.code == code).values(public=public))
        signal_after_commit(session, hazard_categories.TOPIC)
