"""The live stream: what the caller may see, in order, resumable, and only for as long as they may."""

import asyncio
import contextlib
import gc

import pytest
from sqlalchemy import delete, text, update
from starlette.types import ASGIApp

from app import auth, events
from app.auth import SYSTEM
from app.db import database, signal_after_commit
from app.events import Place
from app.models.hazards import HazardStatus
from app.models.staff import Grant, Role
from app.services import stream
from tests.factories import make_resident, make_staff
from tests.stories import Story, row_of
from tests.worker.chronicle import happen, new_subject, place_all
from tests.worker.listening import Frame, listening


@pytest.fixture(autouse=True)
async def quiet(story: Story) -> None:
    """What happened before is placed: streams start behind it."""
    await place_all()


def _types(frames: list[Frame]) -> list[str]:
    return [frame.data["type"] for frame in frames if frame.data]


async def test_the_reporter_sees_each_step_as_it_happens(application: ASGIApp, story: Story) -> None:
    async with listening(application, story.reporter) as listener:
        hazard_id = await story.hazard(HazardStatus.FILED)
        await place_all()
        [filed] = await listener.events(1)
        await story.accept(hazard_id)
        await place_all()
        [accepted] = await listener.events(1)
    assert _types([filed, accepted]) == ["hazard.filed", "hazard.accepted"]
    assert int(accepted.id or 0) > int(filed.id or 0)
    hazard = await row_of(hazard_id)
    assert accepted.data is not None
    assert accepted.data.pop("id")
    assert accepted.data.pop("occurred_at").startswith(str(hazard.accepted_at)[:10])
    assert accepted.data == {
        "type": "hazard.accepted",
        "subject": {"kind": "hazards", "id": hazard_id},
        "seq": 2,
        "community_id": str(story.places.community),
        "data": {"status": "accepted", "version": hazard.version},
    }


async def test_residents_see_their_own_and_what_they_support_and_nothing_for_staff_only(
    application: ASGIApp, story: Story
) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    await place_all()
    async with (
        listening(application, story.reporter) as reporter,
        listening(application, story.neighbour) as neighbour,
    ):
        note = {"text": "内部备注", "visibility": "internal"}
        await story.take(story.worker, hazard_id, "comments", note)
        await place_all()
        await reporter.silence(0.3)
        await neighbour.silence(0.1)
        await story.take(story.neighbour, hazard_id, "support")
        await story.call(hazard_id)
        await place_all()
        assert _types(await reporter.events(2)) == ["hazard.supported", "hazard.called"]
        assert _types(await neighbour.events(2)) == ["hazard.supported", "hazard.called"]


async def test_staff_see_their_region_and_all_below_it_and_nothing_beside_it(
    application: ASGIApp, story: Story
) -> None:
    far = await make_staff(Role.STREET_DISPATCHER, story.places.far_street)
    beside = await make_staff(Role.GRID_WORKER, story.places.other_grid)
    async with (
        listening(application, story.dispatcher) as street,
        listening(application, story.worker) as grid,
        listening(application, far) as far_street,
        listening(application, beside) as other_grid,
    ):
        hazard_id = await story.hazard(HazardStatus.ACCEPTED)
        note = {"text": "内部备注", "visibility": "internal"}
        await story.take(story.worker, hazard_id, "comments", note)
        await place_all()
        expected = ["hazard.filed", "hazard.accepted", "hazard.noted"]
        assert _types(await street.events(3)) == _types(await grid.events(3)) == expected
        await far_street.silence(0.3)
        await other_grid.silence(0.1)


async def test_a_department_sees_a_case_while_it_is_theirs(application: ASGIApp, story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.CALLED)
    await place_all()
    async with listening(application, story.officer) as officer:
        await officer.silence(0.2)
        await story.dispatch(hazard_id)
        await place_all()
        assert _types(await officer.events(1)) == ["hazard.dispatched"]
        await story.refuse(hazard_id)
        await place_all()
        await officer.silence(0.3)


async def test_what_only_auditors_may_read_is_in_no_stream(application: ASGIApp, story: Story) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    auditor = await make_staff(Role.AUDITOR, story.places.district)
    async with listening(application, admin) as first, listening(application, auditor) as second:
        async with database.transaction() as session:
            place = Place(story.places.community, story.places.grid)
            events.record_access(session, SYSTEM, "test.looked", place=place)
        await place_all()
        await first.silence(0.3)
        await second.silence(0.1)


async def test_who_hangs_up_in_the_middle_of_a_query_leaves_nothing_behind(
    application: ASGIApp, story: Story
) -> None:
    """The framework cancels again whatever waits on the way out; a connection that is cut off like that is lost."""
    told: list[object] = []
    loop, lanes = asyncio.get_running_loop(), database._opened(database._readers)
    await asyncio.gather(*(_read_a_little() for _ in range(8)))
    connections, turns = list(lanes._free), lanes.gate.free
    loop.set_exception_handler(lambda _, context: told.append(context))
    try:
        for number in range(60):
            async with listening(application, story.worker):
                await asyncio.sleep(0.0005 * (number % 20))
        await asyncio.sleep(0.1)
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    assert told == []
    assert lanes.gate.free == turns
    assert set(connections) <= set(lanes._free)


async def _read_a_little() -> None:
    async with database.reading() as session:
        await session.execute(text("SELECT 1"))


