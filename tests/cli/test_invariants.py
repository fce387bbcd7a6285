"""Every invariant of `jincai verify` holds after whole stories, and each breach of it is found by name and id."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pytest
from sqlalchemy import Update, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.types import ASGIApp

from app import clock, sequencer
from app.clients.storage import Storage
from app.db import Database
from app.ids import new_id
from app.models.base import Base, Entity
from app.models.cases import CaseImport
from app.models.events import Event, EventHead
from app.models.hazard_assignments import AssignmentRole, AssignmentStatus, HazardAssignment
from app.models.hazard_comments import CommentVisibility, HazardComment
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazard_exports import ExportFormat, ExportStatus, HazardExport
from app.models.hazard_results import HazardOutcome, PhotoExemption, UnfixedReason
from app.models.hazards import Hazard, HazardStatus
from app.models.households import Household, HouseholdRelation, HouseholdStatus
from app.models.idempotency import IdempotencyKey
from app.models.media import Media, MediaPurpose
from app.models.notifications import Notification
from app.models.regions import Region, RegionAncestor
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.models.subscriptions import Subscription, SubscriptionKind
from app.models.sync import SyncCase
from app.models.tasks import Task, TaskStatus
from app.models.webhooks import (
    DeliveryStatus,
    EndpointStatus,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from app.services import subscriptions
from app.services.verification import CHECKS
from app.services.verification_checks import Check, Probe
from app.settings import settings
from tests.conftest import new_client
from tests.stories import Story, begin, pictures

S = HazardStatus
HOUR = timedelta(hours=1)
Columns = dict[str, Any]
Row = TypeVar("Row", HazardDeadline, HazardAssignment)
BY_NAME = {check.name: check for check in CHECKS}


@dataclass(frozen=True)
class World:
    """A story with a hazard in every status, and a picture that is really stored."""

    story: Story
    hazards: dict[HazardStatus, UUID]
    picture: UUID
    storage: Storage

    @property
    def ids(self) -> set[str]:
        return {str(hazard_id) for hazard_id in self.hazards.values()}


@pytest.fixture(scope="module")
async def world(application: ASGIApp) -> AsyncIterator[World]:
    storage = Storage(settings.media_location)
    async with new_client(application) as client:
        story = await begin(client)
        hazards = {status: UUID(await story.hazard(status)) for status in S}
        await story.dispute(await story.hazard(S.RESOLVED))
        refused = await story.hazard(S.DISPATCHED)
        await story.refuse(refused)
        await story.dispatch(refused, story.second_department, story.department)
        await story.take(story.neighbour, str(hazards[S.FILED]), "support")
        (picture,) = await pictures(story.reporter, MediaPurpose.HAZARD)
        for kind in ("main", "thumbnail"):
            await storage.put(f"media/{picture}-{kind}.jpg", b"picture")
        yield World(story, hazards, UUID(picture), storage)
    storage.close()


@pytest.mark.parametrize("check", CHECKS, ids=[check.name for check in CHECKS])
async def test_whole_stories_breach_nothing(world: World, db: Database, check: Check) -> None:
    async with _undone(db) as session:
        mine = [
            line for line in await _look(check, session, world) if any(each in line for each in world.ids)
        ]
    assert mine == []


Spoil = Callable[[AsyncSession, World], Awaitable[object]]
"""Breaks something and returns what the breach must name."""


def hazard(status: HazardStatus, /, **columns: object) -> Spoil:
    """Change the hazard that is in a status."""

    async def spoil(session: AsyncSession, world: World) -> object:
        await session.execute(_change(Hazard, world.hazards[status], _asked(world, columns)))
        return world.hazards[status]

    return spoil


def delivery(*, follows: bool = False, **columns: object) -> Spoil:
    """Queue a webhook about the closed hazard, perhaps behind another one, with these columns."""

    async def spoil(session: AsyncSession, world: World) -> object:
        await _place_events(session)
        event = await _last_event(session, world)
        endpoint = WebhookEndpoint(
            id=new_id(),
            name="x",
            url="https://x.example.org",
            event_types=["hazard."],
            region_id=world.story.places.community,
            event_seq=0,
        )
        session.add(endpoint)
        await session.flush()
        values: Columns = {
            "created_at": clock.now(),
            "endpoint_id": endpoint.id,
            "type": event.type,
            "subject_id": event.subject_id,
            "status": DeliveryStatus.QUEUED,
            "ready": True,
            "attempts": 0,
            "next_at": clock.now(),
        }
        if follows:
            first = {"id": new_id(), "event_id": new_id(), "position": 0}
            await session.execute(insert(WebhookDelivery).values(values | first))
        delivery_id = new_id()
        mine = {"id": delivery_id, "event_id": event.id, "position": event.position}
        await session.execute(insert(WebhookDelivery).values(values | mine | columns))
        return delivery_id

    return spoil


def endpoint(*, with_secret: bool = False, **columns: object) -> Spoil:
    """A deleted receiver of webhooks with these columns."""

    async def spoil(session: AsyncSession, world: World) -> object:
        now = clock.now()
        values: Columns = {
            "name": "x",
            "url": "",
            "event_types": ["hazard."],
            "region_id": world.story.places.community,
            "status": EndpointStatus.DISABLED,
            "disabled_at": now,
            "deleted_at": now,
        }
        row = WebhookEndpoint(id=new_id(), **values | columns)
        session.add(row)
        await session.flush()
        if with_secret:
            await added(WebhookSecret, endpoint_id=row.id, secret_sealed=b"x")(session, world)
        return row.id

    return spoil


def deadline(status: HazardStatus, /, **columns: object) -> Spoil:
    """Change the last clock of the hazard that is in a status; names the hazard."""

    async def spoil(session: AsyncSession, world: World) -> object:
        row = await _last(session, HazardDeadline, world.hazards[status])
        await session.execute(_change(HazardDeadline, row.id, columns))
        return world.hazards[status]

    return spoil


def times(status: HazardStatus, /, **columns: Callable[[HazardDeadline], object]) -> Spoil:
    """Change the times of a clock, seen from its own; names the clock."""

    async def spoil(session: AsyncSession, world: World) -> object:
        row = await _last(session, HazardDeadline, world.hazards[status])
        values = {name: value(row) for name, value in columns.items()}
        await session.execute(_change(HazardDeadline, row.id, values))
        return row.id

    return spoil


def part(status: HazardStatus, /, *, names_part: bool = False, **columns: object) -> Spoil:
    """Change the department's part in the hazard that is in a status."""

    async def spoil(session: AsyncSession, world: World) -> object:
        row = await _last(session, HazardAssignment, world.hazards[status])
        await session.execute(_change(HazardAssignment, row.id, columns))
        return row.id if names_part else world.hazards[status]

    return spoil


