"""Random walks over HTTP: whoever tries whatever, in any order, what is stored never contradicts itself."""

from dataclasses import dataclass
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import DeclarativeBase

from app.db import database
from app.models.events import Audience, Event
from app.models.hazard_assignments import AssignmentRole, HazardAssignment
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardLevel, HazardStatus
from app.models.media import Media, MediaPurpose
from tests.stories import Json, Story, pictures, row_of

S = HazardStatus
PEOPLE = (
    "reporter",
    "neighbour",
    "worker",
    "colleague",
    "manager",
    "dispatcher",
    "officer",
    "second_officer",
)
ACTIONS = (
    "support", "accept", "assign", "call", "dispatch", "refuse", "check-in", "resolve", "confirm", "dispute",
    "rate", "reject", "comments",
)  # fmt: skip
LIKELY = (
    ("worker", "call"),
    ("worker", "resolve"),
    ("dispatcher", "dispatch"),
    ("officer", "refuse"),
    ("officer", "check-in"),
    ("officer", "resolve"),
    ("second_officer", "refuse"),
    ("second_officer", "check-in"),
    ("second_officer", "resolve"),
    ("reporter", "dispute"),
)


@dataclass(frozen=True)
class Move:
    """Somebody tries something; `other` chooses between two ways of doing it."""

    taken: tuple[str, str]
    other: bool

    async def send(self, story: Story, hazard_id: str) -> int:
        who, action = self.taken
        person = getattr(story, who)
        both = [str(story.department), str(story.second_department)]
        lead, joint = reversed(both) if self.other else both
        bodies: dict[str, Json] = {
            "assign": {"staff_id": str((story.colleague if self.other else story.worker).id)},
            "dispatch": {"lead_organisation_id": lead, "joint_organisation_ids": [joint]},
            "refuse": {"reason": "不同意"},
            "dispute": {"reason": "不同意"},
            "check-in": {"location": story.spot},
            "resolve": {"outcome": "unfixed", "unfixed_reason": "owner_refuses"},
            "rate": {"score": 5 if self.other else 1},
            "reject": {"reason": "insufficient"},
            "comments": {"text": "一句话", "visibility": "internal" if self.other else "public"},
        }
        if self.other:
            bodies["resolve"] = {"media_ids": await pictures(person, MediaPurpose.HAZARD_AFTER)}
        body = bodies.get(action)
        answer = await story.step(person, hazard_id, action, body)
        assert answer.status_code in (200, 201, 403, 404, 409), (self, answer.text)
        return answer.status_code


ANY = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(ACTIONS))
MOVES = st.builds(Move, st.sampled_from(LIKELY) | ANY, st.booleans())


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    start=st.sampled_from([S.FILED, S.CALLED, S.DISPATCHED]), moves=st.lists(MOVES, min_size=10, max_size=25)
)
async def test_no_walk_leads_astray(story: Story, start: HazardStatus, moves: list[Move]) -> None:
    hazard_id = await story.hazard(start)
    now = await _stored(hazard_id)
    for move in moves:
        before, status = now, await move.send(story, hazard_id)
        now = await _stored(hazard_id)
        if status >= 400:
            assert now == before, move
        _assert_sound(await row_of(hazard_id), now)
    await _assert_told(story, hazard_id)


Rows = list[dict[str, object]]
TABLES: dict[str, type[DeclarativeBase]] = {
    "parts": HazardAssignment,
    "clocks": HazardDeadline,
    "events": Event,
    "photos": Media,
}


async def _stored(hazard_id: str) -> dict[str, Rows]:
    """Everything about a hazard; what the sequencer adds to events is not about it."""
    found: dict[str, Rows] = {}
    async with database.reading() as session:
        for name, table in TABLES.items():
            columns = table.__table__.columns
            about = columns["hazard_id" if "hazard_id" in columns else "subject_id"]
            rows = await session.execute(
                select(table.__table__).where(about == UUID(hazard_id)).order_by(columns["id"])
            )
            found[name] = [dict(row) for row in rows.mappings()]
        hazard = select(Hazard.__table__).where(Hazard.id == UUID(hazard_id))
        found["hazard"] = [dict(row) for row in (await session.execute(hazard)).mappings()]
    return found


def _assert_sound(hazard: Hazard, stored: dict[str, Rows]) -> None:
    running = [row for row in stored["clocks"] if row["ended_at"] is None]
    assert [row["level"] for row in running] == ([hazard.level] if hazard.is_open else [])
    assert hazard.due_at == (running[0]["due_at"] if running else None)
    assert (hazard.outcome is not None) is (hazard.status in (S.RESOLVED, S.CLOSED))
    active = [row for row in stored["parts"] if row["status"] in ("assigned", "checked_in")]
    leads = [row["organisation_id"] for row in active if row["role"] is AssignmentRole.LEAD]
    assert leads == ([hazard.lead_organisation_id] if hazard.level is HazardLevel.DEPARTMENT else [])
    assert hazard.level is HazardLevel.DEPARTMENT or not active
    types = [row["type"] for row in stored["events"]]
    sent_back = [
        row for row in stored["parts"] if row["role"] is AssignmentRole.LEAD and row["status"] == "refused"
    ]
    assert hazard.refusals == len(sent_back) <= 2
    assert hazard.hops == types.count("hazard.dispatched") + hazard.refusals
    assert hazard.disputes == types.count("hazard.disputed")
    assert {row["seq"] for row in stored["events"]} == set(range(1, len(types) + 1))
    assert hazard.event_seq == len(types)


async def _assert_told(story: Story, hazard_id: str) -> None:
    """The timeline is the events, for residents without those of staff, and the same each time it is read."""
    async with database.reading() as session:
        rows = (
            await session.execute(
                select(Event.type, Event.audience)
                .where(Event.subject_id == UUID(hazard_id))
                .order_by(Event.seq)
            )
        ).all()
    for who, hidden in ((story.manager, ()), (story.reporter, (Audience.STAFF,))):
        told = await story.get(who, f"/v1/hazards/{hazard_id}/timeline")
        assert [each["type"] for each in told["items"]] == [
            row.type for row in rows if row.audience not in hidden
        ]
        assert await story.get(who, f"/v1/hazards/{hazard_id}/timeline") == told