@pytest.mark.parametrize("by_header", [True, False])
async def test_who_comes_back_misses_nothing_and_gets_nothing_twice(
    application: ASGIApp, story: Story, by_header: bool
) -> None:
    async with listening(application, story.reporter) as listener:
        hazard_id = await story.hazard(HazardStatus.CALLED)
        await place_all()
        seen = await listener.events(2)
    last = seen[-1].id or ""
    await story.dispatch(hazard_id)
    await place_all()
    headers, query = ({"Last-Event-ID": last}, {}) if by_header else ({}, {"last_event_id": last})
    async with listening(application, story.reporter, headers=headers, **query) as listener:
        again = await listener.events(2)
        await story.check_in(hazard_id)
        await place_all()
        again += await listener.events(1)
    assert _types(again) == ["hazard.called", "hazard.dispatched", "hazard.checked_in"]


async def test_a_long_absence_is_made_up_for_in_order(application: ASGIApp, story: Story) -> None:
    subject = await new_subject(story.places.grid)
    async with listening(application, story.manager) as listener:
        await happen(subject)
        await place_all()
        [first] = await listener.events(1)
    for _ in range(230):
        await happen(subject)
    await place_all()
    async with listening(application, story.manager, last_event_id=first.id or "") as listener:
        frames = await listener.events(230)
        await listener.silence(0.2)
    assert [frame.data["seq"] for frame in frames if frame.data] == list(range(2, 232))


async def test_an_id_from_the_future_means_from_now_on(application: ASGIApp, story: Story) -> None:
    async with listening(application, story.reporter, last_event_id="999999999999") as listener:
        await story.hazard(HazardStatus.FILED)
        await place_all()
        assert _types(await listener.events(1)) == ["hazard.filed"]


async def test_signing_out_ends_the_stream(application: ASGIApp, story: Story) -> None:
    leaver = await make_resident(story.places.community)
    async with listening(application, leaver) as listener:
        await story.client.delete("/v1/sessions/current", headers=leaver.headers)
        await asyncio.wait_for(listener.ended.wait(), 2)


async def test_a_role_that_is_taken_away_ends_the_stream(application: ASGIApp, story: Story) -> None:
    leaver = await make_staff(Role.GRID_WORKER, story.places.grid)
    async with listening(application, leaver) as listener:
        async with database.transaction() as session:
            await session.execute(delete(Grant).where(Grant.staff_id == leaver.id))
            signal_after_commit(session, auth.topic(leaver.id))
        await asyncio.wait_for(listener.ended.wait(), 2)


async def test_what_nobody_was_told_of_is_found_out_soon(application: ASGIApp, story: Story) -> None:
    """A change by another process whose signal got lost."""
    leaver = await make_staff(Role.GRID_WORKER, story.places.grid)
    async with listening(application, leaver) as listener:
        async with database.transaction() as session:
            await session.execute(delete(Grant).where(Grant.staff_id == leaver.id))
        await asyncio.wait_for(listener.ended.wait(), 4)


async def test_a_new_place_is_seen_at_once(application: ASGIApp, story: Story) -> None:
    mover = await make_staff(Role.GRID_WORKER, story.places.far_grid)
    subject = await new_subject(story.places.grid)
    async with listening(application, mover) as listener:
        async with database.transaction() as session:
            moved = update(Grant).where(Grant.staff_id == mover.id)
            await session.execute(moved.values(region_id=story.places.grid))
            signal_after_commit(session, auth.topic(mover.id))
        await asyncio.sleep(0.2)
        await happen(subject)
        await place_all()
        assert _types(await listener.events(1)) == ["test.happened"]


async def test_a_few_streams_each_and_room_again_after_hanging_up(application: ASGIApp, story: Story) -> None:
    person = await make_resident(story.places.community)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(stream.PER_CALLER):
            opened = await stack.enter_async_context(listening(application, person))
            assert opened.status == 200
        async with listening(application, person) as one_more:
            assert one_more.status == 429
            assert b"too_many_streams" in one_more.refusal
        async with listening(application, story.reporter) as other:
            assert other.status == 200
    async with listening(application, person) as again:
        assert again.status == 200


async def test_an_idle_stream_holds_no_connection(application: ASGIApp, story: Story) -> None:
    free = database.read_gate.free
    async with listening(application, story.reporter) as listener:
        await listener.silence(0.4)
        assert database.read_gate.free == free


async def test_the_line_is_kept_alive(
    application: ASGIApp, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.routing._PING_INTERVAL", 0.1)
    async with listening(application, story.reporter) as listener:
        opened = await listener.frames.get()
        assert (opened.comment, opened.retry) == ("open", "3000")
        assert (await asyncio.wait_for(listener.frames.get(), 2)).comment == "ping"


@pytest.mark.parametrize("given", ["-1", "abc", "1.5", "9" * 30, "²"])
async def test_a_bad_id_is_refused(application: ASGIApp, story: Story, given: str) -> None:
    async with listening(application, story.reporter, last_event_id=given) as refused:
        assert refused.status == 422
        assert b"invalid_event_id" in refused.refusal


async def test_strangers_hear_nothing(application: ASGIApp, story: Story) -> None:
    async with listening(application, None) as refused:
        assert refused.status == 401
    async with listening(application, story.reporter, unknown="1") as refused:
        assert refused.status == 422