def event(**columns: object) -> Spoil:
    """Change the last event about the closed hazard; names the event."""

    async def spoil(session: AsyncSession, world: World) -> object:
        row = await _last_event(session, world)
        await session.execute(_change(Event, row.id, columns))
        return row.id

    return spoil


def added(table: type[Base], name: str = "id", **columns: object) -> Spoil:
    """Add a row; names it. Values may ask the world."""

    async def spoil(session: AsyncSession, world: World) -> object:
        values = {"id": new_id(), "created_at": clock.now()} | _asked(world, columns)
        known = {key: value for key, value in values.items() if key in table.__table__.c}
        await session.execute(insert(table).values(known))
        return values[name]

    return spoil


def region(name: str, **columns: object) -> Spoil:
    """Change a region of the story's places."""

    async def spoil(session: AsyncSession, world: World) -> object:
        region_id = getattr(world.story.places, name)
        await session.execute(_change(Region, region_id, _asked(world, columns)))
        return region_id

    return spoil


def picture(**columns: object) -> Spoil:
    """Change the stored picture."""

    async def spoil(session: AsyncSession, world: World) -> object:
        await session.execute(_change(Media, world.picture, _asked(world, columns)))
        return world.picture

    return spoil


def resident(**columns: object) -> Spoil:
    """Change the reporter."""

    async def spoil(session: AsyncSession, world: World) -> object:
        await session.execute(_change(Resident, world.story.reporter.id, columns))
        return world.story.reporter.id

    return spoil


