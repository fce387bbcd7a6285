"""Who sees what: notes among staff, what is not checked yet, and who the reporter is."""

import asyncio
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update

from app.db import database
from app.handlers import HANDLERS
from app.models.events import Event
from app.models.hazard_comments import HazardComment
from app.models.hazards import HazardStatus, PublicState
from app.models.media import Media, MediaReview
from app.sequencer import BATCH, sequence
from app.services import reviews, stream
from tests.factories import Person, make_resident
from tests.residents import tell_everything
from tests.stories import Story, begin, change, pictures, problem, show_to_public, work_off

S = HazardStatus


async def test_notes_are_for_staff_only(client: httpx.AsyncClient) -> None:
    """Nothing that a resident can ask for contains one: neither the reporter's answers nor anybody else's."""
    story = await begin(client)
    hazard_id = await story.hazard(S.CALLED)
    await show_to_public(hazard_id)
    note = {"text": "内部甲：业主情绪激动", "visibility": "internal"}
    said = await story.take(story.worker, hazard_id, "comments", note)
    assert (said["visibility"], said["author_kind"]) == ("internal", "staff")
    lead = {"lead_organisation_id": str(story.department), "note": "内部乙：先摸底"}
    await story.take(story.dispatcher, hazard_id, "dispatch", lead)
    await story.take(story.officer, hazard_id, "refuse", {"reason": "内部丙：不归我们"})
    await story.take(story.worker, hazard_id, "comments", {"text": "公开：正在处理"})
    await _place_events()

    for who in (story.reporter, story.neighbour):
        seen = await _everything(story, who, hazard_id)
        assert "公开：正在处理" in seen
        assert "内部" not in seen
        assert said["id"] not in seen
        assert "hazard.noted" not in await _streamed(who, hazard_id)
    for staff in (story.worker, story.manager, story.officer):
        told = await story.get(staff, f"/v1/hazards/{hazard_id}/timeline")
        texts = [each["text"] for each in told["items"] if each["text"]]
        assert texts == ["内部甲：业主情绪激动", "内部乙：先摸底", "内部丙：不归我们", "公开：正在处理"]
        comments = await story.get(staff, f"/v1/hazards/{hazard_id}/comments")
        assert [each["text"] for each in comments["items"]] == texts
    assert "hazard.noted" in await _streamed(story.worker, hazard_id)


async def test_the_public_learns_no_more_of_departments_than_the_hazard_says(story: Story) -> None:
    """Neither the timeline nor the stream of somebody who supports it names, counts or places one."""
    hazard_id = await story.hazard(S.RESOLVED)
    await show_to_public(hazard_id)
    await story.dispute(hazard_id)
    await story.take(story.neighbour, hazard_id, "support")
    await _place_events()
    hidden = {"organisation_id", "lead_organisation_id", "joint_organisations", "hops", "binding", "role"}
    hidden |= {"distance_m", "refusals", "decision_forced", "score"}
    told = {}
    for name in ("neighbour", "reporter", "officer"):
        answer = await story.get(getattr(story, name), f"/v1/hazards/{hazard_id}/timeline")
        told[name] = {key for entry in answer["items"] for key in entry["data"]}
        types = {entry["type"] for entry in answer["items"]}
        assert {"hazard.dispatched", "hazard.checked_in"} <= types
    assert not told["neighbour"] & hidden
    assert {"status", "version", "outcome", "by", "disputes"} <= told["neighbour"]
    for party in ("reporter", "officer"):
        assert {"lead_organisation_id", "organisation_id", "distance_m", "hops"} <= told[party]
    for who, sees in ((story.neighbour, False), (story.reporter, True)):
        async with stream.subscribe(await who.caller(), who.headers["Authorization"], 0) as subscription:
            keys: set[str] = set()
            async with asyncio.timeout(5):
                async for _, event in stream.follow(subscription):
                    keys |= event.data.keys() if str(event.subject.id) == hazard_id else set()
                    if event.type == "hazard.supported" and str(event.subject.id) == hazard_id:
                        break
        assert bool(keys & hidden) is sees


