"""Statistics equal a recount of what was filed, and the public learns nothing of fewer than five people."""

from collections import Counter
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from app import clock
from app.db import database
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardStatus
from app.models.regions import Region, RegionAncestor
from app.models.staff import Role
from app.services import hazard_deadlines, hazards
from tests.factories import Person, make_resident, make_staff
from tests.stories import Json, Story, begin, change, problem

S = HazardStatus
UNFIXED: Json = {"outcome": "unfixed", "unfixed_reason": "owner_refuses"}
STATISTICS = "/v1/hazards/statistics"


async def _cells(story: Story, who: Person, **query: object) -> dict[str, Json]:
    answer = await story.get(who, STATISTICS, **query)
    return {str(each["key"]): each for each in answer["items"]}


async def _code(region_id: UUID) -> str:
    async with database.reading() as session:
        return (await session.get_one(Region, region_id)).code


async def _a_busy_week(story: Story) -> None:
    """Hazards in every state: in two grids and the next community, some late, some disputed, some left unfixed."""
    for status in S:
        await story.hazard(status)
    for region in (story.places.other_grid, story.places.neighbour_grid):
        await story.file(category="garbage", location=story.places.point(region))
    late = await story.hazard(S.ACCEPTED, category="garbage")
    await _run_late(late)
    await story.resolve(late)
    disputed = await story.hazard(S.RESOLVED, category="garbage")
    await story.dispute(disputed)
    unfixed = await story.hazard(S.ACCEPTED)
    await story.resolve(unfixed, **UNFIXED)
    await story.confirm(unfixed)
    for number, (hazard_id, score) in enumerate(((unfixed, 2), (late, 5))):
        await story.take(story.reporter, hazard_id, "rate", {"score": score})
        created = clock.now() - timedelta(hours=10)
        await change(hazard_id, created_at=created, resolved_at=created + timedelta(hours=3 * number + 1))


async def _run_late(hazard_id: str) -> None:
    """Its level's time ran out, and a sweep found it."""
    async with database.transaction() as session:
        deadline = (
            await session.scalars(select(HazardDeadline).where(HazardDeadline.hazard_id == UUID(hazard_id)))
        ).one()
        deadline.warn_at, deadline.due_at = clock.now() - timedelta(hours=2), clock.now()
    async with database.transaction() as session:
        await hazard_deadlines.sweep_escalations(session)


