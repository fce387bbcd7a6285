"""The clock of each level: due by the table, warned of before, escalated once from the due instant on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import time_machine
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.db import database
from app.models.events import Audience, Event
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import HazardLevel, HazardStatus
from app.services import hazard_deadlines
from tests.stories import Story, events_of, row_of

_WARNED, _ESCALATED = "hazard.deadline_warned", "hazard.escalated"
_CLOCK_CATEGORY = "gas_leak"
_GRID_MINUTES, _GRID_WARN_MINUTES = 15, 5


async def _deadlines(hazard_id: str) -> list[HazardDeadline]:
    async with database.reading() as session:
        rows = await session.scalars(
            select(HazardDeadline)
            .where(HazardDeadline.hazard_id == UUID(hazard_id))
            .order_by(HazardDeadline.n)
        )
        return list(rows)


async def _running(hazard_id: str) -> HazardDeadline:
    return (await _deadlines(hazard_id))[-1]


async def _sweep(sweep: Callable[[AsyncSession], Awaitable[int]], at: datetime) -> None:
    """Sweep at this instant until nothing is left."""
    with time_machine.travel(at, tick=False):
        found = 1
        while found:
            async with database.transaction() as session:
                found = await sweep(session)


async def _filed(story: Story) -> tuple[str, HazardDeadline]:
    hazard_id = str((await story.file(category=_CLOCK_CATEGORY))["id"])
    return hazard_id, await _running(hazard_id)


async def test_the_first_clock_runs_from_the_report_by_the_table(story: Story) -> None:
    hazard_id, deadline = await _filed(story)
    hazard = await row_of(hazard_id)
    assert (deadline.n, deadline.level, deadline.started_at) == (1, HazardLevel.GRID, hazard.created_at)
    assert deadline.due_at - deadline.started_at == timedelta(minutes=_GRID_MINUTES)
    assert deadline.due_at - deadline.warn_at == timedelta(minutes=_GRID_WARN_MINUTES)
    assert hazard.due_at == deadline.due_at


@pytest.mark.parametrize(("seconds", "is_escalated"), [(-1, False), (0, True), (1, True)])
async def test_escalated_from_the_due_instant_on(story: Story, seconds: int, is_escalated: bool) -> None:
    hazard_id, deadline = await _filed(story)
    at = deadline.due_at + timedelta(seconds=seconds)
    await _sweep(hazard_deadlines.sweep_escalations, at)
    assert (_ESCALATED in await events_of(hazard_id)) is is_escalated
    assert (await row_of(hazard_id)).overdue_at == (at if is_escalated else None)
    assert (await _running(hazard_id)).escalated_at == (at if is_escalated else None)
    listed = await story.get(story.manager, "/v1/hazards", limit=100, overdue=True)
    assert (hazard_id in [item["id"] for item in listed["items"]]) is is_escalated


@pytest.mark.parametrize(("seconds", "is_warned"), [(-1, False), (0, True), (1, True)])
async def test_warned_from_the_warning_instant_on(story: Story, seconds: int, is_warned: bool) -> None:
    hazard_id, deadline = await _filed(story)
    await _sweep(hazard_deadlines.sweep_warnings, deadline.warn_at + timedelta(seconds=seconds))
    assert (_WARNED in await events_of(hazard_id)) is is_warned
    assert (await row_of(hazard_id)).overdue_at is None


async def test_warned_and_escalated_once_each_for_staff_only(story: Story) -> None:
    hazard_id, deadline = await _filed(story)
    for minutes in (-1, 0, 1, 60):
        at = deadline.due_at + timedelta(minutes=minutes)
        await _sweep(hazard_deadlines.sweep_warnings, at)
        await _sweep(hazard_deadlines.sweep_escalations, at)
    assert await events_of(hazard_id, Audience.STAFF) == [_WARNED, _ESCALATED]


async def test_many_sweeps_at_once_escalate_once(story: Story) -> None:
    hazard_id, deadline = await _filed(story)

    async def sweep() -> None:
        async with database.transaction() as session:
            await hazard_deadlines.sweep_escalations(session)

    with time_machine.travel(deadline.due_at, tick=False):
        await asyncio.gather(*(sweep() for _ in range(5)))
    assert (await events_of(hazard_id)).count(_ESCALATED) == 1


async def test_a_warning_that_is_too_late_is_none(story: Story) -> None:
    hazard_id, deadline = await _filed(story)
    await _sweep(hazard_deadlines.sweep_warnings, deadline.due_at)
    assert _WARNED not in await events_of(hazard_id)


async def test_each_level_has_a_clock_of_its_own(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.DISPATCHED, category=_CLOCK_CATEGORY)
    grid, street, department = await _deadlines(hazard_id)
    assert [each.level for each in (grid, street, department)] == list(HazardLevel)
    assert (grid.ended_at, street.ended_at) == (street.started_at, department.started_at)
    assert department.ended_at is None
    assert department.due_at - department.started_at == timedelta(minutes=120)
    assert (await row_of(hazard_id)).due_at == department.due_at


async def test_the_next_level_starts_with_a_clean_slate(story: Story) -> None:
    hazard_id, deadline = await _filed(story)
    await _sweep(hazard_deadlines.sweep_escalations, deadline.due_at)
    await story.accept(hazard_id)
    await story.call(hazard_id)
    hazard, street = await row_of(hazard_id), await _running(hazard_id)
    assert (hazard.overdue_at, hazard.due_at) == (None, street.due_at)
    await _sweep(hazard_deadlines.sweep_escalations, street.due_at)
    assert (await events_of(hazard_id)).count(_ESCALATED) == 2


async def test_nothing_runs_once_it_is_resolved_and_a_dispute_starts_again(story: Story) -> None:
    hazard_id = await story.hazard(HazardStatus.RESOLVED, category=_CLOCK_CATEGORY)
    stopped = await _running(hazard_id)
    assert stopped.ended_at is not None
    assert (await row_of(hazard_id)).due_at is None
    await _sweep(hazard_deadlines.sweep_escalations, stopped.due_at)
    assert _ESCALATED not in await events_of(hazard_id)
    await story.dispute(hazard_id)
    again = await _running(hazard_id)
    assert (again.n, again.level, again.ended_at) == (stopped.n + 1, HazardLevel.DEPARTMENT, None)


async def test_who_acts_too_late_is_escalated_even_between_two_sweeps(
    story: Story, advance: Callable[[float], None]
) -> None:
    hazard_id, _ = await _filed(story)
    await story.accept(hazard_id)
    advance(_GRID_MINUTES * 60 + 1)
    await story.call(hazard_id)
    assert (await events_of(hazard_id))[-2:] == [_ESCALATED, "hazard.called"]
    assert (await row_of(hazard_id)).overdue_at is None
    assert (await _deadlines(hazard_id))[0].escalated_at is not None


async def test_the_event_says_which_level_and_when(story: Story) -> None:
    hazard_id, deadline = await _filed(story)
    await _sweep(hazard_deadlines.sweep_escalations, deadline.due_at)
    async with database.reading() as session:
        event = await session.scalar(
            select(Event).where(Event.subject_id == UUID(hazard_id), Event.type == _ESCALATED)
        )
    assert event is not None
    assert event.payload == {
        "status": "filed",
        "level": "grid",
        "n": 1,
        "due_at": deadline.due_at.isoformat(),
    }


async def test_working_time_stops_at_night(story: Story) -> None:
    evening = datetime(2026, 11, 20, 16, 59, tzinfo=clock.SHANGHAI)
    with time_machine.travel(evening, tick=False):
        hazard_id = str((await story.file(category="street_lighting"))["id"])
    due_at = (await _running(hazard_id)).due_at.astimezone(clock.SHANGHAI)
    assert due_at > datetime(2026, 11, 23, 9, 0, tzinfo=clock.SHANGHAI)


async def test_whether_a_sweep_is_wanted(story: Story) -> None:
    _, deadline = await _filed(story)
    async with database.reading() as session:
        with time_machine.travel(deadline.warn_at, tick=False):
            assert await hazard_deadlines.is_any_due(session)
        with time_machine.travel(deadline.started_at - timedelta(days=365), tick=False):
            assert not await hazard_deadlines.is_any_due(session)