async def test_residents_leave_no_notes(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    body = {"text": "只给你们看", "visibility": "internal"}
    problem(await story.step(story.reporter, hazard_id, "comments", body), 403, "forbidden")


async def test_a_residents_words_are_public_once_they_are_checked(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    await show_to_public(hazard_id)
    said = await story.take(story.neighbour, hazard_id, "comments", {"text": "我也看见了"})
    stranger = await make_resident()

    async def readers() -> list[bool]:
        pages = [
            await story.get(who, f"/v1/hazards/{hazard_id}/comments")
            for who in (story.neighbour, story.worker, story.reporter, stranger)
        ]
        return ["我也看见了" in [each["text"] for each in page["items"]] for page in pages]

    assert await readers() == [True, True, False, False]
    for state, everybody in ((PublicState.VISIBLE, True), (PublicState.HIDDEN, False)):
        async with database.transaction() as session:
            row = HazardComment.id == UUID(said["id"])
            await session.execute(update(HazardComment).where(row).values(public_state=state))
        assert await readers() == [True, True, everybody, everybody]


async def test_comments_come_in_pages_oldest_first(story: Story) -> None:
    hazard_id = await story.hazard(S.FILED)
    for number in range(5):
        await story.take(story.worker, hazard_id, "comments", {"text": f"第{number}条"})
    path, texts, cursor = f"/v1/hazards/{hazard_id}/comments", [], None
    while True:
        page = await story.get(story.reporter, path, limit=2, cursor=cursor)
        texts += [each["text"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await story.take(story.worker, hazard_id, "comments", {"text": f"第{5 + len(texts)}条"})
    assert texts[:5] == [f"第{number}条" for number in range(5)]
    assert len(texts) == len(set(texts)) >= 7
    other = await story.hazard(S.FILED)
    answer = await story.client.get(
        f"/v1/hazards/{other}/comments?cursor=AAAA", headers=story.reporter.headers
    )
    problem(answer, 422, "invalid_input")


async def test_an_anonymous_reporter_stays_one(client: httpx.AsyncClient) -> None:
    """The public sees nobody, and those who handle it a masked name and number; nothing else, anywhere."""
    story = await begin(client)
    told = await tell_everything(client, story.reporter, story.places.building)
    hazard_id = await story.hazard(S.RESOLVED)
    await show_to_public(hazard_id)
    await story.take(story.reporter, hazard_id, "comments", {"text": "谢谢"})
    await _place_events()

    for who in (story.neighbour, await make_resident()):
        seen = await _everything(story, who, hazard_id)
        assert not [word for word in (*told.secrets, str(story.reporter.id)) if word in seen]
    public = await story.get(story.neighbour, f"/v1/hazards/{hazard_id}")
    assert (public["reporter"], public["reporter_name"], public["mine"]) == (None, None, False)
    assert (public["address"], public["due_at"], public["handler"], public["departments"]) == (
        None,
        None,
        None,
        [],
    )

    for staff in (story.worker, story.dispatcher, story.officer):
        seen = await _everything(story, staff, hazard_id)
        assert not [word for word in told.secrets if word in seen]
        masked = (await story.get(staff, f"/v1/hazards/{hazard_id}"))["reporter"]
        assert masked["id"] == str(story.reporter.id)
        assert masked["phone_masked"] == f"190****{told.phone[-4:]}"
        assert masked["nickname"].startswith(told.nickname[0])


async def test_whoever_wants_is_named(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    told = await tell_everything(client, story.reporter, story.places.building)
    hazard_id = await story.hazard(S.FILED, anonymous=False)
    await show_to_public(hazard_id)
    await work_off(reviews.NICKNAME)
    public = await story.get(story.neighbour, f"/v1/hazards/{hazard_id}")
    assert public["reporter_name"] == told.nickname
    seen = await _everything(story, story.neighbour, hazard_id)
    assert not [word for word in told.secrets if word in seen and word != told.nickname]


async def test_residents_see_a_masked_handler(story: Story) -> None:
    hazard_id = await story.hazard(S.ACCEPTED)
    own = await story.get(story.reporter, f"/v1/hazards/{hazard_id}")
    staff = await story.get(story.colleague, f"/v1/hazards/{hazard_id}")
    assert staff["handler"]["name"] == "测试员"
    assert own["handler"]["name"] != "测试员"
    assert own["handler"]["name"].startswith("测")


async def test_nothing_is_public_before_it_is_checked(story: Story) -> None:
    """Words and pictures, each by itself; the reporter and staff see them at once."""
    photos = await pictures(story.reporter, count=2)
    hazard_id = str((await story.file(media_ids=photos))["id"])
    after = await story.get(story.neighbour, f"/v1/hazards/{hazard_id}")
    assert (after["description"], after["photos"]) == (None, [])
    for who in (story.reporter, story.worker):
        whole = await story.get(who, f"/v1/hazards/{hazard_id}")
        assert whole["description"]
        assert [photo["id"] for photo in whole["photos"]] == photos
    await change(hazard_id, public_state=PublicState.VISIBLE)
    assert (await story.get(story.neighbour, f"/v1/hazards/{hazard_id}"))["description"]
    async with database.transaction() as session:
        passed = Media.id == UUID(photos[1])
        await session.execute(update(Media).where(passed).values(review=MediaReview.PASSED))
        risky = Media.id == UUID(photos[0])
        await session.execute(update(Media).where(risky).values(review=MediaReview.RISKY))
    seen = await story.get(story.neighbour, f"/v1/hazards/{hazard_id}")
    assert [photo["id"] for photo in seen["photos"]] == photos[1:]


@pytest.mark.parametrize("why", ["hidden", "private category", "rejected"])
async def test_what_is_not_public_does_not_exist_for_others(story: Story, why: str) -> None:
    category = "elderly_in_danger" if why == "private category" else "garbage"
    hazard_id = await story.hazard(S.REJECTED if why == "rejected" else S.FILED, category=category)
    await show_to_public(hazard_id)
    if why == "hidden":
        await story.take(story.manager, hazard_id, "redactions", {"hide": True, "reason": "abuse"})
    for path in ("", "/timeline", "/comments"):
        response = await story.client.get(f"/v1/hazards/{hazard_id}{path}", headers=story.neighbour.headers)
        problem(response, 404, "not_found")
        assert await story.get(story.reporter, f"/v1/hazards/{hazard_id}{path}")
        assert await story.get(story.worker, f"/v1/hazards/{hazard_id}{path}")
    for action, body in (("support", None), ("comments", {"text": "在吗"}), ("confirm", None)):
        problem(await story.step(story.neighbour, hazard_id, action, body), 404, "not_found")
    assert hazard_id not in await _lists(story, story.neighbour)


async def _everything(story: Story, who: Person, hazard_id: str) -> str:
    """All that somebody can read that may tell of a hazard."""
    paths = [f"/v1/hazards/{hazard_id}{rest}" for rest in ("", "/timeline", "/comments")]
    paths += ["/v1/me/notifications"] + ([] if who.username else ["/v1/me/export"])
    answers = [await story.client.get(path, headers=who.headers) for path in paths]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    return "\n".join([answer.text for answer in answers]) + await _lists(story, who)


async def _lists(story: Story, who: Person) -> str:
    lng, lat = story.spot["lng"], story.spot["lat"]
    around = f"{lng - 0.1},{lat - 0.1},{lng + 0.1},{lat + 0.1}"
    near = {"lng": str(lng), "lat": str(lat)}
    asked: list[tuple[str, dict[str, str]]] = [
        ("/v1/hazards?limit=100", {}),
        ("/v1/hazards?limit=100&scope=public", {}),
        ("/v1/hazards/statistics?group_by=community", {}),
        ("/v1/hazards/map.geojson", {"bbox": around, "include_closed": "true"}),
        ("/v1/hazards/nearby", near | {"category": "fire_passage_blocked"}),
        ("/v1/hazards/nearby", near | {"category": "garbage"}),
        ("/v1/hazards/nearby", near | {"category": "elderly_in_danger"}),
    ]
    answers = [
        await story.client.get(path, params=query or None, headers=who.headers) for path, query in asked
    ]
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    return "\n".join(answer.text for answer in answers)


async def _streamed(who: Person, hazard_id: str) -> list[str]:
    """The types of the events about a hazard that a live stream would give somebody."""
    caller = await who.caller()
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event.type).where(Event.subject_id == UUID(hazard_id), stream.visible_to(caller))
        )
        return list(rows)


async def _place_events() -> None:
    """What the worker does: give events their positions and tell people."""
    placed = BATCH
    while placed == BATCH:
        async with database.transaction() as session:
            placed = await sequence(session, HANDLERS)
