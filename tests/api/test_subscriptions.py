"""What residents and staff follow: taken in as far as they may see it, once, so many, and theirs alone."""

import asyncio
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from app.db import database
from app.ids import new_id
from app.models.hazards import HazardStatus
from app.models.sessions import PrincipalKind
from app.models.staff import Role
from app.models.subscriptions import Subscription
from app.services import subscriptions
from tests.factories import Person, make_resident, make_staff
from tests.stories import CATEGORY, Story, complaints, problem

PATH = "/v1/subscriptions"
PRIVATE = "elderly_in_danger"


async def follow(story: Story, who: Person, **target: object) -> httpx.Response:
    return await story.post(who, PATH, target)


async def count_of(who: Person) -> int:
    async with database.reading() as session:
        query = select(func.count()).where(Subscription.subscriber_id == who.id)
        return await session.scalar(query) or 0


async def test_each_kind_is_kept_as_it_was_asked_for(story: Story) -> None:
    who = await make_resident(story.places.community)
    hazard_id = await story.hazard(HazardStatus.FILED)
    community = str(story.places.community)
    targets: list[dict[str, object]] = [
        {"kind": "hazard", "hazard_id": hazard_id},
        {"kind": "category", "category": CATEGORY},
        {"kind": "category", "category": CATEGORY, "region_id": community},
        {"kind": "region", "region_id": community},
        {"kind": "point", "location": story.spot, "radius_m": 300},
    ]
    for target in targets:
        answer = await follow(story, who, **target)
        assert answer.status_code == 201, answer.text
        body = answer.json()
        kept = {
            name: value
            for name, value in body.items()
            if value is not None and name not in ("id", "created_at")
        }
        if "location" in target:
            assert kept.pop("location") == pytest.approx(story.spot | {"datum": "gcj02"}, abs=1e-5)
        assert kept == {name: value for name, value in target.items() if name != "location"}
    listed = (await story.get(who, PATH, limit=3))["items"]
    more = await story.get(who, PATH, limit=3, cursor=(await story.get(who, PATH, limit=3))["next_cursor"])
    assert [each["kind"] for each in (*listed, *more["items"])] == [
        "point",
        "region",
        "category",
        "category",
        "hazard",
    ]
    assert more["next_cursor"] is None


async def test_the_same_target_is_followed_once_also_in_a_race(story: Story) -> None:
    who = await make_resident(story.places.community)
    target = {"kind": "point", "location": story.spot, "radius_m": 300}
    answers = await asyncio.gather(*(follow(story, who, **target) for _ in range(8)))
    made = [answer for answer in answers if answer.status_code == 201]
    assert len(made) == 1
    for answer in answers:
        if answer is not made[0]:
            assert problem(answer, 409, "already_subscribed")["subscription_id"] == made[0].json()["id"]
    assert await count_of(who) == 1
    assert (await follow(story, await make_resident(), **target)).status_code == 201


async def test_there_is_a_limit_that_a_race_does_not_pass(story: Story) -> None:
    who = await make_resident(story.places.community)
    async with database.transaction() as session:
        for number in range(subscriptions.PER_CALLER - 2):
            session.add(
                Subscription(
                    id=new_id(),
                    subscriber_kind=PrincipalKind.RESIDENT,
                    subscriber_id=who.id,
                    kind="region",
                    target=f"region:{number}",
                    region_id=story.places.community,
                )
            )
    answers = await asyncio.gather(
        *(follow(story, who, kind="point", location=story.spot, radius_m=100 + n) for n in range(6))
    )
    assert sorted(answer.status_code for answer in answers) == [201, 201, 409, 409, 409, 409]
    problem(next(answer for answer in answers if answer.status_code == 409), 409, "too_many_subscriptions")
    assert await count_of(who) == subscriptions.PER_CALLER


async def test_what_one_may_not_see_cannot_be_followed(story: Story) -> None:
    private = await story.hazard(HazardStatus.FILED, category=PRIVATE)
    outsider = await make_staff(Role.GRID_WORKER, story.places.far_grid)
    problem(await follow(story, story.neighbour, kind="hazard", hazard_id=private), 404, "not_found")
    problem(await follow(story, outsider, kind="hazard", hazard_id=private), 404, "not_found")
    assert (await follow(story, story.reporter, kind="hazard", hazard_id=private)).status_code == 201
    assert (await follow(story, story.worker, kind="hazard", hazard_id=private)).status_code == 201
    answer = await follow(story, story.neighbour, kind="category", category=PRIVATE)
    assert complaints(problem(answer, 422, "unknown_category")) == [("body.category", "unknown_category")]
    assert (await follow(story, story.worker, kind="category", category=PRIVATE)).status_code == 201
    region = {"kind": "region", "region_id": str(story.places.far_grid)}
    problem(await follow(story, story.worker, **region), 403, "forbidden")
    assert (await follow(story, outsider, **region)).status_code == 201
    assert (await follow(story, story.neighbour, **region)).status_code == 201


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ({"kind": "region", "region_id": str(UUID(int=7))}, "body.region_id"),
        ({"kind": "category", "category": "dragons"}, "body.category"),
        ({"kind": "point", "location": {"lng": 0.0, "lat": 0.0}, "radius_m": 100}, "body.location"),
    ],
)
async def test_targets_that_do_not_exist_are_named(
    story: Story, target: dict[str, object], field: str
) -> None:
    answer = await follow(story, story.neighbour, **target)
    assert answer.status_code == 422
    assert [loc for loc, _ in complaints(answer.json())] == [field]


@pytest.mark.parametrize(
    "target",
    [
        {},
        {"kind": "everything"},
        {"kind": "hazard"},
        {"kind": "point", "location": {"lng": 104.1, "lat": 30.6}, "radius_m": 49},
        {"kind": "point", "location": {"lng": 104.1, "lat": 30.6}, "radius_m": 3001},
        {"kind": "region", "region_id": str(UUID(int=7)), "radius_m": 100},
    ],
)
async def test_malformed_targets_are_refused(story: Story, target: dict[str, object]) -> None:
    assert (await story.post(story.neighbour, PATH, target)).status_code == 422


async def test_one_ends_ones_own_and_nobody_elses(story: Story) -> None:
    who = await make_resident(story.places.community)
    made = (await follow(story, who, kind="region", region_id=str(story.places.grid))).json()
    path = f"{PATH}/{made['id']}"
    problem(await story.client.delete(path, headers=story.neighbour.headers), 404, "not_found")
    assert (await story.client.delete(path, headers=who.headers)).status_code == 204
    problem(await story.client.delete(path, headers=who.headers), 404, "not_found")
    assert await count_of(who) == 0


async def test_the_export_has_them_and_who_leaves_leaves_none(story: Story) -> None:
    who = await make_resident(story.places.community)
    made = (await follow(story, who, kind="region", region_id=str(story.places.grid))).json()
    assert (await story.get(who, "/v1/me/export"))["subscriptions"] == [made]
    assert (await story.client.delete("/v1/me", headers=who.headers)).status_code == 204
    assert await count_of(who) == 0
