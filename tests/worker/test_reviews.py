"""The content check: public only after WeChat let it pass, hidden and told to staff otherwise, whatever goes wrong between."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app import clock
from app.db import database
from app.ids import new_id
from app.leases import ended
from app.models.events import Event
from app.models.hazard_comments import HazardComment
from app.models.hazards import HazardStatus, PublicState
from app.models.media import Media, MediaPurpose, MediaReview
from app.models.tasks import Task, TaskStatus
from app.outside import SANDBOX_PATH
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN
from app.sandbox.wechat_push import encrypt, sign
from app.services import reviews
from app.settings import settings
from app.tasks import KINDS
from tests.stories import Story, pictures, problem, row_of
from tests.worker.workshop import leased, until, working

_CONTROL = f"{SANDBOX_PATH}/_sandbox"
_TEXT_PATH, _MEDIA_PATH = "/wxa/msg_sec_check", "/wxa/media_check_async"
_REVIEWS = (reviews.TEXT, reviews.NICKNAME, reviews.MEDIA, reviews.VERDICT)
_FLAGGED = "hazard.review_flagged"


@pytest.fixture(autouse=True)
async def calm(story: Story) -> AsyncIterator[None]:
    """Nothing is left to check of what other tests filed, and WeChat is in a good mood afterwards."""
    await _set_aside()
    yield
    await story.client.delete(f"{_CONTROL}/faults")
    await _set_aside()


async def _set_aside() -> None:
    async with database.transaction() as session:
        waiting = Task.kind.in_(_REVIEWS) & (Task.status == TaskStatus.QUEUED)
        await session.execute(update(Task).where(waiting).values(ended(TaskStatus.DONE)))
        unanswered = Media.review == MediaReview.PENDING
        await session.execute(update(Media).where(unanswered).values(review=MediaReview.PASSED))


async def _review() -> None:
    """Do the checks that are due."""
    async with working({kind: KINDS[kind] for kind in _REVIEWS}):
        await until(_nothing_is_due)


async def _nothing_is_due() -> bool:
    async with database.reading() as session:
        due = select(Task.id).where(
            Task.kind.in_(_REVIEWS), Task.status == TaskStatus.QUEUED, Task.run_at <= clock.now()
        )
        return await session.scalar(due.limit(1)) is None


async def _waiting() -> list[Task]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(Task).where(Task.kind.in_(_REVIEWS), Task.status == TaskStatus.QUEUED)
        )
        return list(rows)


async def _bring_forward() -> None:
    async with database.transaction() as session:
        waiting = Task.kind.in_(_REVIEWS) & (Task.status == TaskStatus.QUEUED)
        await session.execute(update(Task).where(waiting).values(run_at=clock.now()))


async def _disturb(story: Story, **fault: object) -> None:
    answer = await story.client.post(f"{_CONTROL}/faults", json=fault)
    assert answer.status_code == 204, answer.text


async def _flags(hazard_id: str) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event.payload)
            .where(Event.subject_id == UUID(hazard_id), Event.type == _FLAGGED)
            .order_by(Event.seq)
        )
        return [dict(row) for row in rows]


async def _public_state(hazard_id: str) -> PublicState:
    return (await row_of(hazard_id)).public_state


async def _filed(story: Story, description: str) -> str:
    return str((await story.file(description=description))["id"])


async def test_harmless_words_become_public(story: Story) -> None:
    hazard_id = await _filed(story, "楼道堆满杂物")
    assert await _public_state(hazard_id) is PublicState.PENDING
    assert (await story.get(story.neighbour, f"/v1/hazards/{hazard_id}"))["description"] is None
    await _review()
    assert await _public_state(hazard_id) is PublicState.VISIBLE
    assert (await story.get(story.neighbour, f"/v1/hazards/{hazard_id}"))["description"] == "楼道堆满杂物"
    assert await _flags(hazard_id) == []


@pytest.mark.parametrize(
    ("words", "advice", "label"), [("沙盒违规", "risky", 20006), ("沙盒复核", "review", 21000)]
)
async def test_doubtful_words_stay_hidden_and_staff_are_told(
    story: Story, words: str, advice: str, label: int
) -> None:
    hazard_id = await _filed(story, f"这里有{words}内容")
    await _review()
    assert await _public_state(hazard_id) is PublicState.HIDDEN
    [flag] = await _flags(hazard_id)
    assert flag == {"part": "description", "id": hazard_id, "advice": advice, "label": label}


async def test_staff_are_trusted(story: Story) -> None:
    media_ids = await pictures(story.worker)
    hazard_id = str((await story.file(story.worker, description="沙盒违规", media_ids=media_ids))["id"])
    await _review()
    assert await _public_state(hazard_id) is PublicState.VISIBLE
    assert await _media_state(media_ids[0]) is MediaReview.PASSED


async def test_comments_are_checked_like_reports(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.ACCEPTED)
    good = (await story.take(story.neighbour, hazard_id, "comments", {"text": "已经好几天了"}))["id"]
    bad = (await story.take(story.neighbour, hazard_id, "comments", {"text": "沙盒广告"}))["id"]
    await _review()
    async with database.reading() as session:
        states = {
            str(row.id): row.public_state
            for row in await session.scalars(
                select(HazardComment).where(HazardComment.hazard_id == UUID(hazard_id))
            )
        }
    assert states == {good: PublicState.VISIBLE, bad: PublicState.HIDDEN}
    assert [(flag["part"], flag["id"]) for flag in await _flags(hazard_id)] == [("comment", bad)]


@pytest.mark.parametrize(
    ("nickname", "shown"), [("老李", "老李"), ("沙盒违规", None), ("沙盒复核", None), (None, None)]
)
async def test_a_nickname_is_shown_once_it_passed(
    story: Story, nickname: str | None, shown: str | None
) -> None:
    path = f"/v1/hazards/{(await story.file(anonymous=False))['id']}"
    known = len(await _events_about(story.reporter.id, "resident.nickname_hidden"))
    await _call_oneself(story, nickname)
    assert (await story.get(story.neighbour, path))["reporter_name"] is None
    await _review()
    assert (await story.get(story.neighbour, path))["reporter_name"] == shown
    assert (await story.get(story.reporter, "/v1/me"))["nickname"] == nickname
    hidden = (await _events_about(story.reporter.id, "resident.nickname_hidden"))[known:]
    assert bool(hidden) is (nickname is not None and shown is None)
    assert all(nickname not in str(payload) for payload in hidden if nickname)
    await _call_oneself(story, "另一个")
    assert (await story.get(story.neighbour, path))["reporter_name"] is None
    await _review()
    assert (await story.get(story.neighbour, path))["reporter_name"] == "另一个"


async def test_a_nickname_that_was_changed_during_its_check_has_its_own(story: Story) -> None:
    path = f"/v1/hazards/{(await story.file(anonymous=False))['id']}"
    await _review()
    await _disturb(story, path=_TEXT_PATH, delay_seconds=0.5, times=1)
    await _call_oneself(story, "老李")
    checking = asyncio.create_task(_review())
    await until(lambda: _is_held(reviews.NICKNAME))
    await _call_oneself(story, "沙盒违规")
    await checking
    await _review()
    assert (await story.get(story.neighbour, path))["reporter_name"] is None


async def _call_oneself(story: Story, nickname: str | None) -> None:
    answer = await story.client.put("/v1/me", json={"nickname": nickname}, headers=story.reporter.headers)
    assert answer.status_code == 200, answer.text


async def _events_about(subject_id: UUID, type_: str) -> list[dict[str, Any]]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(Event.payload).where(Event.subject_id == subject_id, Event.type == type_)
        )
        return [dict(row) for row in rows]


@pytest.mark.parametrize("fault", [{"errcode": -1, "times": 3}, {"status": 500, "body": "", "times": 3}])
async def test_words_wait_while_wechat_is_away(story: Story, fault: dict[str, object]) -> None:
    hazard_id = await _filed(story, "路灯不亮")
    await _disturb(story, path=_TEXT_PATH, **fault)
    await _review()
    assert await _public_state(hazard_id) is PublicState.PENDING
    assert [task.kind for task in await _waiting()] == [reviews.TEXT]
    await _bring_forward()
    await _review()
    assert await _public_state(hazard_id) is PublicState.VISIBLE


@pytest.mark.parametrize("errcode", [61010, 43104])
async def test_words_that_cannot_be_checked_stay_hidden_and_staff_are_told(
    story: Story, errcode: int
) -> None:
    hazard_id = await _filed(story, "井盖松动")
    await _disturb(story, path=_TEXT_PATH, errcode=errcode)
    await _review()
    assert await _public_state(hazard_id) is PublicState.HIDDEN
    assert [flag["advice"] for flag in await _flags(hazard_id)] == ["unchecked"]


async def test_what_moderation_hid_stays_hidden(story: Story) -> None:
    hazard_id = await _filed(story, "楼道堆满杂物")
    [task] = [task for task in await _waiting() if task.payload == {"hazard_id": hazard_id}]
    await _hide(hazard_id)
    await _review()
    assert await _public_state(hazard_id) is PublicState.HIDDEN
    assert (await _task(task.id)).status is TaskStatus.DONE


async def test_what_moderation_hides_during_the_check_stays_hidden(story: Story) -> None:
    hazard_id = await _filed(story, "楼道堆满杂物")
    await _disturb(story, path=_TEXT_PATH, delay_seconds=0.5)
    checking = asyncio.create_task(_review())
    await until(lambda: _is_held(reviews.TEXT))
    await _hide(hazard_id)
    await checking
    assert await _public_state(hazard_id) is PublicState.HIDDEN
    assert await _flags(hazard_id) == []


async def _is_held(kind: str) -> bool:
    return await leased(kind) > 0


async def _hide(hazard_id: str) -> None:
    async with database.transaction() as session:
        (await session.merge(await row_of(hazard_id))).hide()


async def _task(task_id: UUID) -> Task:
    async with database.reading() as session:
        return await session.get_one(Task, task_id)


class Photo:
    """A picture of a report that was handed in for its check."""

    def __init__(self, story: Story, hazard_id: str, media_id: str) -> None:
        self.story, self.hazard_id, self.media_id = story, hazard_id, media_id

    async def row(self) -> Media:
        async with database.reading() as session:
            return await session.get_one(Media, UUID(self.media_id))

    async def trace(self) -> str:
        trace = (await self.row()).review_trace
        assert trace is not None
        return trace

    async def push(self, *, trace: str | None = None, **changes: object) -> None:
        """WeChat's verdict, as it comes over the wire."""
        event = _verdict(trace or await self.trace(), **changes)
        answer = await _push(self.story, event)
        assert (answer.status_code, answer.text) == (200, "success")


