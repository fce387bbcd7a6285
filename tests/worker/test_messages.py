"""Subscribe messages: sent while the ledger allows, corrected by what WeChat answers, never lost, hardly ever twice."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update

from app import clock
from app.db import database
from app.keys import unseal
from app.models.hazards import HazardStatus
from app.models.notifications import MessageQuota, Notification, NotificationStatus
from app.models.residents import Resident
from app.models.tasks import Task, TaskStatus
from app.outside import SANDBOX_PATH
from app.services import messages
from app.tasks import KINDS
from tests.factories import Person, make_resident
from tests.stories import Story, complaints, problem
from tests.worker.chronicle import place_all
from tests.worker.workshop import until, working

TEMPLATE = messages.template_id()
_CONTROL = f"{SANDBOX_PATH}/_sandbox"
_SEND_PATH = "/cgi-bin/message/subscribe/send"


class Recipient:
    """A resident who reported a hazard, in our books and in WeChat's."""

    def __init__(self, story: Story, person: Person, openid: str) -> None:
        self.story, self.person, self.openid = story, person, openid

    async def agree(self, here: int, there: int | None = None) -> None:
        """Taps on `accept`, as we were told and as WeChat knows."""
        if here:
            body = {"template_id": TEMPLATE, "count": here}
            answer = await self.story.post(self.person, "/v1/me/message-quotas", body)
            assert answer.status_code == 200, answer.text
        if there is None or there:
            order = {"openid": self.openid, "template_id": TEMPLATE, "count": there or here}
            answer = await self.story.client.post(f"{_CONTROL}/subscriptions", json=order)
            assert answer.status_code == 200, answer.text

    async def ledger(self) -> int:
        async with database.reading() as session:
            row = await session.get(MessageQuota, (self.person.id, TEMPLATE))
            return -1 if row is None else row.remaining

    async def messages(self) -> list[dict[str, Any]]:
        answer = await self.story.client.get(f"{_CONTROL}/messages", params={"openid": self.openid})
        return list(answer.json())

    async def states(self) -> list[NotificationStatus]:
        async with database.reading() as session:
            rows = await session.scalars(
                select(Notification.status)
                .where(Notification.recipient_id == self.person.id)
                .order_by(Notification.id)
            )
            return list(rows)


@pytest.fixture
async def recipient(story: Story) -> AsyncIterator[Recipient]:
    """Somebody new; WeChat is in a good mood afterwards."""
    person = await make_resident(story.places.community)
    async with database.reading() as session:
        openid = unseal(await session.get_one(Resident, person.id), "openid")
    assert openid is not None
    yield Recipient(story, person, openid)
    await story.client.delete(f"{_CONTROL}/faults")


async def _accepted(recipient: Recipient) -> str:
    """One hazard of theirs is accepted: one message is due."""
    return await recipient.story.hazard(HazardStatus.ACCEPTED, recipient.person)


async def _deliver() -> None:
    """Do what is due, once."""
    await place_all()
    async with working({messages.SEND: KINDS[messages.SEND]}):
        await until(_nothing_is_due)


async def _nothing_is_due() -> bool:
    async with database.reading() as session:
        due = select(Task.id).where(
            Task.kind == messages.SEND, Task.status == TaskStatus.QUEUED, Task.run_at <= clock.now()
        )
        return await session.scalar(due.limit(1)) is None


async def _latest_task() -> Task:
    async with database.reading() as session:
        task = await session.scalar(
            select(Task).where(Task.kind == messages.SEND).order_by(Task.id.desc()).limit(1)
        )
    assert task is not None
    return task


async def _bring_forward() -> None:
    async with database.transaction() as session:
        waiting = (Task.kind == messages.SEND) & (Task.status == TaskStatus.QUEUED)
        await session.execute(update(Task).where(waiting).values(run_at=clock.now()))


async def _disturb(recipient: Recipient, fault: Mapping[str, object]) -> None:
    answer = await recipient.story.client.post(f"{_CONTROL}/faults", json={"path": _SEND_PATH, **fault})
    assert answer.status_code == 204, answer.text


async def test_a_message_says_what_how_and_when_and_nothing_else(recipient: Recipient) -> None:
    await recipient.agree(1)
    hazard_id = await _accepted(recipient)
    await _deliver()
    [message] = await recipient.messages()
    moment = message["values"].pop("time3")
    assert moment.startswith(f"{clock.today().year}年{clock.today().month}月{clock.today().day}日 ")
    assert message["values"] == {"thing1": "消防通道堵塞", "phrase2": "已受理"}
    assert message["page"] == f"pages/hazards/detail?id={hazard_id}"
    assert await recipient.states() == [NotificationStatus.SENT]


async def test_one_agreement_is_one_message(recipient: Recipient) -> None:
    await recipient.agree(1)
    hazard_id = await _accepted(recipient)
    await _deliver()
    await recipient.story.call(hazard_id)
    await _deliver()
    assert len(await recipient.messages()) == 1
    assert await recipient.ledger() == 0
    assert await recipient.states() == [NotificationStatus.SENT, NotificationStatus.SKIPPED]


async def test_without_agreement_nothing_is_sent_and_no_task_is_left(recipient: Recipient) -> None:
    before = await _latest_task_id()
    await _accepted(recipient)
    await _deliver()
    assert await recipient.messages() == []
    assert await recipient.states() == [NotificationStatus.SKIPPED]
    assert await _latest_task_id() == before


async def _latest_task_id() -> UUID | None:
    async with database.reading() as session:
        newest = select(Task.id).where(Task.kind == messages.SEND).order_by(Task.id.desc()).limit(1)
        return await session.scalar(newest)


