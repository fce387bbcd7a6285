"""A resident leaves while their own requests are under way: what these wrote is erased with the rest, or refused."""

import asyncio
from collections.abc import Awaitable
from uuid import UUID

import httpx
import pytest
from sqlalchemy import ColumnElement, func, select

from app import clock
from app.db import database
from app.ids import new_id
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazards import Hazard, HazardStatus
from app.models.idempotency import IdempotencyKey
from app.models.media import Media
from app.models.notifications import MessageQuota
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.services import messages, residents, sessions
from tests.factories import Person, make_resident
from tests.signing_in import mint_code
from tests.stories import SAMPLES, Json, Story, begin, pictures, show_to_public, upload

_ROUNDS, _EACH = 6, 5
_PHOTO = (SAMPLES / "fire-passage-before.jpg").read_bytes()

_UNUSED = (Media.subject_id.is_(None), Media.erased_at.is_(None))


@pytest.fixture
async def story(client: httpx.AsyncClient) -> Story:
    return await begin(client)


async def test_nothing_is_written_under_a_name_that_is_gone(story: Story) -> None:
    hazards = [await story.hazard(HazardStatus.FILED) for _ in range(_EACH)]
    await show_to_public(*hazards)
    neighbours = [await make_resident(story.places.community) for _ in range(_ROUNDS)]
    for number, neighbour in enumerate(neighbours):
        leaver = await make_resident(story.places.community)
        mine = [await story.hazard(HazardStatus.FILED, leaver) for _ in range(2)]
        requests = [*await _busy(story, leaver, hazards), *_talk(story, leaver, mine)]
        leaving = asyncio.create_task(_leave(story, leaver, 0.01 * number))
        others = [story.step(neighbour, hazard_id, "support") for hazard_id in hazards]
        answers = await asyncio.gather(*requests, *others)
        await leaving
        assert {answer.status_code for answer in answers[: len(requests)]} <= {200, 201, 401}
        assert {answer.status_code for answer in answers[len(requests) :]} == {200}
        await _assert_nothing_said(leaver)
        assert await _count(Media.owner_id == leaver.id, *_UNUSED) == 0


async def test_a_request_that_comes_too_late_is_refused(story: Story) -> None:
    """Its token was good a moment ago; it leaves nothing behind all the same."""
    hazard_id = await story.hazard(HazardStatus.FILED)
    await show_to_public(hazard_id)
    leaver = await make_resident(story.places.community)
    requests = await _busy(story, leaver, [hazard_id])
    before = await _count(Media.owner_id == leaver.id)
    await leaver.caller()
    await _erase_unnoticed(leaver)
    answers = await asyncio.gather(*requests)
    assert {answer.status_code for answer in answers} == {401}
    assert await _count(HazardSupport.resident_id == leaver.id) == 0
    assert await _count(Media.owner_id == leaver.id) == before
    await _assert_nothing_said(leaver)


async def test_nobody_stays_signed_in_who_has_left(story: Story) -> None:
    """Tokens that are renewed, and signing in again, while the account is deleted: afterwards nothing of it is alive."""
    for number in range(_ROUNDS):
        name = f"leaver-{number}"
        codes = [await mint_code(story.client, name) for _ in range(_EACH)]
        first, *others = [await _signed_in(story, code) for code in codes]
        again = [await mint_code(story.client, name) for _ in range(2)]
        leaver = UUID(first["principal"]["id"])
        renewals = [
            story.client.post("/v1/sessions/refresh", json={"refresh_token": each["refresh_token"]})
            for each in (*others, others[0])
        ]
        who = Person(leaver, first["access_token"], first["refresh_token"])
        leaving = asyncio.create_task(_leave(story, who, 0.003 * number))
        answers = await asyncio.gather(*renewals, *(_sign_in(story, code) for code in again))
        await leaving
        assert {answer.status_code for answer in answers} <= {200, 201, 401}
        assert await _count(LoginSession.principal_id == leaver) == 0
        for answer in answers:
            if answer.status_code == 401:
                continue
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            me = await story.client.get("/v1/me", headers=headers)
            is_somebody_new = answer.json()["principal"]["id"] != str(leaver)
            assert me.status_code == (200 if is_somebody_new else 401)