@pytest.fixture
async def photo(story: Story) -> Photo:
    """One photo that waits for its verdict."""
    [media_id] = await pictures(story.reporter)
    hazard_id = str((await story.file(media_ids=[media_id]))["id"])
    await _review()
    return Photo(story, hazard_id, media_id)


def _verdict(
    trace: str, *, suggest: object = "pass", label: object = 100, **changes: object
) -> dict[str, object]:
    return {
        "ToUserName": "gh_0123456789ab",
        "FromUserName": "o" + "t" * 27,
        "CreateTime": int(clock.now().timestamp()),
        "MsgType": "event",
        "Event": "wxa_media_check",
        "appid": SANDBOX_APPID,
        "trace_id": trace,
        "version": 2,
        "errcode": 0,
        "result": {"suggest": suggest, "label": label},
        **changes,
    }


def _sealed(event: dict[str, object], moment: int | None = None) -> tuple[dict[str, str], bytes]:
    """Query and body of a push in secure mode."""
    timestamp, nonce = str(moment or int(clock.now().timestamp())), "42"
    text = encrypt(SANDBOX_PUSH_AES_KEY, json.dumps(event).encode(), SANDBOX_APPID, b"0123456789abcdef")
    query = {
        "signature": sign(SANDBOX_PUSH_TOKEN, timestamp, nonce),
        "timestamp": timestamp,
        "nonce": nonce,
        "openid": "o" + "t" * 27,
        "encrypt_type": "aes",
        "msg_signature": sign(SANDBOX_PUSH_TOKEN, timestamp, nonce, text),
    }
    return query, json.dumps({"ToUserName": "gh_0123456789ab", "Encrypt": text}).encode()


