"""What services render themselves is byte for byte what FastAPI would make of the declared `response_model`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import get_type_hints

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import TypeAdapter
from starlette.types import ASGIApp

from app.main import ROUTERS
from app.models.media import MediaPurpose
from app.operation import Operation
from app.services import reviews
from app.shortcut import Ready
from tests.conftest import new_client
from tests.stories import Json, Story, begin, pictures, show_to_public, work_off

_STRANGE = '3栋"1单元"\\ 消防\u2028通道\té 😀 <b>&</b>'


def _ready() -> Iterator[Operation]:
    for route in (route for router in ROUTERS for route in router.routes):
        if isinstance(route, Operation) and get_type_hints(route.endpoint).get("return") is Ready:
            yield route


OPERATIONS = {operation.name: operation for operation in _ready()}


def _declared() -> FastAPI:
    """Every operation as FastAPI would answer it: what is posted is read into the model, and the model returned."""
    declared = FastAPI()
    for operation in OPERATIONS.values():
        declared.add_api_route(
            f"/{operation.name}",
            _returning(TypeAdapter(operation.response_model)),
            methods=["POST"],
            response_model=operation.response_model,
        )
    return declared


def _returning(model: TypeAdapter[object]) -> Callable[[Request], Awaitable[object]]:
    async def endpoint(request: Request) -> object:
        return model.validate_json(await request.body(), strict=True)

    return endpoint


class Seen:
    """Compares every answer of an operation with FastAPI's, and remembers which there were."""

    def __init__(self, declared: httpx.AsyncClient) -> None:
        self._declared = declared
        self.operations: set[str] = set()

    async def __call__(self, answer: httpx.Response) -> None:
        await answer.aread()
        path, method = answer.request.url.path, answer.request.method
        for name, operation in OPERATIONS.items():
            if (
                answer.is_success
                and method in (operation.methods or ())
                and operation.path_regex.fullmatch(path)
            ):
                expected = await self._declared.post(f"/{name}", content=answer.content)
                assert answer.content == expected.content
                assert answer.headers["content-type"] == expected.headers["content-type"]
                self.operations.add(name)
                return


@pytest.fixture
async def seen() -> AsyncIterator[Seen]:
    async with new_client(_declared()) as declared:
        yield Seen(declared)


async def _look_from_all_sides(story: Story, hazard_id: str) -> None:
    people = (story.reporter, story.neighbour, story.worker, story.manager, story.dispatcher, story.officer)
    for who in people:
        await story.client.get(f"/v1/hazards/{hazard_id}", headers=who.headers)
    await story.get(story.reporter, "/v1/hazards", limit=2)
    await story.get(story.neighbour, "/v1/hazards", scope="public", limit=1)
    await story.get(story.neighbour, "/v1/hazards/nearby", **story.spot, category="garbage", radius_m=900)
    for who in (story.worker, story.officer):
        await story.get(who, "/v1/hazards", limit=1)
        await story.get(who, "/v1/hazards", order="due", limit=1)
        await story.get(who, "/v1/hazards/nearby", **story.spot, category="garbage", radius_m=900)


async def test_they_are_what_the_model_says(application: ASGIApp, seen: Seen) -> None:
    """A whole case, step by step, as everybody sees it."""
    async with new_client(application) as client:
        client.event_hooks["response"].append(seen)
        story = await begin(client)
        await client.put("/v1/me", json={"nickname": _STRANGE[:12]}, headers=story.reporter.headers)
        words: Json = {
            "category": "garbage",
            "description": _STRANGE,
            "address": "枫林苑3栋",
            "anonymous": False,
        }
        hazard_id = str((await story.file(**words))["id"])
        await _look_from_all_sides(story, hazard_id)
        await show_to_public(hazard_id)
        await story.take(story.neighbour, hazard_id, "support")
        await story.take(story.manager, hazard_id, "assign", {"staff_id": str(story.worker.id)})
        await _look_from_all_sides(story, hazard_id)
        await story.call(hazard_id, "需要街道协调")
        await story.dispatch(hazard_id, story.department, story.second_department)
        await story.refuse(hazard_id, story.second_officer)
        await story.check_in(hazard_id)
        await _look_from_all_sides(story, hazard_id)
        await story.resolve(hazard_id, story.officer)
        await story.dispute(hazard_id)
        await story.resolve(
            hazard_id, story.officer, media_ids=await pictures(story.officer, MediaPurpose.HAZARD_AFTER)
        )
        await story.confirm(hazard_id)
        await story.take(story.reporter, hazard_id, "rate", {"score": 4})
        await _look_from_all_sides(story, hazard_id)

        refused, primary, twin = [str((await story.file(category="garbage"))["id"]) for _ in range(3)]
        await story.take(story.manager, refused, "reject", {"reason": "not_a_hazard"})
        await story.take(story.manager, primary, "redactions", {"hide": True, "reason": "illegal"})
        await story.accept(primary)
        await story.take(story.manager, twin, "merge", {"into_id": primary})
        flagged = str((await story.file(category="garbage", description="这里有沙盒违规内容"))["id"])
        await work_off(reviews.TEXT)
        publish = {"part_id": flagged, "decision": "publish", "reason": "没有问题"}
        await story.take(story.manager, flagged, "reviews", publish)
        for each in (refused, primary, twin, flagged):
            await _look_from_all_sides(story, each)
    assert seen.operations == set(OPERATIONS)


async def test_the_comparison_can_fail(seen: Seen) -> None:
    """Another order of the same members is not the same bytes."""
    request = httpx.Request("GET", "http://testserver/v1/hazards")
    answer = httpx.Response(200, content=b'{"next_cursor":null,"items":[]}', request=request)
    with pytest.raises(AssertionError):
        await seen(answer)