def household(**columns: object) -> Spoil:
    """Add a household with these columns."""
    rest: dict[str, Any] = {
        "resident_id": lambda world: world.story.reporter.id,
        "community_id": lambda world: world.story.places.community,
        "region_id": lambda world: world.story.places.building,
        "relation": HouseholdRelation.OWNER,
        "event_seq": 0,
        "version": 1,
        "address_sealed": b"x",
        "address_index": "0" * 64,
    }
    return added(Household, **(rest | columns))


async def _gap_in_numbers(session: AsyncSession, world: World) -> object:
    row = await _last_event(session, world)
    await session.execute(_change(Event, row.id, {"seq": 99}))
    return world.hazards[S.CLOSED]


async def _moved_position(session: AsyncSession, world: World) -> object:
    await _place_events(session)
    row = await _last_event(session, world)
    head = (await session.scalars(select(EventHead.position))).one()
    await session.execute(_change(Event, row.id, {"position": head + 5}))
    return row.id


async def _moved_head(session: AsyncSession, world: World) -> object:
    await _place_events(session)
    await session.execute(update(EventHead).values(position=EventHead.position + 1))
    return "event_head"


async def _rewritten_event(session: AsyncSession, world: World) -> object:
    await _place_events(session)
    row = await _last_event(session, world)
    await session.execute(_change(Event, row.id, {"payload": {"status": "filed"}}))
    return f"position {row.position}"


async def _lost_ancestor(session: AsyncSession, world: World) -> object:
    places = world.story.places
    await session.execute(
        delete(RegionAncestor).where(
            RegionAncestor.region_id == places.grid, RegionAncestor.ancestor_id == places.street
        )
    )
    return places.grid


async def _false_ancestor(session: AsyncSession, world: World) -> object:
    places = world.story.places
    pair = {"region_id": places.grid, "ancestor_id": places.far_street}
    await session.execute(insert(RegionAncestor).values(pair))
    return places.grid


async def _uncounted(session: AsyncSession, world: World) -> object:
    await _lost_ancestor(session, world)
    return "statistics by street: filed"


async def _wrong_scope(session: AsyncSession, world: World) -> object:
    held = select(Grant.id).where(Grant.staff_id == world.story.officer.id)
    grant_id = (await session.scalars(held)).one()
    await session.execute(_change(Grant, grant_id, {"role": Role.GRID_WORKER}))
    return grant_id


async def _officer_of_a_region(session: AsyncSession, world: World) -> object:
    held = select(Grant.id).where(Grant.staff_id == world.story.worker.id)
    grant_id = (await session.scalars(held)).one()
    await session.execute(_change(Grant, grant_id, {"role": Role.DEPARTMENT_OFFICER}))
    return grant_id


async def _moved_seal(session: AsyncSession, world: World) -> object:
    """The words of one hazard under another one."""
    words = select(Hazard.description_sealed).where(Hazard.id == world.hazards[S.FILED]).scalar_subquery()
    await session.execute(_change(Hazard, world.hazards[S.CLOSED], {"description_sealed": words}))
    return world.hazards[S.CLOSED]


async def _dangling(session: AsyncSession, world: World) -> object:
    """What a restore of half a backup leaves behind."""
    nowhere = new_id()
    if settings.is_sqlite:
        await session.execute(text("PRAGMA defer_foreign_keys=ON"))
    else:
        await session.execute(text("SET LOCAL session_replication_role = replica"))
    await session.execute(_change(Media, world.picture, {"community_id": nowhere}))
    return f"media {world.picture}: community_id {nowhere}"


async def _second_generation(session: AsyncSession, world: World) -> object:
    mine = select(LoginSession).where(LoginSession.principal_id == world.story.reporter.id)
    login = (await session.scalars(mine)).first()
    assert login is not None
    values = {column.key: getattr(login, column.key) for column in LoginSession.__table__.c}
    values |= {"id": new_id(), "access_digest": str(new_id()), "refresh_digest": str(new_id())}
    await session.execute(insert(LoginSession).values(values))
    return login.family_id


async def _refused_twice(session: AsyncSession, world: World) -> object:
    rows = [
        {
            "id": new_id(),
            "created_at": clock.now(),
            "hazard_id": world.hazards[S.CALLED],
            "organisation_id": world.story.department,
            "hop": hop,
            "role": AssignmentRole.JOINT,
            "binding": False,
            "status": AssignmentStatus.REFUSED,
        }
        for hop in (1, 2)
    ]
    await session.execute(insert(HazardAssignment), rows)
    return world.hazards[S.CALLED]