async def _push(story: Story, event: dict[str, object]) -> Any:  # noqa: ANN401
    query, body = _sealed(event)
    return await story.client.post("/v1/wechat/push", params=query, content=body)


async def _media_state(media_id: str) -> MediaReview:
    async with database.reading() as session:
        return (await session.get_one(Media, UUID(media_id))).review


async def test_a_photo_is_handed_in_with_a_link_that_wechat_can_follow(photo: Photo) -> None:
    checks = (await photo.story.client.get(f"{_CONTROL}/media-checks")).json()
    [mine] = [check for check in checks if check["trace_id"] == await photo.trace()]
    assert f"/v1/media/{photo.media_id}/main?" in mine["media_url"]
    assert await _media_state(photo.media_id) is MediaReview.PENDING


async def test_a_photo_that_passed_is_shown(photo: Photo) -> None:
    await photo.push()
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.PASSED
    seen = await photo.story.get(photo.story.neighbour, f"/v1/hazards/{photo.hazard_id}")
    assert [each["id"] for each in seen["photos"]] == [photo.media_id]


@pytest.mark.parametrize("suggest", ["risky", "review"])
async def test_a_doubtful_photo_stays_hidden_and_staff_are_told(photo: Photo, suggest: str) -> None:
    await photo.push(suggest=suggest, label="20002")
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.RISKY
    [flag] = await _flags(photo.hazard_id)
    assert flag == {"part": "photo", "id": photo.media_id, "advice": suggest, "label": 20002}


