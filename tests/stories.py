"""Whole stories in one line each: the people of one community, and every step of a hazard as they take it over HTTP."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import func, select, update

from app import leases
from app.db import database
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.hazard_assignments import AssignmentRole, HazardAssignment
from app.models.hazard_deadlines import HazardDeadline
from app.models.hazards import Hazard, HazardStatus, PublicState
from app.models.media import Media, MediaPurpose, MediaReview
from app.models.sessions import PrincipalKind
from app.models.staff import Role
from app.models.tasks import TaskStatus
from app.tasks import KINDS
from tests.factories import Person, Places, make_organisation, make_regions, make_resident, make_staff

SAMPLES = Path(__file__).parents[1] / "app/data/samples"
CATEGORY = "fire_passage_blocked"
DESCRIPTION = "3栋1单元消防通道堆满纸箱，电动车也停在里面"
Json = dict[str, Any]
Take = Callable[[str], Awaitable[object]]


@dataclass(frozen=True)
class Story:
    """One community with everybody who plays a part. Steps take who acts first; their usual actors are defaults."""

    client: httpx.AsyncClient
    places: Places
    reporter: Person
    neighbour: Person
    worker: Person
    colleague: Person
    manager: Person
    dispatcher: Person
    department: UUID
    officer: Person
    second_department: UUID
    second_officer: Person

    @property
    def spot(self) -> dict[str, float]:
        """A point well inside the grid, in GCJ-02."""
        lng, lat = self.places.centres[self.places.grid]
        return {"lng": lng, "lat": lat}

    async def post(
        self, who: Person | None, path: str, body: object = None, *, key: str | None = None
    ) -> httpx.Response:
        """One request as it goes over the wire."""
        headers = {} if who is None else who.headers
        if key is not None:
            headers = headers | {"Idempotency-Key": key}
        return await self.client.post(path, json=body, headers=headers)

    async def get(self, who: Person, path: str, **query: object) -> Json:
        """A read that works."""
        response = await self.client.get(path, headers=who.headers, params=_plain(query))
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    async def step(self, who: Person, hazard_id: str, action: str, body: object = None) -> httpx.Response:
        """One action on a hazard, whatever comes of it."""
        return await self.post(who, f"/v1/hazards/{hazard_id}/{action}", body)

    async def take(self, who: Person, hazard_id: str, action: str, body: object = None) -> Json:
        """One action that works; the hazard as the actor sees it then."""
        response = await self.step(who, hazard_id, action, body)
        assert response.status_code in (200, 201), response.text
        answer: Json = response.json()
        return answer

    async def report(self, **changes: object) -> Json:
        """A good report of a hazard in the grid, with one fresh picture; `changes` replace or (None) remove fields."""
        body: Json = {
            "category": CATEGORY,
            "description": DESCRIPTION,
            "location": self.spot,
        }
        body |= changes
        if "media_ids" not in changes:
            body["media_ids"] = await pictures(self.reporter)
        return {name: value for name, value in body.items() if value is not None}

    async def file(self, who: Person | None = None, **changes: object) -> Json:
        """A report that is taken in."""
        who = who or self.reporter
        if "media_ids" not in changes:
            changes["media_ids"] = await pictures(who)
        response = await self.post(who, "/v1/hazards", await self.report(**changes))
        assert response.status_code == 201, response.text
        answer: Json = response.json()
        return answer

    async def accept(self, hazard_id: str, who: Person | None = None) -> Json:
        return await self.take(who or self.worker, hazard_id, "accept")

    async def call(self, hazard_id: str, reason: str | None = None) -> Json:
        return await self.take(self.worker, hazard_id, "call", {"reason": reason} if reason else None)

    async def dispatch(self, hazard_id: str, lead: UUID | None = None, *joint: UUID) -> Json:
        body = {
            "lead_organisation_id": str(lead or self.department),
            "joint_organisation_ids": [str(each) for each in joint],
        }
        return await self.take(self.dispatcher, hazard_id, "dispatch", body)

    async def refuse(self, hazard_id: str, who: Person | None = None) -> Json:
        return await self.take(who or self.officer, hazard_id, "refuse", {"reason": "不属于我单位职责"})

    async def check_in(self, hazard_id: str, who: Person | None = None) -> Json:
        body = {"location": self.spot}
        return await self.take(who or self.officer, hazard_id, "check-in", body)

    async def resolve(self, hazard_id: str, who: Person | None = None, **body: object) -> Json:
        """Fixed, with an after-photo; or as `body` says."""
        who = who or self.worker
        if not body:
            body = {"media_ids": await pictures(who, MediaPurpose.HAZARD_AFTER)}
        return await self.take(who, hazard_id, "resolve", body)

    async def confirm(self, hazard_id: str) -> Json:
        return await self.take(self.reporter, hazard_id, "confirm")

    async def dispute(self, hazard_id: str, reason: str = "第二天又堆满了") -> Json:
        return await self.take(self.reporter, hazard_id, "dispute", {"reason": reason})

    async def hazard(self, status: HazardStatus, who: Person | None = None, **changes: object) -> str:
        """The id of a new hazard that came as far as this, along the longest way."""
        hazard_id = str((await self.file(who, **changes))["id"])
        for take in self._way[status]:
            await take(hazard_id)
        return hazard_id

    @property
    def _way(self) -> Mapping[HazardStatus, Sequence[Take]]:
        accepted: list[Take] = [self.accept]
        called: list[Take] = [*accepted, self.call]
        dispatched: list[Take] = [*called, self.dispatch]
        checked_in: list[Take] = [*dispatched, self.check_in]
        resolved: list[Take] = [*checked_in, self._resolve_as_lead]
        return {
            HazardStatus.FILED: [],
            HazardStatus.ACCEPTED: accepted,
            HazardStatus.CALLED: called,
            HazardStatus.DISPATCHED: dispatched,
            HazardStatus.CHECKED_IN: checked_in,
            HazardStatus.RESOLVED: resolved,
            HazardStatus.CLOSED: [*resolved, self.confirm],
            HazardStatus.REJECTED: [self._reject],
            HazardStatus.MERGED: [self._merge],
        }

    async def _resolve_as_lead(self, hazard_id: str) -> None:
        await self.resolve(hazard_id, self.officer)

    async def _reject(self, hazard_id: str) -> None:
        await self.take(self.worker, hazard_id, "reject", {"reason": "not_a_hazard"})

    async def _merge(self, hazard_id: str) -> None:
        primary = await self.file(self.neighbour)
        await self.take(self.worker, hazard_id, "merge", {"into_id": primary["id"]})


async def begin(client: httpx.AsyncClient, places: Places | None = None) -> Story:
    """New people in a new place: a reporter and a neighbour, two grid workers, a manager, the street, two departments."""
    places = places or await make_regions()
    department, second = await make_organisation(places.district), await make_organisation(places.district)
    return Story(
        client=client,
        places=places,
        reporter=await make_resident(places.community),
        neighbour=await make_resident(places.community),
        worker=await make_staff(Role.GRID_WORKER, places.grid),
        colleague=await make_staff(Role.GRID_WORKER, places.community),
        manager=await make_staff(Role.COMMUNITY_MANAGER, places.community),
        dispatcher=await make_staff(Role.STREET_DISPATCHER, places.street),
        department=department,
        officer=await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=department),
        second_department=second,
        second_officer=await make_staff(Role.DEPARTMENT_OFFICER, organisation_id=second),
    )


async def upload(
    client: httpx.AsyncClient, who: Person, data: bytes, purpose: str = "hazard", key: str | None = None
) -> httpx.Response:
    """One picture as `wx.uploadFile` sends it."""
    headers = who.headers | ({"Idempotency-Key": key} if key else {})
    files = {"file": ("photo.jpg", data, "image/jpeg")}
    return await client.post("/v1/media", files=files, data={"purpose": purpose}, headers=headers)


async def pictures(
    who: Person, purpose: MediaPurpose = MediaPurpose.HAZARD, count: int = 1, **columns: object
) -> list[str]:
    """Ids of pictures that somebody has uploaded; without bytes, for tests that do not look at them."""
    kind = PrincipalKind.STAFF if who.username else PrincipalKind.RESIDENT
    rows = [_picture(kind, who.id, purpose, columns) for _ in range(count)]
    async with database.transaction() as session:
        session.add_all(rows)
    return [str(row.id) for row in rows]


async def show_to_public(*hazard_ids: str) -> None:
    """What the content check does when it finds nothing."""
    ids = [UUID(each) for each in hazard_ids]
    async with database.transaction() as session:
        await session.execute(
            update(Hazard).where(Hazard.id.in_(ids)).values(public_state=PublicState.VISIBLE)
        )
        await session.execute(
            update(Media).where(Media.subject_id.in_(ids)).values(review=MediaReview.PASSED)
        )


async def change(hazard_id: str, **columns: object) -> None:
    """Put a stored hazard into another situation, such as another time."""
    async with database.transaction() as session:
        await session.execute(update(Hazard).where(Hazard.id == UUID(hazard_id)).values(**columns))


async def row_of(hazard_id: str) -> Hazard:
    """What is stored."""
    async with database.reading() as session:
        return (await session.scalars(select(Hazard).where(Hazard.id == UUID(hazard_id)))).one()


async def events_of(hazard_id: str, *audiences: Audience) -> list[str]:
    """The types of all events about a hazard, in their order."""
    async with database.reading() as session:
        rows = await session.execute(
            select(Event.type, Event.audience)
            .where(Event.subject_kind == "hazards", Event.subject_id == UUID(hazard_id))
            .order_by(Event.seq)
        )
        return [row.type for row in rows if not audiences or row.audience in audiences]


async def parts_of(hazard_id: str) -> list[HazardAssignment]:
    """What each department was asked for, dispatch by dispatch, the lead first."""
    async with database.reading() as session:
        lead_first = HazardAssignment.role != AssignmentRole.LEAD
        rows = await session.scalars(
            select(HazardAssignment)
            .where(HazardAssignment.hazard_id == UUID(hazard_id))
            .order_by(HazardAssignment.hop, lead_first, HazardAssignment.id)
        )
        return list(rows)


async def clocks_of(hazard_id: str) -> list[HazardDeadline]:
    """The clocks of all levels that had to act, in their order."""
    async with database.reading() as session:
        rows = await session.scalars(
            select(HazardDeadline)
            .where(HazardDeadline.hazard_id == UUID(hazard_id))
            .order_by(HazardDeadline.n)
        )
        return list(rows)


async def assert_clocks(hazard_id: str, levels: list[str], *, running: bool) -> None:
    """One clock after the other, never two at once, and the last one runs exactly while somebody has to act."""
    rows = await clocks_of(hazard_id)
    assert [row.level for row in rows] == levels
    assert [row.n for row in rows] == list(range(1, len(rows) + 1))
    for before, after in pairwise(rows):
        assert before.ended_at is not None
        assert before.started_at <= before.ended_at <= after.started_at
    assert (rows[-1].ended_at is None) is running
    hazard = await row_of(hazard_id)
    assert hazard.due_at == (rows[-1].due_at if running else None)


async def everything_about(hazard_id: str) -> Json:
    """Everything stored about a hazard, to see that nothing changed."""
    hazard = await row_of(hazard_id)
    async with database.reading() as session:
        photos = select(func.count()).where(Media.subject_id == hazard.id)
        return {
            "row": {column.key: getattr(hazard, column.key) for column in hazard.__table__.columns},
            "events": await events_of(hazard_id),
            "parts": [(part.organisation_id, part.status) for part in await parts_of(hazard_id)],
            "clocks": [(row.n, row.ended_at) for row in await clocks_of(hazard_id)],
            "photos": await session.scalar(photos),
        }


async def work_off(kind: str) -> int:
    """What the worker does: all tasks of this kind that are due; how many there were."""
    done = 0
    while held := await leases.claim([kind], 50):
        for lease in held:
            await KINDS[kind].run(lease)
            await lease.end(leases.ended(TaskStatus.DONE))
        done += len(held)
    return done


def problem(response: httpx.Response, status: int, code: str) -> Json:
    """The answer, when it is this problem; fails when it is anything else."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    answer: Json = response.json()
    assert answer["code"] == code, answer
    return answer


def complaints(answer: Json) -> list[tuple[str, str]]:
    """Where and what, of each field that a 422 complains about."""
    return [(".".join(str(part) for part in error["loc"]), error["code"]) for error in answer["errors"]]


def _picture(kind: PrincipalKind, owner_id: UUID, purpose: MediaPurpose, columns: Json) -> Media:
    media_id = new_id()
    stored: Json = {
        "id": media_id,
        "owner_kind": kind,
        "owner_id": owner_id,
        "purpose": purpose,
        "content_type": "image/jpeg",
        "bytes": 1000,
        "width": 40,
        "height": 30,
        "sha256": hashlib.sha256(media_id.bytes).hexdigest(),
        "storage_key": f"media/{media_id}-main.jpg",
        "thumbnail_key": f"media/{media_id}-thumbnail.jpg",
    }
    return Media(**(stored | columns))


def _plain(query: Json) -> Json:
    return {name: value for name, value in query.items() if value is not None}
