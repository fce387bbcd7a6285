"""One picture in many reports while the worker hands it in for its check: one report has it, and nobody waits for ever."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest
from sqlalchemy import select

from app.db import database
from app.models.tasks import Task, TaskStatus
from app.services import reviews
from app.tasks import KINDS
from tests.stories import Story, begin, pictures
from tests.worker.workshop import until, working

_BURSTS, _AT_ONCE = 6, 20


@pytest.fixture
async def story(client: httpx.AsyncClient) -> Story:
    return await begin(client)


@pytest.fixture
async def worker() -> AsyncIterator[None]:
    async with working({kind: KINDS[kind] for kind in (reviews.MEDIA, reviews.TEXT)}):
        yield


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("count", [1, 2])
async def test_shared_pictures_go_into_one_report(story: Story, count: int) -> None:
    """Two pictures come in either order."""
    for _ in range(_BURSTS):
        media_ids = await pictures(story.reporter, count=count)
        orders = [media_ids, media_ids[::-1]]
        bodies = [await story.report(media_ids=orders[number % 2]) for number in range(_AT_ONCE)]
        answers = await asyncio.gather(
            *(
                story.post(story.reporter, "/v1/hazards", body, key=f"{media_ids[0]}-{number}")
                for number, body in enumerate(bodies)
            )
        )
        statuses = Counter(answer.status_code for answer in answers)
        assert statuses == {201: 1, 422: _AT_ONCE - 1}
        await until(lambda: _handed_in_once(media_ids))  # noqa: B023 - awaited in this very round


async def _handed_in_once(media_ids: list[str]) -> bool:
    """Whether all of them were handed in; fails when one was tried twice, or not at all."""
    async with database.reading() as session:
        rows = await session.scalars(select(Task).where(Task.kind == reviews.MEDIA))
        tasks = [task for task in rows if task.payload["media_id"] in media_ids]
    assert sorted(str(task.payload["media_id"]) for task in tasks) == sorted(media_ids)
    assert {task.attempts for task in tasks} <= {0, 1}
    return all(task.status is TaskStatus.DONE for task in tasks)