async def test_a_verdict_that_comes_three_times_counts_once(photo: Photo) -> None:
    event = _verdict(await photo.trace(), suggest="risky")
    for _ in range(3):
        assert (await _push(photo.story, event)).text == "success"
    assert len(await _waiting()) == 1
    await _review()
    assert len(await _flags(photo.hazard_id)) == 1


async def test_a_later_verdict_does_not_overturn_the_first(photo: Photo) -> None:
    await photo.push(suggest="risky")
    await _review()
    await photo.push(CreateTime=1)
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.RISKY


async def test_a_verdict_that_overtakes_our_commit_is_kept(photo: Photo) -> None:
    trace = str(new_id())
    await photo.push(trace=trace)
    await _review()
    assert [task.status for task in await _waiting()] == [TaskStatus.QUEUED]
    async with database.transaction() as session:
        mine = Media.id == UUID(photo.media_id)
        await session.execute(update(Media).where(mine).values(review_trace=trace))
    await _bring_forward()
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.PASSED


async def test_a_photo_that_could_not_be_checked_waits_hidden(photo: Photo) -> None:
    await photo.push(errcode=-1008)
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.PENDING
    assert await _flags(photo.hazard_id) == []


async def test_a_verdict_that_never_comes_is_asked_for_again(
    photo: Photo, advance: Callable[[float], None]
) -> None:
    first = await photo.trace()
    assert await _resubmit() == 0
    advance(31 * 60)
    async with database.reading() as session:
        assert await reviews.is_any_unanswered(session)
    assert await _resubmit() >= 1
    assert await _resubmit() == 0
    await _review()
    assert await photo.trace() != first