async def test_a_supporter_leaves_while_what_they_support_is_merged(story: Story) -> None:
    """A merge holds its supporters and moves their comments; whoever leaves holds comments and ends as a tombstone."""
    for number in range(_ROUNDS):
        leaver = await make_resident(story.places.community)
        pairs = [[await story.hazard(HazardStatus.FILED) for _ in range(2)] for _ in range(_EACH)]
        doubles = [double for double, _ in pairs]
        await show_to_public(*doubles)
        for said in (
            *_talk(story, leaver, doubles),
            *(story.step(leaver, each, "support") for each in doubles),
        ):
            assert (await said).status_code in (200, 201)
        leaving = asyncio.create_task(_leave(story, leaver, 0.01 * number))
        merges = [story.step(story.worker, double, "merge", {"into_id": into}) for double, into in pairs]
        answers = await asyncio.gather(*merges)
        await leaving
        assert {answer.status_code for answer in answers} == {200}
        await _assert_nothing_said(leaver)


@pytest.mark.parametrize("under_way", ["sign-in", "refresh"])
async def test_leaving_waits_for_a_session_in_the_making(story: Story, under_way: str) -> None:
    openid = f"o-{new_id()}"
    async with database.transaction() as session:
        leaver = await residents.find_or_create(session, openid, None)
        begun = await sessions.start(session, PrincipalKind.RESIDENT, leaver, "test")
    who = Person(leaver, begun.access_token, begun.refresh_token)
    async with database.transaction() as session:
        if under_way == "sign-in":
            assert await residents.find_or_create(session, openid, None) == leaver
            await sessions.start(session, PrincipalKind.RESIDENT, leaver, "test")
        else:
            assert await sessions._refresh(session, begun.refresh_token, clock.now()) is not None
        leaving = asyncio.create_task(_leave(story, who, 0))
        # Long enough to reach the lock; were there none, the new session would be missed.
        await asyncio.sleep(0.2)
        assert not leaving.done()
    await leaving
    assert await _count(LoginSession.principal_id == leaver) == 0


async def _sign_in(story: Story, code: str) -> httpx.Response:
    return await story.client.post("/v1/sessions/wechat", json={"code": code})


async def _signed_in(story: Story, code: str) -> Json:
    answer = await _sign_in(story, code)
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def _busy(story: Story, who: Person, hazards: list[str]) -> list[Awaitable[httpx.Response]]:
    """All that a resident can do in one moment."""
    reports = [await story.report(media_ids=await pictures(who)) for _ in hazards]
    reports += [report | {"anonymous": False} for report in reports[:1]]
    quota = {"template_id": messages.template_id(), "count": 1}
    return [
        *(story.post(who, "/v1/hazards", body, key=f"file-{n}") for n, body in enumerate(reports[1:])),
        *(
            story.post(who, f"/v1/hazards/{each}/support", key=f"support-{n}")
            for n, each in enumerate(hazards)
        ),
        *_talk(story, who, hazards),
        story.post(who, "/v1/me/message-quotas", quota, key="quota"),
        upload(story.client, who, _PHOTO, key="upload"),
    ]


def _talk(story: Story, who: Person, hazards: list[str]) -> list[Awaitable[httpx.Response]]:
    return [
        story.post(who, f"/v1/hazards/{each}/comments", {"text": "我也看到了"}, key="say") for each in hazards
    ]


async def _leave(story: Story, who: Person, after: float) -> None:
    await asyncio.sleep(after)
    response = await story.client.delete("/v1/me", headers=who.headers)
    assert response.status_code == 204, response.text


async def _erase_unnoticed(who: Person) -> None:
    """Their row only, and no signal: whoever has just been identified goes on."""
    async with database.transaction() as session:
        (await session.get_one(Resident, who.id)).erase(clock.now())


async def _assert_nothing_said(who: Person) -> None:
    assert await _count(Hazard.reporter_id == who.id) == 0
    assert await _count(HazardComment.author_id == who.id, HazardComment.text_sealed.is_not(None)) == 0
    assert await _count(MessageQuota.resident_id == who.id) == 0
    assert await _count(IdempotencyKey.caller_id == who.id) == 0


async def _count(*conditions: ColumnElement[bool]) -> int:
    async with database.reading() as session:
        return await session.scalar(select(func.count()).where(*conditions)) or 0
