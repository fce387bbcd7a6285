"""Many at once on one hazard, one key, one picture: real commits on several connections, and each time one winner."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import timedelta
from uuid import UUID

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select
from starlette.types import ASGIApp

from app import clock, server
from app.db import database
from app.models.events import Event
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardStatus
from app.models.media import Media, MediaPurpose
from app.models.staff import Role
from app.services import hazards
from tests.factories import Person, make_resident, make_staff
from tests.stories import Story, begin, change, events_of, pictures, row_of

S = HazardStatus


@pytest.fixture
async def story(client: httpx.AsyncClient) -> Story:
    return await begin(client)


@pytest.fixture
async def sockets(application: ASGIApp) -> AsyncIterator[str]:
    """The address of a real server in front of the same application."""
    configuration = server.configuration(port=0)
    configuration.lifespan = "off"
    running = uvicorn.Server(configuration)
    task = asyncio.create_task(running.serve())
    while not running.started:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    await task


async def test_twenty_equal_reports_with_one_key_are_one(story: Story) -> None:
    body = await story.report()
    answers = await asyncio.gather(
        *(story.post(story.reporter, "/v1/hazards", body, key="one") for _ in range(20))
    )
    await _assert_one_report(story, answers)


async def test_twenty_equal_reports_over_sockets_are_one(story: Story, sockets: str) -> None:
    body = await story.report()
    headers = story.reporter.headers | {"Idempotency-Key": "one"}

    async def report() -> httpx.Response:
        async with httpx.AsyncClient(base_url=sockets) as phone:
            return await phone.post("/v1/hazards", json=body, headers=headers)

    await _assert_one_report(story, await asyncio.gather(*(report() for _ in range(20))))


async def test_one_key_with_two_bodies_is_one_report(story: Story) -> None:
    bodies = [await story.report(), await story.report(description="另一个")]
    answers = await asyncio.gather(
        *(story.post(story.reporter, "/v1/hazards", bodies[number % 2], key="two") for number in range(20))
    )
    assert _codes(answers) == {"201": 10, "idempotency_key_reused": 10}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert await _reports(story.reporter) == 1


@pytest.mark.parametrize("wanted", ["confirm", "dispute"])
async def test_twenty_equal_steps_with_one_key_are_one(story: Story, wanted: str) -> None:
    """Each of them would be refused after the first; with the key they all get what the first got."""
    hazard_id = await story.hazard(S.RESOLVED)
    before = len(await events_of(hazard_id))
    path, body = f"/v1/hazards/{hazard_id}/{wanted}", {"reason": "还堆着"} if wanted == "dispute" else None
    answers = await asyncio.gather(*(story.post(story.reporter, path, body, key=wanted) for _ in range(20)))
    assert _codes(answers) == {"200": 20}
    assert len({answer.content for answer in answers}) == 1
    assert len(await events_of(hazard_id)) == before + 1
    assert sorted(answer.headers.get("Idempotent-Replayed", "") for answer in answers) == ["", *["true"] * 19]


async def test_a_key_leads_to_its_answer_whatever_became_of_the_hazard(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    path, body = f"/v1/hazards/{hazard_id}/call", {"reason": "需要街道"}
    first = await story.post(story.worker, path, body, key="mine")
    await story.dispatch(hazard_id)
    again = await story.post(story.worker, path, body, key="mine")
    assert (again.status_code, again.content) == (200, first.content)
    reused = await story.post(story.worker, path, {"reason": "另一个原因"}, key="mine")
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    assert await _denials(story.worker) == 0
    assert (await story.post(story.worker, path, body, key="another")).status_code == 409
    assert await _denials(story.worker) == 1


async def test_ten_workers_accept_one_hazard(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    workers = [await make_staff(Role.GRID_WORKER, story.places.grid) for _ in range(10)]
    answers = await _at_once(story, workers, hazard_id, "accept")
    assert _codes(answers) == {"200": 1, "hazard_already_taken": 9}
    (winner,) = [worker for worker, answer in zip(workers, answers, strict=True) if answer.status_code == 200]
    assert (await row_of(hazard_id)).handler_id == winner.id
    await _assert_events(hazard_id, ["hazard.filed", "hazard.accepted"])


async def test_two_dispatchers_send_one_department(story: Story) -> None:
    hazard_id = await story.hazard(S.CALLED)
    other = await make_staff(Role.STREET_DISPATCHER, story.places.street)
    first = {"lead_organisation_id": str(story.department)}
    second = {"lead_organisation_id": str(story.second_department)}
    answers = await asyncio.gather(
        story.step(story.dispatcher, hazard_id, "dispatch", first),
        story.step(other, hazard_id, "dispatch", second),
    )
    assert _codes(answers) == {"200": 1, "wrong_hazard_status": 1}
    hazard = await row_of(hazard_id)
    async with database.reading() as session:
        (part,) = await session.scalars(
            select(HazardAssignment).where(HazardAssignment.hazard_id == hazard.id)
        )
    assert (part.organisation_id, hazard.hops) == (hazard.lead_organisation_id, 1)
    assert (await events_of(hazard_id)).count("hazard.dispatched") == 1


async def test_the_reporters_last_moment(story: Story) -> None:
    """Either the dispute came in time and it is open again, or it was closed and the dispute came too late."""
    seen = Counter[str]()
    for wait in (0, 5, 10, 15, 20, 30):
        hazard_id = await story.hazard(S.ACCEPTED)
        await story.resolve(hazard_id)
        await change(hazard_id, dispute_until=clock.now() + timedelta(milliseconds=wait))
        closing = [asyncio.create_task(_close()) for _ in range(4)]
        response = await story.step(story.reporter, hazard_id, "dispute", {"reason": "没修好"})
        await asyncio.gather(*closing)
        if response.status_code == 409:
            await _close()
        hazard = await row_of(hazard_id)
        if response.status_code == 200:
            assert (hazard.status, hazard.disputes, hazard.outcome) == (S.ACCEPTED, 1, None)
            last = "hazard.disputed"
        else:
            assert response.json()["code"] == "dispute_too_late"
            assert (hazard.status, hazard.disputes, hazard.outcome) == (S.CLOSED, 0, "fixed")
            last = "hazard.closed"
        seen[last] += 1
        await _assert_events(hazard_id, ["hazard.filed", "hazard.accepted", "hazard.resolved", last])
    assert seen["hazard.closed"] >= 1


async def test_two_sweeps_close_once(story: Story) -> None:
    ids = [await story.hazard(S.RESOLVED) for _ in range(3)]
    for hazard_id in ids:
        await change(hazard_id, dispute_until=clock.now())
    await asyncio.gather(*(_close() for _ in range(4)))
    await _close()
    for hazard_id in ids:
        assert (await events_of(hazard_id)).count("hazard.closed") == 1


async def test_thirty_residents_count_as_thirty(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    people = [await make_resident() for _ in range(30)]
    answers = await _at_once(story, [*people, *people[:5]], hazard_id, "support")
    assert _codes(answers) == {"200": 35}
    hazard = await row_of(hazard_id)
    async with database.reading() as session:
        rows = await session.scalar(select(func.count()).where(HazardSupport.hazard_id == hazard.id))
    assert (hazard.supporters, rows) == (30, 30)
    await _assert_events(hazard_id, ["hazard.filed", *["hazard.supported"] * 30])


async def test_one_of_many_results_counts(story: Story) -> None:
    hazard_id = await story.hazard(S.CHECKED_IN)
    officers = [await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=story.department) for _ in range(5)]
    photos = [await pictures(who, MediaPurpose.HAZARD_AFTER) for who in officers]
    answers = await asyncio.gather(
        *(
            story.step(who, hazard_id, "resolve", {"media_ids": media_ids})
            for who, media_ids in zip(officers, photos, strict=True)
        )
    )
    assert _codes(answers) == {"200": 1, "wrong_hazard_status": 4}
    winner = [answer.status_code for answer in answers].index(200)
    async with database.reading() as session:
        after = select(Media.id).where(
            Media.subject_id == UUID(hazard_id), Media.purpose == MediaPurpose.HAZARD_AFTER
        )
        assert [str(each) for each in await session.scalars(after)] == photos[winner]
    assert (await events_of(hazard_id)).count("hazard.resolved") == 1
    assert await _running_clocks(hazard_id) == 0


async def test_two_officers_refuse_once(story: Story) -> None:
    hazard_id = await story.hazard(S.DISPATCHED)
    other = await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=story.department)
    body = {"reason": "不属于我单位职责"}
    answers = await _at_once(story, [story.officer, other], hazard_id, "refuse", body)
    assert _codes(answers) == {"200": 1, "wrong_assignment_status": 1}
    assert (await row_of(hazard_id)).refusals == 1
    assert await _running_clocks(hazard_id) == 1


async def test_the_reporter_answers_once(story: Story) -> None:
    hazard_id = await story.hazard(S.RESOLVED)
    answers = await asyncio.gather(
        *(story.step(story.reporter, hazard_id, "confirm") for _ in range(3)),
        *(story.step(story.reporter, hazard_id, "dispute", {"reason": "没修好"}) for _ in range(3)),
        *(story.step(story.reporter, hazard_id, "rate", {"score": score}) for score in (1, 5)),
    )
    answered = [answer.status_code for answer in answers[:6]]
    assert answered.count(200) == 1
    assert answered.count(409) == 5
    types = await events_of(hazard_id)
    assert types.count("hazard.confirmed") + types.count("hazard.disputed") == 1
    assert types.count("hazard.rated") <= 1


async def test_one_picture_in_ten_reports(story: Story) -> None:
    body = await story.report()
    answers = await asyncio.gather(*(story.post(story.reporter, "/v1/hazards", body) for _ in range(10)))
    assert _codes(answers) == {"201": 1, "media_not_usable": 9}
    assert await _reports(story.reporter) == 1


async def test_two_hazards_merge_into_each_other(story: Story) -> None:
    """Rows are locked in one order, so nobody waits for ever, and exactly one of the two goes on."""
    for _ in range(3):
        first, second = await story.hazard(S.FILED), await story.hazard(S.FILED)
        answers = await asyncio.gather(
            story.step(story.worker, first, "merge", {"into_id": second}),
            story.step(story.colleague, second, "merge", {"into_id": first}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        statuses = {(await row_of(each)).status for each in (first, second)}
        assert statuses == {S.MERGED, S.FILED}


async def test_no_comment_stays_behind_on_a_merged_hazard(story: Story) -> None:
    primary, duplicate = await story.hazard(S.FILED), await story.hazard(S.FILED)
    says = [
        story.step(story.reporter, duplicate, "comments", {"text": f"第{number}条"}) for number in range(12)
    ]
    merge = story.step(story.worker, duplicate, "merge", {"into_id": primary})
    answers = await asyncio.gather(*says[:6], merge, *says[6:])
    said = [answer for answer in answers if answer.status_code == 201]
    assert len(said) + len([answer for answer in answers if answer.status_code == 409]) == 12
    assert await _comments(duplicate) == 0
    assert await _comments(primary) == len(said)


async def test_whoever_comes_first_decides(story: Story) -> None:
    """Everything at once: one clock at most, a gapless history, and a state that the steps lead to."""
    hazard_id = await story.hazard(S.ACCEPTED)
    other = await story.hazard(S.FILED)
    answers = await asyncio.gather(
        story.step(story.worker, hazard_id, "call"),
        story.step(story.worker, hazard_id, "resolve", {"outcome": "unfixed", "unfixed_reason": "owner_refuses"}),
        story.step(story.manager, hazard_id, "reject", {"reason": "abuse"}),
        story.step(story.colleague, hazard_id, "merge", {"into_id": other}),
        story.step(story.manager, hazard_id, "assign", {"staff_id": str(story.colleague.id)}),
        story.step(story.neighbour, hazard_id, "support"),
    )  # fmt: skip
    assert {answer.status_code for answer in answers} <= {200, 403, 404, 409}
    hazard = await row_of(hazard_id)
    assert await _running_clocks(hazard_id) == hazard.is_open
    await _assert_events(hazard_id, await events_of(hazard_id))


async def _at_once(
    story: Story, people: Sequence[Person], hazard_id: str, action: str, body: object = None
) -> list[httpx.Response]:
    steps: list[Awaitable[httpx.Response]] = [story.step(who, hazard_id, action, body) for who in people]
    return await asyncio.gather(*steps)


async def _close() -> None:
    async with database.transaction() as session:
        await hazards.close_unanswered(session)


def _codes(answers: Sequence[httpx.Response]) -> dict[str, int]:
    """How often each code of a problem, or status without one, came."""
    return dict(
        Counter(
            str(answer.status_code) if answer.is_success else str(answer.json()["code"]) for answer in answers
        )
    )


async def _assert_one_report(story: Story, answers: Sequence[httpx.Response]) -> None:
    assert _codes(answers) == {"201": 20}
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 19
    assert await _reports(story.reporter) == 1
    await _assert_events(answers[0].json()["id"], ["hazard.filed"])


async def _reports(who: Person) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(Hazard.reporter_id == who.id)) or 0


async def _comments(hazard_id: str) -> int:
    async with database.reading() as session:
        query = select(func.count()).where(HazardComment.hazard_id == UUID(hazard_id))
        return await session.scalar(query) or 0


async def _running_clocks(hazard_id: str) -> int:
    async with database.reading() as session:
        query = select(func.count()).where(
            HazardDeadline.hazard_id == UUID(hazard_id), HazardDeadline.ended_at.is_(None)
        )
        return await session.scalar(query) or 0


async def _assert_events(hazard_id: str, types: list[str]) -> None:
    """Exactly these, numbered without a gap."""
    async with database.reading() as session:
        rows = await session.execute(
            select(Event.type, Event.seq).where(Event.subject_id == UUID(hazard_id)).order_by(Event.seq)
        )
        assert [tuple(row) for row in rows] == list(zip(types, range(1, len(types) + 1), strict=True))


async def _denials(who: Person) -> int:
    async with database.reading() as session:
        return (
            await session.scalar(
                select(func.count()).where(Event.type == "access.denied", Event.actor_id == who.id)
            )
            or 0
        )