async def _hidden_words(session: AsyncSession, world: World) -> object:
    return await _comment(session, world, hidden_at=clock.now(), text_sealed=b"x")


async def _comment_without_event(session: AsyncSession, world: World) -> object:
    return await _comment(session, world, event_id=new_id())


async def _lost_object(session: AsyncSession, world: World) -> object:
    await session.execute(_change(Media, world.picture, {"storage_key": f"media/{new_id()}-main.jpg"}))
    return world.picture


async def _orphan(session: AsyncSession, world: World) -> object:
    """The row is gone, the objects are not; an hour later that is no upload any more."""
    await session.execute(delete(Media).where(Media.id == world.picture))
    return f"media/{world.picture}-main.jpg"


async def _foreign_event(session: AsyncSession, world: World) -> object:
    """History that no document brought."""
    row = await _last_event(session, world)
    await session.execute(_change(Event, row.id, {"imported_at": clock.now()}))
    return world.hazards[S.CLOSED]


_FOLLOWING: Columns = {
    "subscriber_kind": PrincipalKind.RESIDENT,
    "kind": SubscriptionKind.REGION,
    "region_id": lambda world: world.story.places.grid,
}


async def _too_many_subscriptions(session: AsyncSession, world: World) -> object:
    mine: object = None
    for number in range(subscriptions.PER_CALLER + 1):
        one = added(
            Subscription, **_FOLLOWING, subscriber_id=world.story.neighbour.id, target=f"region:{number}"
        )
        mine = await one(session, world)
    return mine


async def _leftover(_: AsyncSession, world: World) -> object:
    """A server was killed while it wrote, and no worker has come by for hours."""
    path = f"media/{world.picture}-main.jpg#1"
    (_folder() / path).write_bytes(b"half")
    return path


async def _left_with_a_hazard(session: AsyncSession, world: World) -> object:
    await resident(deleted_at=clock.now() - 2 * HOUR)(session, world)
    return world.hazards[S.FILED]


async def _disabled_and_signed_in(session: AsyncSession, world: World) -> object:
    worker_id = world.story.worker.id
    await session.execute(update(Staff).where(Staff.id == worker_id).values(status=StaffStatus.DISABLED))
    return await session.scalar(select(LoginSession.id).where(LoginSession.principal_id == worker_id))


def _folder() -> Path:
    return Path(unquote(urlsplit(settings.media_location).path))