async def test_two_events_at_once_share_one_agreement(recipient: Recipient) -> None:
    await recipient.agree(1, there=2)
    hazard_id = await _accepted(recipient)
    await recipient.story.call(hazard_id)
    await _deliver()
    assert len(await recipient.messages()) == 1
    assert sorted(await recipient.states()) == [NotificationStatus.SENT, NotificationStatus.SKIPPED]


async def test_a_refusal_empties_the_ledger(recipient: Recipient) -> None:
    """43101: the ledger said 3, WeChat says none."""
    await recipient.agree(3, there=0)
    await _accepted(recipient)
    await _deliver()
    assert await recipient.ledger() == 0
    assert await recipient.states() == [NotificationStatus.SKIPPED]


@pytest.mark.parametrize(
    ("fault", "least_wait"),
    [
        ({"errcode": 43108}, 4),
        ({"errcode": -1, "times": 3}, 4),
        ({"status": 502, "body": "<html>", "times": 3}, 4),
        ({"errcode": 45009}, 400),
        ({"errcode": 40037}, 400),
    ],
)
async def test_what_wechat_cannot_take_now_is_sent_later(
    recipient: Recipient, fault: dict[str, object], least_wait: float
) -> None:
    await recipient.agree(2)
    await _disturb(recipient, fault)
    await _accepted(recipient)
    await _deliver()
    waiting = await _latest_task()
    assert waiting.status is TaskStatus.QUEUED
    assert waiting.run_at - clock.now() > timedelta(seconds=least_wait - 2)
    assert recipient.openid not in (waiting.last_error or "")
    await recipient.story.client.delete(f"{_CONTROL}/faults")
    await _bring_forward()
    await _deliver()
    assert len(await recipient.messages()) == 1
    assert await recipient.ledger() == 1
    assert await recipient.states() == [NotificationStatus.SENT]


@pytest.mark.parametrize("errcode", [45168, 47003, 40003])
async def test_what_wechat_will_never_take_costs_nothing(recipient: Recipient, errcode: int) -> None:
    await recipient.agree(1)
    await _disturb(recipient, {"errcode": errcode})
    await _accepted(recipient)
    await _deliver()
    assert (await _latest_task()).status is TaskStatus.DONE
    assert await recipient.ledger() == 1
    assert await recipient.states() == [NotificationStatus.SKIPPED]


async def test_a_worker_that_died_before_the_answer_does_not_take_from_the_ledger_again(
    recipient: Recipient,
) -> None:
    await recipient.agree(1)
    await _accepted(recipient)
    await place_all()
    async with database.transaction() as session:
        mine = Notification.recipient_id == recipient.person.id
        await session.execute(update(Notification).where(mine).values(status=NotificationStatus.SENDING))
        await session.execute(
            update(MessageQuota)
            .where(MessageQuota.resident_id == recipient.person.id)
            .values(remaining=MessageQuota.remaining - 1)
        )
    await _deliver()
    assert len(await recipient.messages()) == 1
    assert await recipient.ledger() == 0


async def test_one_recipient_in_trouble_does_not_hold_up_the_others(recipient: Recipient) -> None:
    other = await make_resident(recipient.story.places.community)
    hazard_id = await recipient.story.hazard(HazardStatus.FILED, recipient.person)
    await recipient.story.take(other, hazard_id, "support")
    async with database.reading() as session:
        openid = unseal(await session.get_one(Resident, other.id), "openid") or ""
    second = Recipient(recipient.story, other, openid)
    await recipient.agree(1)
    await second.agree(1)
    await recipient.story.accept(hazard_id)
    await _disturb(recipient, {"errcode": 43108})
    await _deliver()
    assert len(await recipient.messages()) + len(await second.messages()) == 1
    await _bring_forward()
    await _deliver()
    assert len(await recipient.messages()) == len(await second.messages()) == 1


async def test_agreements_add_up_to_a_limit(recipient: Recipient) -> None:
    story, body = recipient.story, {"template_id": TEMPLATE, "count": 10}
    answers = [(await story.post(recipient.person, "/v1/me/message-quotas", body)).json() for _ in range(12)]
    assert [answer["remaining"] for answer in answers][:2] == [10, 20]
    assert answers[-1] == {"template_id": TEMPLATE, "remaining": 100}


async def test_a_repeated_request_counts_once(recipient: Recipient) -> None:
    body = {"template_id": TEMPLATE}
    for _ in range(3):
        await recipient.story.post(recipient.person, "/v1/me/message-quotas", body, key="tap-1")
    assert await recipient.ledger() == 1


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"template_id": "another-template"}, "body.template_id"),
        ({"template_id": ""}, "body.template_id"),
        ({"template_id": TEMPLATE, "count": 0}, "body.count"),
        ({"template_id": TEMPLATE, "count": 11}, "body.count"),
        ({"template_id": TEMPLATE, "count": "1"}, "body.count"),
        ({"template_id": TEMPLATE, "more": 1}, "body.more"),
        ({}, "body.template_id"),
    ],
)
async def test_a_bad_agreement_changes_nothing(
    recipient: Recipient, body: dict[str, object], where: str
) -> None:
    answer = await recipient.story.post(recipient.person, "/v1/me/message-quotas", body)
    assert [loc for loc, _ in complaints(problem(answer, 422, answer.json()["code"]))] == [where]
    assert await recipient.ledger() == -1


async def test_staff_have_no_ledger(story: Story) -> None:
    answer = await story.post(story.worker, "/v1/me/message-quotas", {"template_id": TEMPLATE})
    problem(answer, 403, "forbidden")
