"""Statistics equal a recount of what was filed, and the public learns nothing of fewer than five people."""

from collections import Counter
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from app import clock
from app.clock import SHANGHAI
from app.db import database
from app.models.hazard_categories import HazardCategory
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardStatus
from app.models.regions import Region, RegionAncestor
from app.models.staff import Role
from app.schemas.hazard_statistics import HazardStatisticsRow
from app.services import hazard_deadlines, hazards
from app.services.hazard_suppression import hidden, too_few
from tests.factories import Person, make_resident, make_staff
from tests.stories import Json, Story, begin, change, complaints, problem

S = HazardStatus
UNFIXED: Json = {"outcome": "unfixed", "unfixed_reason": "owner_refuses"}
STATISTICS = "/v1/hazards/statistics"
CELL = tuple(HazardStatisticsRow.model_fields)


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
    """Cells of fewer than five people give nothing but their name, and nobody can work them out."""

    async def test_five_people_make_a_number(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        street = await _code(story.places.street)
        nothing = {
            "key": street,
            "name": "测试street",
            "region_id": str(story.places.street),
            "suppressed": True,
        }
        for who in [await make_resident() for _ in range(4)]:
            await story.file(who)
            await story.file(who)
            assert (await _street(story))[street] == dict.fromkeys(CELL) | nothing
        await story.file()
        cell = (await _street(story))[street]
        assert (cell["suppressed"], cell["filed"], cell["open"]) == (False, 9, 9)

    async def test_a_small_cell_hides_behind_the_next_smallest(self, client: httpx.AsyncClient) -> None:
        """The street's number is known, so that one hidden community alone would be what is left of it."""
        story = await begin(client)
        await _filed_by(6, story, story.places.grid)
        await _filed_by(2, story, story.places.neighbour_grid)
        communities = await _cells(
            story, story.neighbour, group_by="community", region_id=story.places.street
        )
        assert [cell["suppressed"] for cell in communities.values()] == [True, True]
        assert [cell["filed"] for cell in (await _street(story)).values()] == [8]

    async def test_a_hidden_street_hides_its_communities(self, client: httpx.AsyncClient) -> None:
        """They add up to it; and the numbers by category add up to all streets."""
        story = await begin(client)
        await _filed_by(6, story, story.places.grid)
        assert (await _street(story))[await _code(story.places.street)]["filed"] == 6
        await _filed_by(2, story, story.places.far_grid)
        for group_by in ("street", "community"):
            cells = await _cells(story, story.neighbour, group_by=group_by, region_id=story.places.district)
            assert [cell["suppressed"] for cell in cells.values()] == [True, True], group_by

    async def test_a_region_only_picks_rows(self, client: httpx.AsyncClient) -> None:
        """Every question about a month is answered from one table."""
        story = await begin(client)
        await _filed_by(5, story, story.places.grid)
        await _filed_by(7, story, story.places.far_grid)
        whole = await _cells(story, story.neighbour, group_by="community", region_id=story.places.district)
        parts = [
            await _cells(story, story.neighbour, group_by="community", region_id=region_id)
            for region_id in (story.places.street, story.places.far_community)
        ]
        assert [cell["filed"] for cell in whole.values()] == [5, 7]
        assert {**parts[0], **parts[1]} == whole
        assert [len(part) for part in parts] == [1, 1]
        assert await _cells(story, story.neighbour, group_by="community", region_id=story.places.grid) == {}

    async def test_one_calendar_month_of_the_district(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        until = clock.now().astimezone(SHANGHAI).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        since = (until - timedelta(days=1)).replace(day=1)
        for moment in (since - timedelta(seconds=1), since, until - timedelta(seconds=1), until):
            for hazard_id in await _filed_by(5, story, story.places.grid):
                await change(hazard_id, created_at=moment)

        async def filed(**period: datetime) -> list[int]:
            query = {name: moment.isoformat() for name, moment in period.items()}
            return [cell["filed"] for cell in (await _street(story, **query)).values()]

        assert await filed(filed_from=since, filed_until=until) == [10]
        assert await filed(filed_from=since) == await filed(filed_until=until) == [10]
        assert await filed() == await filed(filed_from=until) == [5]
        answer = await story.get(story.neighbour, STATISTICS, filed_from=since.isoformat())
        assert [datetime.fromisoformat(answer[name]) for name in ("filed_from", "filed_until")] == [
            since,
            until,
        ]

    async def test_no_other_question_is_answered(self, story: Story) -> None:
        """Whatever could be subtracted from another answer: finer places, crossed filters, days, many months."""
        month = datetime(2026, 10, 1, tzinfo=SHANGHAI)
        day, months = month + timedelta(days=1), month + timedelta(days=61)
        for query, name in (
            ({"group_by": "grid"}, "group_by"),
            ({"group_by": "category", "region_id": str(story.places.community)}, "region_id"),
            ({"filed_from": day.isoformat()}, "filed_from"),
            ({"filed_until": day.isoformat()}, "filed_until"),
            ({"filed_from": month.isoformat(), "filed_until": day.isoformat()}, "filed_until"),
            ({"filed_from": month.isoformat(), "filed_until": months.isoformat()}, "filed_until"),
            ({"filed_from": "2026-10-01T00:00:00Z"}, "filed_from"),
        ):
            for who in (story.neighbour, story.worker):
                response = await story.client.get(STATISTICS, params=query, headers=who.headers)
                answer = problem(response, 422, "invalid_input")
                assert complaints(answer) == [(f"query.{name}", "not_public")], query

    async def test_only_what_is_public_counts(self, client: httpx.AsyncClient) -> None:
        story = await begin(client)
        for _ in range(5):
            await story.file(await make_resident())
        await story.hazard(S.REJECTED)
        await story.hazard(S.FILED, category="elderly_in_danger")
        await story.take(
            story.manager, await story.hazard(S.FILED), "redactions", {"hide": True, "reason": "abuse"}
        )
        community = await _code(story.places.community)
        for who in (story.neighbour, story.worker):
            answer = await story.get(who, STATISTICS, group_by="community", region_id=story.places.community)
            assert [(each["key"], each["filed"]) for each in answer["items"]] == [(community, 5)]
            assert answer["levels"] == []

    async def test_residents_get_no_other_view(self, story: Story) -> None:
        response = await story.client.get(f"{STATISTICS}?scope=handled", headers=story.reporter.headers)
        problem(response, 403, "forbidden")

    @pytest.mark.parametrize("query", ["group_by=reporter_id", "filed_from=now", "k=1", "scope=all"])
    async def test_what_is_no_question(self, story: Story, query: str) -> None:
        response = await story.client.get(f"{STATISTICS}?{query}", headers=story.reporter.headers)
        problem(response, 422, "invalid_input")


async def _street(story: Story, **period: str) -> dict[str, Json]:
    """What the public sees of the streets of the story's own district."""
    return await _cells(story, story.neighbour, group_by="street", region_id=story.places.district, **period)


async def _filed_by(people: int, story: Story, region_id: UUID) -> list[str]:
    """One hazard in this place by each of so many new residents."""
    point = story.places.point(region_id)
    return [(await story.file(await make_resident(), location=point))["id"] for _ in range(people)]


class TestSuppression:
    """The rule itself, on sets of people."""

    @given(st.dictionaries(st.integers(0, 9), st.frozensets(st.integers(1, 20), min_size=1, max_size=12)))
    def test_what_is_hidden_cannot_be_told_apart(self, table: dict[int, frozenset[int]]) -> None:
        cells = {number: frozenset(UUID(int=each) for each in people) for number, people in table.items()}
        gone = too_few(cells)
        assert {number for number, people in cells.items() if len(people) < 5} <= gone
        if gone and gone != cells.keys():
            assert len(gone) > 1
            assert len(frozenset().union(*(cells[number] for number in gone))) >= 5

    def test_no_more_than_needed(self) -> None:
        def people(count: int, start: int = 0) -> frozenset[UUID]:
            return frozenset(UUID(int=start + each) for each in range(count))

        assert too_few({"a": people(5), "b": people(9)}) == set()
        assert too_few({"a": people(4), "b": people(9), "c": people(6)}) == {"a", "c"}
        assert too_few({"a": people(4), "b": people(4, 10), "c": people(6)}) == {"a", "b"}
        assert too_few({"a": people(1), "b": people(1, 10), "c": people(6)}) == {"a", "b", "c"}
        assert hidden({("x", "a"): people(9), ("x", "b"): people(3), ("y", "c"): people(5)}) == {
            ("x", "a"),
            ("x", "b"),
        }


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
    async with database.reading() as session:
        names = {row.code: row.name for row in await session.scalars(select(HazardCategory))}
    names |= {code: region.name for code, region in named.items()}
    return {key: _expected(key, names[key], rows, named.get(key), late) for key, rows in groups.items()}


def _expected(key: str, name: str, rows: list[Hazard], region: Region | None, late: set[UUID]) -> Json:
    statuses = Counter(str(row.status) for row in rows)
    outcomes = Counter(str(row.outcome) for row in rows if row.status is S.CLOSED)
    seconds = [(row.resolved_at - row.created_at).total_seconds() for row in rows if row.resolved_at]
    scores = [row.rating for row in rows if row.rating is not None]
    return {
        "key": key,
        "name": name,
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