async def test_after_a_day_without_verdict_a_person_has_to_look(
    photo: Photo, advance: Callable[[float], None]
) -> None:
    advance(25 * 3600)
    await _resubmit()
    await _review()
    assert await _media_state(photo.media_id) is MediaReview.RISKY
    assert [flag["advice"] for flag in await _flags(photo.hazard_id)] == ["unchecked"]


async def _resubmit() -> int:
    async with database.transaction() as session:
        return await reviews.resubmit_unanswered(session)


async def test_photos_wait_while_wechat_is_away(story: Story) -> None:
    [media_id] = await pictures(story.reporter, MediaPurpose.HAZARD)
    await _disturb(story, path=_MEDIA_PATH, errcode=-1, times=3)
    await story.file(media_ids=[media_id])
    await _review()
    assert [task.kind for task in await _waiting()] == [reviews.MEDIA]
    await _bring_forward()
    await _review()
    async with database.reading() as session:
        assert (await session.get_one(Media, UUID(media_id))).review_trace is not None


async def test_the_address_proves_itself(story: Story) -> None:
    timestamp = str(int(clock.now().timestamp()))
    query = {
        "signature": sign(SANDBOX_PUSH_TOKEN, timestamp, "7"),
        "timestamp": timestamp,
        "nonce": "7",
        "echostr": "5837397520665",
    }
    answer = await story.client.get("/v1/wechat/push", params=query)
    assert (answer.status_code, answer.text) == (200, "5837397520665")
    problem(await story.client.get("/v1/wechat/push", params=query | {"nonce": "8"}), 403, "push_forged")
    problem(await story.client.get("/v1/wechat/push"), 403, "push_forged")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda query, body: (query | {"msg_signature": "0" * 40}, body), "push_forged"),
        (lambda query, body: (query | {"nonce": "43"}, body), "push_forged"),
        (lambda query, body: (query, body.replace(b'"Encrypt": "', b'"Encrypt": "A')), "push_forged"),
        (lambda query, body: ({}, body), "push_forged"),
        (lambda query, body: (query, b"<xml></xml>"), "push_unreadable"),
        (lambda query, body: (query, b""), "push_unreadable"),
        (lambda query, body: (query, b"[]"), "push_unreadable"),
        (lambda query, body: (query, b'{"Event": "wxa_media_check"}'), "push_unreadable"),
        (lambda query, body: (query, b" " * 70_000), "push_unreadable"),
    ],
)
async def test_what_is_not_from_wechat_leaves_nothing(
    photo: Photo,
    change: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]],
    code: str,
) -> None:
    query, body = change(*_sealed(_verdict(await photo.trace(), suggest="risky")))
    answer = await photo.story.client.post("/v1/wechat/push", params=query, content=body)
    assert answer.json()["code"] == code, answer.text
    assert await _waiting() == []


async def test_a_recorded_push_is_worth_nothing_later(photo: Photo) -> None:
    old = int((clock.now() - timedelta(minutes=6)).timestamp())
    query, body = _sealed(_verdict(await photo.trace()), old)
    problem(await photo.story.client.post("/v1/wechat/push", params=query, content=body), 403, "push_forged")


async def test_events_that_we_do_not_use_are_taken_and_dropped(story: Story) -> None:
    event: dict[str, object] = {"FromUserName": "o1", "CreateTime": 1, "Event": "user_enter_tempsession"}
    assert (await _push(story, event)).text == "success"
    assert await _waiting() == []


async def test_without_a_token_of_ours_nobody_can_sign(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real mini-program whose operator has not set up the push."""
    monkeypatch.setattr(settings, "wechat_appid", "wx0123456789abcdef")
    timestamp = str(int(clock.now().timestamp()))
    query = {"signature": sign("", timestamp, "7"), "timestamp": timestamp, "nonce": "7"}
    body = json.dumps(_verdict("forged")).encode()
    problem(await story.client.post("/v1/wechat/push", params=query, content=body), 403, "push_forged")
    problem(await story.client.get("/v1/wechat/push", params=query), 403, "push_forged")