BREACHES: list[tuple[str, str, Spoil]] = [
    ("events.seq", "to 99", _gap_in_numbers),
    ("events.counters", "counts 77 events", hazard(S.FILED, event_seq=77)),
    ("events.subjects", "is about hazards", event(subject_id=new_id())),
    ("events.subjects", "is about dragons", event(subject_kind="dragons")),
    ("events.position", "before", _moved_position),
    ("events.head", "last", _moved_head),
    ("events.chain", "does not match", _rewritten_event),
    ("hazards.timeline", "told filed", hazard(S.FILED, status=S.CALLED)),
    ("regions.closure", "lacks its ancestor", _lost_ancestor),
    ("regions.closure", "is no ancestor", _false_ancestor),
    (
        "regions.levels",
        "building cannot lie",
        region("building", parent_id=lambda world: world.story.places.street),
    ),
    ("regions.levels", "without an outline", region("grid", polygon=None)),
    (
        "regions.levels",
        "Self-intersection",
        region(
            "grid", polygon={"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
        ),
    ),
    (
        "regions.communities",
        "is not in community",
        hazard(S.FILED, region_id=lambda world: world.story.places.far_grid),
    ),
    ("grants.scopes", "but in an organisation", _wrong_scope),
    ("grants.scopes", "without an organisation", _officer_of_a_region),
    ("hazards.columns", "filed, but", hazard(S.FILED, accepted_at=clock.now())),
    (
        "hazards.columns",
        "closed as it was filed, but",
        hazard(S.CLOSED, resolved_from=S.FILED),
    ),
    ("hazards.columns", "taken, but", hazard(S.CLOSED, handler_id=None)),
    ("hazards.columns", "taken, but", hazard(S.ACCEPTED, handler_id=None)),
    ("hazards.columns", "no department leads", hazard(S.DISPATCHED, lead_organisation_id=None)),
    ("hazards.columns", "not yet at a department", hazard(S.DISPATCHED, status=S.CALLED)),
    ("hazards.columns", "settled, but not when", hazard(S.RESOLVED, resolved_from=None)),
    ("hazards.columns", "it has a result", hazard(S.FILED, exemption=PhotoExemption.PRIVACY)),
    ("hazards.columns", "never ended", hazard(S.CLOSED, closed_at=None)),
    ("hazards.columns", "but it ended", hazard(S.RESOLVED, closed_at=clock.now())),
    ("hazards.columns", "unfixed without", hazard(S.RESOLVED, outcome=HazardOutcome.UNFIXED)),
    ("hazards.columns", "fixed, with", hazard(S.RESOLVED, unfixed_reason=UnfixedReason.OUT_OF_SCOPE)),
    ("hazards.columns", "refused more often", hazard(S.DISPATCHED, refusals=9)),
    ("hazards.supporters", "counter 7", hazard(S.FILED, supporters=7)),
    ("hazards.clocks", "no clock runs", deadline(S.FILED, ended_at=clock.now())),
    ("hazards.clocks", "not open, but a clock", deadline(S.RESOLVED, ended_at=None)),
    ("hazards.clocks", "no clock says so", hazard(S.FILED, due_at=clock.now())),
    ("hazards.clocks", "it is not due", hazard(S.FILED, due_at=None)),
    ("hazards.clocks", "never escalated", hazard(S.FILED, overdue_at=clock.now())),
    ("hazards.clocks", "but not overdue", deadline(S.FILED, escalated_at=clock.now())),
    ("hazards.clocks", "another level", hazard(S.CALLED, status=S.ACCEPTED)),
    ("deadlines.times", "ends before", times(S.CLOSED, ended_at=lambda row: row.started_at - HOUR)),
    ("deadlines.times", "due before", times(S.FILED, due_at=lambda row: row.started_at)),
    ("deadlines.times", "warns after", times(S.FILED, warn_at=lambda row: row.due_at + HOUR)),
    ("deadlines.times", "without a warning", times(S.FILED, escalated_at=lambda row: row.due_at)),
    ("deadlines.times", "before it was due", times(S.FILED, escalated_at=lambda row: row.started_at)),
    ("deadlines.numbers", "last 9", deadline(S.FILED, n=9)),
    ("hazards.assignments", "none has the lead", part(S.DISPATCHED, status=AssignmentStatus.RELEASED)),
    ("hazards.assignments", "lead has checked in", part(S.DISPATCHED, status=AssignmentStatus.CHECKED_IN)),
    ("hazards.assignments", "the lead has not", part(S.CHECKED_IN, status=AssignmentStatus.ASSIGNED)),
    ("hazards.assignments", "still has to act", part(S.CLOSED, status=AssignmentStatus.ASSIGNED)),
    ("hazards.assignments", "did not refuse", hazard(S.CALLED, refusals=1)),
    ("assignments.refusals", "refusals 2", _refused_twice),
    ("assignments.columns", "nobody was there", part(S.CHECKED_IN, names_part=True, checked_in_at=None)),
    ("assignments.columns", "not who or where", part(S.CHECKED_IN, names_part=True, officer_id=None)),
    ("assignments.columns", "not since when", part(S.CLOSED, names_part=True, finished_at=None)),
    ("hazards.merges", "merged_into", hazard(S.MERGED, duplicate_of_id=Hazard.id)),
    ("hazards.cells", "not in 1", hazard(S.FILED, cell=1)),
    ("statistics.recount", "the rows to", _uncounted),
    ("sealed.opens", "does not authenticate", _moved_seal),
    ("sealed.opens", "openid_index does not belong", resident(openid_index="0" * 64)),
    ("sealed.opens", "not a sealed value", hazard(S.FILED, address_sealed="3栋1单元".encode())),
    ("references", "does not exist", _dangling),
    ("sessions.families", "unspent 2", _second_generation),
    (
        "idempotency.answers",
        "claimed_at",
        added(IdempotencyKey, "scope", scope="a" * 64, fingerprint="x", caller_id=new_id()),
    ),
    ("households.columns", "not by whom", household(status=HouseholdStatus.CONFIRMED)),
    (
        "households.columns",
        "somebody has decided",
        household(status=HouseholdStatus.CLAIMED, decided_at=clock.now()),
    ),
    ("households.columns", "but not when", household(status=HouseholdStatus.ENDED)),
    (
        "households.columns",
        "still there",
        household(status=HouseholdStatus.ENDED, ended_at=clock.now()),
    ),
    ("households.columns", "nobody knows where", household(address_sealed=None, address_index=None)),
    ("residents.columns", "something personal is left", resident(deleted_at=clock.now())),
    ("residents.columns", "cannot sign in", resident(openid_sealed=None)),
    ("residents.columns", "without its index", resident(phone_sealed=b"x")),
    ("comments.columns", "words are still there", _hidden_words),
    ("comments.columns", "event that does not exist", _comment_without_event),
    ("people.gone", "reported by somebody who left", _left_with_a_hazard),
    ("people.gone", "still signed in, but disabled", _disabled_and_signed_in),
    (
        "notifications.ends",
        "about an event",
        added(
            Notification,
            recipient_kind="staff",
            recipient_id=lambda world: world.story.worker.id,
            event_id=new_id(),
            type="hazard.filed",
            subject_kind="hazards",
            subject_id=new_id(),
        ),
    ),
    (
        "notifications.ends",
        "to nobody",
        added(
            Notification,
            recipient_kind="resident",
            recipient_id=new_id(),
            event_id=new_id(),
            type="hazard.filed",
            subject_kind="hazards",
            subject_id=new_id(),
        ),
    ),
    (
        "tasks.columns",
        "not since when",
        added(Task, kind="x", payload={}, status=TaskStatus.DONE, run_at=clock.now()),
    ),
    (
        "tasks.columns",
        "somebody holds it",
        added(
            Task,
            kind="x",
            payload={},
            status=TaskStatus.DEAD,
            run_at=clock.now(),
            finished_at=clock.now(),
            lease_token=new_id(),
            lease_until=clock.now(),
        ),
    ),
    (
        "tasks.columns",
        "without an end",
        added(Task, kind="x", payload={}, run_at=clock.now(), lease_token=new_id()),
    ),
    ("media.objects", "is not in the storage", _lost_object),
    ("media.objects", "still in the storage", picture(erased_at=clock.now() - 2 * HOUR)),
    ("media.uses", "not for what", picture(subject_kind="hazards")),
    ("media.uses", "does not exist", picture(subject_kind="hazards", subject_id=new_id())),
    (
        "media.uses",
        "another community",
        picture(
            subject_kind="hazards",
            subject_id=lambda world: world.hazards[S.FILED],
            community_id=lambda world: world.story.places.far_community,
        ),
    ),
    (
        "exports.objects",
        "is not in the storage",
        added(
            HazardExport,
            staff_id=lambda world: world.story.manager.id,
            format=ExportFormat.CSV,
            filters={},
            reason_sealed=b"x",
            status=ExportStatus.DONE,
            storage_key="exports/gone.csv",
            expires_at=clock.now(),
        ),
    ),
    (
        "exports.columns",
        "neither has a file",
        added(
            HazardExport,
            staff_id=lambda world: world.story.manager.id,
            format=ExportFormat.CSV,
            filters={},
            reason_sealed=b"x",
            status=ExportStatus.DONE,
        ),
    ),
    (
        "exports.columns",
        "not done, but",
        added(
            HazardExport,
            staff_id=lambda world: world.story.manager.id,
            format=ExportFormat.CSV,
            filters={},
            reason_sealed=b"x",
            status=ExportStatus.QUEUED,
            storage_key="exports/early.csv",
        ),
    ),
    ("storage.orphans", "no row refers", _orphan),
    ("webhooks.endpoints", "does not know since when", endpoint(disabled_at=None, deleted_at=None)),
    ("webhooks.endpoints", "active", endpoint(status=EndpointStatus.ACTIVE)),
    ("webhooks.endpoints", "a URL", endpoint(url="https://x.example.org")),
    ("webhooks.endpoints", "a secret", endpoint(with_secret=True)),
    ("webhooks.events", "position", delivery(position=10**12)),
    ("webhooks.events", "event None", delivery(event_id=new_id())),
    ("webhooks.order", "is not ready", delivery(ready=False)),
    ("webhooks.order", "before an earlier one", delivery(follows=True)),
    ("webhooks.ends", "without a time", delivery(status=DeliveryStatus.DEAD)),
    (
        "webhooks.ends",
        "held",
        delivery(status=DeliveryStatus.DEAD, finished_at=clock.now(), lease_token=new_id()),
    ),
    (
        "webhooks.ends",
        "keeps words",
        delivery(status=DeliveryStatus.DEAD, finished_at=clock.now(), body_sealed=b"x"),
    ),
    ("webhooks.ends", "has ended", delivery(finished_at=clock.now())),
    (
        "webhooks.tries",
        "by no try",
        delivery(status=DeliveryStatus.DELIVERED, finished_at=clock.now()),
    ),
    ("sync.applied", "over 0", added(SyncCase, case_key="gap", applied_seq=1)),
    (
        "cases.imports",
        "came 0",
        added(
            CaseImport,
            "hazard_id",
            hazard_id=lambda world: world.hazards[S.FILED],
            digest="0" * 64,
            events=3,
            imported_at=clock.now(),
        ),
    ),
    ("cases.imports", "events None", _foreign_event),
    (
        "subscriptions.owners",
        "of nobody",
        added(Subscription, **_FOLLOWING, subscriber_id=new_id(), target="region:x"),
    ),
    ("subscriptions.owners", "one too many", _too_many_subscriptions),
    ("storage.leftovers", "left half way", _leftover),
]


def test_no_invariant_is_left_out() -> None:
    assert {name for name, _, _ in BREACHES} == set(BY_NAME)


@pytest.mark.parametrize(
    ("name", "words", "spoil"), BREACHES, ids=[f"{name}: {words}" for name, words, _ in BREACHES]
)
async def test_a_breach_is_found(
    world: World, db: Database, advance: Callable[[float], None], name: str, words: str, spoil: Spoil
) -> None:
    if name.startswith("storage."):
        advance(4 * HOUR.total_seconds())
    async with _undone(db) as session:
        before = set(await _look(BY_NAME[name], session, world))
        wanted = str(await spoil(session, world))
        found = [line for line in await _look(BY_NAME[name], session, world) if line not in before]
    assert [line for line in found if wanted in line and words in line], found


class _Undo(Exception):
    pass


@asynccontextmanager
async def _undone(db: Database) -> AsyncIterator[AsyncSession]:
    """A transaction that never happened."""
    try:
        async with db.transaction() as session:
            yield session
            raise _Undo
    except _Undo:
        pass


async def _look(check: Check, session: AsyncSession, world: World) -> list[str]:
    session.expire_all()
    return [line async for line in check.find(Probe(session, world.storage, lambda done, total: None))]


async def _place_events(session: AsyncSession) -> None:
    while await sequencer.sequence(session, {}):
        pass


async def _last_event(session: AsyncSession, world: World) -> Event:
    about = select(Event).where(Event.subject_id == world.hazards[S.CLOSED])
    return (await session.scalars(about.order_by(Event.seq.desc()).limit(1))).one()


async def _last(session: AsyncSession, table: type[Row], hazard_id: UUID) -> Row:
    """The newest row of a hazard."""
    rows = select(table).where(table.hazard_id == hazard_id).order_by(table.id.desc()).limit(1)
    return (await session.scalars(rows)).one()


async def _comment(session: AsyncSession, world: World, **columns: object) -> UUID:
    comment_id = new_id()
    values: Columns = {
        "id": comment_id,
        "created_at": clock.now(),
        "hazard_id": world.hazards[S.FILED],
        "author_kind": PrincipalKind.STAFF,
        "visibility": CommentVisibility.PUBLIC,
    }
    await session.execute(insert(HazardComment).values(values | columns))
    return comment_id


def _asked(world: World, columns: Columns) -> Columns:
    """The values, those that are functions of the world worked out."""
    return {name: value(world) if callable(value) else value for name, value in columns.items()}


def _change(table: type[Entity] | type[Event], row_id: UUID, values: Columns) -> Update:
    order = update(table).where(table.id == row_id).values(values)
    return order.execution_options(synchronize_session=False)