async def test_every_number_is_a_recount(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    await _a_busy_week(story)
    admin = await make_staff(Role.DISTRICT_ADMIN, story.places.district)
    for who, regions in (
        (story.worker, [story.places.grid]),
        (story.manager, [story.places.community]),
        (admin, [story.places.district]),
    ):
        for group_by in ("category", "street", "community", "grid"):
            found = await story.get(who, STATISTICS, scope="handled", group_by=group_by)
            expected = await _recount(regions, group_by)
            assert {each["key"]: each for each in found["items"]} == expected
            assert [each["key"] for each in found["items"]] == sorted(expected)
            assert found["levels"] == await _recount_levels(regions)
    (total,) = (await _cells(story, admin, scope="handled", group_by="street")).values()
    assert (total["filed"], total["rejected"], total["merged"], total["disputed"]) == (15, 1, 1, 1)
    assert (total["closed_fixed"], total["closed_unfixed"], total["overdue"]) == (1, 1, 1)
    assert (total["ratings"], total["satisfaction"]) == (2, 3.5)


async def test_unfixed_is_not_fixed(client: httpx.AsyncClient) -> None:
    """Nor does it become so by being closed for want of an answer."""
    story = await begin(client)
    hazard_id = await story.hazard(S.ACCEPTED)
    await story.resolve(hazard_id, **UNFIXED)
    await change(hazard_id, dispute_until=clock.now())
    async with database.transaction() as session:
        await hazards.close_unanswered(session)
    (cell,) = (await _cells(story, story.manager, scope="handled")).values()
    assert (cell["resolved"], cell["closed_fixed"], cell["closed_unfixed"]) == (1, 0, 1)


async def test_the_period_begins_with_from_and_ends_before_until(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    at = clock.now().replace(microsecond=0) - timedelta(days=3)
    for seconds in (-1, 0, 1, 2):
        await change((await story.file())["id"], created_at=at + timedelta(seconds=seconds))

    async def filed(**query: datetime) -> int:
        period = {name: value.isoformat() for name, value in query.items()}
        cells = await _cells(story, story.manager, scope="handled", **period)
        return sum(cell["filed"] for cell in cells.values())

    assert await filed() == 4
    assert await filed(filed_from=at) == 3
    assert await filed(filed_until=at) == 1
    assert await filed(filed_from=at, filed_until=at + timedelta(seconds=2)) == 2


async def test_a_region_and_everything_below_it(client: httpx.AsyncClient) -> None:
    story = await begin(client)
    for region in (story.places.grid, story.places.other_grid, story.places.neighbour_grid):
        await story.file(location=story.places.point(region))

    async def filed(region_id: UUID) -> int:
        cells = await _cells(story, story.dispatcher, scope="handled", region_id=region_id)
        return sum(cell["filed"] for cell in cells.values())

    regions = (story.places.grid, story.places.community, story.places.street, story.places.far_street)
    assert [await filed(region) for region in regions] == [1, 2, 3, 0]


class TestThePublicView:
    """Cells of fewer than five people give nothing but their name."""

    async def test_five_people_make_a_number(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        grid = await _code(story.places.grid)
        nothing = {"key": grid, "name": "测试grid", "region_id": str(story.places.grid), "suppressed": True}
        for who in [await make_resident() for _ in range(4)]:
            await story.file(who)
            await story.file(who)
            cell = (await _cells(story, story.neighbour, group_by="grid"))[grid]
            assert cell == dict.fromkeys(cell) | nothing
        await story.file()
        cell = (await _cells(story, story.neighbour, group_by="grid"))[grid]
        assert (cell["suppressed"], cell["filed"], cell["open"]) == (False, 9, 9)

    async def test_whatever_is_asked_for(self, client: httpx.AsyncClient) -> None:
        """Every grouping, region and period: each number shown stands for five people at least."""
        story = await begin(client)
        people = [story.reporter, *[await make_resident() for _ in range(6)]]
        at = clock.now().replace(microsecond=0) - timedelta(days=5)
        places = [story.places.grid] * 5 + [story.places.other_grid, story.places.neighbour_grid]
        for number, (who, region) in enumerate(zip(people, places, strict=True)):
            category = "garbage" if number % 2 else "street_lighting"
            hazard = await story.file(who, location=story.places.point(region), category=category)
            await change(hazard["id"], created_at=at + timedelta(hours=number))
        shown = 0
        for region_id in (
            None,
            story.places.street,
            story.places.community,
            story.places.grid,
            story.places.other_grid,
        ):
            for group_by in ("category", "street", "community", "grid"):
                for hours in (0, 2, 5):
                    since = (at + timedelta(hours=hours)).isoformat()
                    until = (at + timedelta(days=1)).isoformat()
                    cells = await _cells(
                        story,
                        story.neighbour,
                        group_by=group_by,
                        region_id=region_id,
                        filed_from=since,
                        filed_until=until,
                    )
                    for cell in cells.values():
                        shown += not cell["suppressed"]
                        numbers = [
                            value
                            for name, value in cell.items()
                            if name not in ("key", "name", "region_id", "suppressed")
                        ]
                        assert cell["suppressed"] or cell["filed"] >= 5
                        assert not cell["suppressed"] or set(numbers) == {None}
        assert shown > 5

    async def test_only_what_is_public_counts(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        for _ in range(5):
            await story.file(await make_resident())
        await story.hazard(S.REJECTED)
        await story.hazard(S.FILED, category="elderly_in_danger")
        await story.take(
            story.manager, await story.hazard(S.FILED), "redactions", {"hide": True, "reason": "abuse"}
        )
        grid = await _code(story.places.grid)
        for who in (story.neighbour, story.worker):
            answer = await story.get(who, STATISTICS, group_by="grid", region_id=story.places.grid)
            assert [(each["key"], each["filed"]) for each in answer["items"]] == [(grid, 5)]
            assert answer["levels"] == []

    async def test_residents_get_no_other_view(self, story: Story) -> None:
        response = await story.client.get(f"{STATISTICS}?scope=handled", headers=story.reporter.headers)
        problem(response, 403, "forbidden")

    @pytest.mark.parametrize("query", ["group_by=reporter_id", "filed_from=now", "k=1", "scope=all"])
    async def test_what_is_no_question(self, story: Story, query: str) -> None:
        response = await story.client.get(f"{STATISTICS}?{query}", headers=story.reporter.headers)
        problem(response, 422, "invalid_input")


async def _rows(regions: list[UUID]) -> list[Hazard]:
    async with database.reading() as session:
        below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id.in_(regions))
        return list(await session.scalars(select(Hazard).where(Hazard.region_id.in_(below))))


async def _deadlines(regions: list[UUID]) -> list[HazardDeadline]:
    ids = [row.id for row in await _rows(regions)]
    async with database.reading() as session:
        return list(await session.scalars(select(HazardDeadline).where(HazardDeadline.hazard_id.in_(ids))))


async def _recount(regions: list[UUID], group_by: str) -> dict[str, Json]:
    """The same numbers in the plainest way: row by row, in Python."""
    late = {row.hazard_id for row in await _deadlines(regions) if row.escalated_at is not None}
    async with database.reading() as session:
        tree = await session.execute(
            select(RegionAncestor.region_id, Region)
            .join(Region, Region.id == RegionAncestor.ancestor_id)
            .where(Region.level == (group_by if group_by != "category" else "grid"))
        )
        above = {row.region_id: row.Region for row in tree}
    groups: dict[str, list[Hazard]] = {}
    named: dict[str, Region] = {}
    for row in await _rows(regions):
        region = above.get(row.region_id)
        key = row.category if group_by == "category" or region is None else region.code
        groups.setdefault(key, []).append(row)
        if region is not None and group_by != "category":
            named[key] = region
    return {key: _expected(key, rows, named.get(key), late) for key, rows in groups.items()}


def _expected(key: str, rows: list[Hazard], region: Region | None, late: set[UUID]) -> Json:
    statuses = Counter(str(row.status) for row in rows)
    outcomes = Counter(str(row.outcome) for row in rows if row.status is S.CLOSED)
    seconds = [(row.resolved_at - row.created_at).total_seconds() for row in rows if row.resolved_at]
    scores = [row.rating for row in rows if row.rating is not None]
    return {
        "key": key,
        "name": region.name if region else None,
        "region_id": str(region.id) if region else None,
        "suppressed": False,
        "filed": len(rows),
        "open": sum(statuses[each] for each in ("filed", "accepted", "called", "dispatched", "checked_in")),
        "resolved": len(seconds),
        "closed_fixed": outcomes["fixed"],
        "closed_unfixed": outcomes["unfixed"],
        "rejected": statuses["rejected"],
        "merged": statuses["merged"],
        "overdue": len([row for row in rows if row.id in late]),
        "disputed": len([row for row in rows if row.disputes]),
        "median_seconds_to_resolve": round(median(seconds)) if seconds else None,
        "satisfaction": round(sum(scores) / len(scores), 2) if scores else None,
        "ratings": len(scores),
    }


async def _recount_levels(regions: list[UUID]) -> list[Json]:
    rows = await _deadlines(regions)
    found = []
    for level in sorted({str(row.level) for row in rows}):
        mine = [row for row in rows if row.level == level]
        seconds = [(row.ended_at - row.started_at).total_seconds() for row in mine if row.ended_at]
        found.append(
            {
                "level": level,
                "started": len(mine),
                "ended": len(seconds),
                "warned": len([row for row in mine if row.warned_at]),
                "overdue": len([row for row in mine if row.escalated_at]),
                "median_seconds": round(median(seconds)) if seconds else None,
            }
        )
    return found
