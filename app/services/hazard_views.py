"""What a caller sees of a hazard: the whole to those who handle it, less to the public.

One statement and one rendering serve reads and the answers to writes. Answers are ready JSON, byte for byte what
`app/schemas/hazards.py` would make of the same values; a test holds the two together.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypedDict, cast
from uuid import UUID

from sqlalchemy import (
    Label,
    Text,
    Uuid,
    bindparam,
    case,
    exists,
    false,
    select,
    type_coerce,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from app import writes
from app.auth import Caller
from app.db import database
from app.errors import NotFound
from app.hot import Hot, JsonArray, json_list, to_json
from app.keys import vault
from app.masking import mask_name, mask_phone
from app.models.hazard_assignments import HazardAssignment
from app.models.hazard_comments import HazardSupport
from app.models.hazards import LEVEL_OF, MAX_REFUSALS, Hazard, PublicState
from app.models.media import Media, MediaPurpose, MediaReview
from app.models.organisations import Organisation
from app.models.residents import Resident
from app.models.staff import Staff
from app.services import hazard_access, media

Json = dict[str, object]
_ID_LENGTH = 36
_Picture = tuple[str, str, int, int, int, str, str]
_Department = tuple[str, str, str, str, str, int, bool, str | None, int | None]

_NOT_YET = {
    "nickname_sealed": None,
    "nickname_state": None,
    "phone_sealed": None,
    "display_name_sealed": None,
    "username": None,
    "supported": False,
    "departments": None,
}
"""What a new hazard has not, or does not tell, beside its own columns."""
open_description = vault.opener(Hazard.__tablename__, Hazard.description_sealed.key)
_open_address = vault.opener(Hazard.__tablename__, Hazard.address_sealed.key)
_open_nickname = vault.opener(Resident.__tablename__, Resident.nickname_sealed.key)
_open_phone = vault.opener(Resident.__tablename__, Resident.phone_sealed.key)
_open_staff_name = vault.opener(Staff.__tablename__, Staff.display_name_sealed.key)


class HazardRow(TypedDict):
    """What every answer says of a hazard."""

    id: UUID
    version: int
    community_id: UUID
    region_id: UUID
    category: str
    status: str
    outcome: str | None
    public_state: str
    description_sealed: bytes | None
    lng: float
    lat: float
    reporter_id: UUID | None
    supporters: int
    due_at: datetime | None
    overdue_at: datetime | None
    created_at: datetime


class _Row(HazardRow):
    source: str
    address_sealed: bytes | None
    anonymous: bool
    refusals: int
    hops: int
    unfixed_reason: str | None
    exemption: str | None
    dispute_until: datetime | None
    disputes: int
    reject_reason: str | None
    duplicate_of_id: UUID | None
    rating: int | None
    accepted_at: datetime | None
    resolved_at: datetime | None
    closed_at: datetime | None
    nickname_sealed: bytes | None
    nickname_state: str | None
    phone_sealed: bytes | None
    handler_id: UUID | None
    display_name_sealed: bytes | None
    username: str | None
    supported: bool
    pictures: list[_Picture] | None
    departments: list[_Department] | None


def _text(column: InstrumentedAttribute[object]) -> Label[str]:
    """An enum as the text that is stored and sent."""
    return type_coerce(column, Text).label(column.key)


COLUMNS = (
    Hazard.id,
    Hazard.version,
    Hazard.community_id,
    Hazard.region_id,
    Hazard.category,
    _text(Hazard.status),
    _text(Hazard.outcome),
    _text(Hazard.public_state),
    Hazard.description_sealed,
    Hazard.lng,
    Hazard.lat,
    Hazard.reporter_id,
    Hazard.supporters,
    Hazard.due_at,
    Hazard.overdue_at,
    Hazard.created_at,
)
_MORE_COLUMNS = (
    _text(Hazard.source),
    Hazard.address_sealed,
    Hazard.anonymous,
    Hazard.refusals,
    Hazard.hops,
    _text(Hazard.unfixed_reason),
    _text(Hazard.exemption),
    Hazard.dispute_until,
    Hazard.disputes,
    _text(Hazard.reject_reason),
    Hazard.duplicate_of_id,
    Hazard.rating,
    Hazard.accepted_at,
    Hazard.resolved_at,
    Hazard.closed_at,
    Resident.nickname_sealed,
    _text(Resident.nickname_state),
    Resident.phone_sealed,
    Hazard.handler_id,
    Staff.display_name_sealed,
    Staff.username,
)
ME = bindparam("me", type_=Uuid())
_SUPPORTED = case(
    (
        Hazard.supporters > 0,
        exists()
        .where(HazardSupport.hazard_id == Hazard.id, HazardSupport.resident_id == ME)
        .correlate(Hazard),
    ),
    else_=false(),
)
_PICTURES = json_list(
    select(
        JsonArray(
            Media.id,
            Media.content_type,
            Media.bytes,
            Media.width,
            Media.height,
            Media.purpose,
            Media.review,
        )
    )
    .where(media.belongs_to(Hazard.id))
    .order_by(Media.created_at, Media.position)
    .correlate(Hazard)
)
_DEPARTMENTS = json_list(
    select(
        JsonArray(
            HazardAssignment.organisation_id,
            Organisation.name,
            Organisation.name_en,
            HazardAssignment.role,
            HazardAssignment.status,
            HazardAssignment.hop,
            HazardAssignment.binding,
            HazardAssignment.checked_in_at,
            HazardAssignment.distance_m,
        )
    )
    .join(Organisation, Organisation.id == HazardAssignment.organisation_id)
    .where(HazardAssignment.hazard_id == Hazard.id)
    .order_by(HazardAssignment.hop, HazardAssignment.id)
    .correlate(Hazard)
)
_WHOLE = (
    select(
        *COLUMNS,
        *_MORE_COLUMNS,
        _SUPPORTED.label("supported"),
        _PICTURES.label("pictures"),
        case((Hazard.hops > 0, _DEPARTMENTS)).label("departments"),
    )
    .join(Resident, Resident.id == Hazard.reporter_id, isouter=True)
    .join(Staff, Staff.id == Hazard.handler_id, isouter=True)
    .where(Hazard.id == bindparam("id", type_=Uuid()))
)
_READ: Hot[_Row] = Hot(_WHOLE)
_READ_AS_RESIDENT: Hot[_Row] = Hot(_WHOLE.where(hazard_access.VISIBLE_TO_RESIDENTS), planned_once=True)
_READ_AS_STAFF: Hot[_Row] = Hot(_WHOLE.where(hazard_access.HANDLED), planned_once=True)


async def find(session: AsyncSession, caller: Caller, hazard_id: UUID) -> Hazard:
    """The row, when it exists for the caller."""
    hazard = await session.scalar(
        select(Hazard).where(Hazard.id == hazard_id, hazard_access.visible_to(caller))
    )
    if hazard is None:
        raise NotFound
    return hazard


async def read(caller: Caller, hazard_id: UUID) -> bytes:
    """One hazard as the caller may see it: a `HazardRead`."""
    statement = _READ_AS_RESIDENT if caller.is_resident else _READ_AS_STAFF
    rows = await database.rows(statement, {**hazard_access.parameters(caller), "id": hazard_id})
    if not rows:
        raise NotFound
    return to_json(_whole(caller, rows[0]))


async def describe(session: AsyncSession, caller: Caller, hazard: Hazard) -> bytes:
    """The same for a row that this transaction has changed."""
    rows = await writes.run(session, _READ, {"me": caller.id, "id": hazard.id})
    return to_json(_whole(caller, rows[0]))


async def describe_new(
    session: AsyncSession, caller: Caller, hazard: Hazard, pictures: Sequence[media.Taken]
) -> bytes:
    """The same for one that this transaction has filed: all of it is at hand, unless the reporter is to be named."""
    if hazard.reporter_id is not None and not (hazard.anonymous and caller.is_resident):
        return await describe(session, caller, hazard)
    row = vars(hazard) | _NOT_YET | {"pictures": [_picture(each) for each in pictures]}
    return to_json(_whole(caller, cast(_Row, row)))


def _picture(taken: media.Taken) -> _Picture:
    size = (taken["bytes"], taken["width"], taken["height"])
    return (str(taken["id"]), taken["content_type"], *size, taken["purpose"], taken["review"])


def _whole(caller: Caller, row: _Row) -> Json:
    inside = _is_inside(caller, row)
    readable = inside or row["public_state"] == PublicState.VISIBLE
    before, after = _pictures(row, inside)
    return {
        "id": str(row["id"]),
        "version": row["version"],
        "community_id": str(row["community_id"]),
        "region_id": str(row["region_id"]),
        "category": row["category"],
        "source": row["source"],
        "status": row["status"],
        "level": LEVEL_OF.get(row["status"]),
        "description": open_description(row["description_sealed"], row["id"]) if readable else None,
        "location": {"lng": row["lng"], "lat": row["lat"], "datum": "gcj02"},
        "address": _open_address(row["address_sealed"], row["id"]) if inside else None,
        "anonymous": row["anonymous"],
        "reporter_name": _public_name(row),
        "reporter": None if caller.is_resident else _reporter(row),
        "mine": _is_mine(caller, row),
        "supported": row["supported"],
        "supporters": row["supporters"],
        "photos": before,
        "after_photos": after,
        "handler": _handler(caller, row) if inside else None,
        "departments": _departments(row) if inside else [],
        "refusals": row["refusals"],
        "hops": row["hops"],
        "decision_forced": row["refusals"] >= MAX_REFUSALS,
        "due_at": row["due_at"] if inside else None,
        "overdue": row["overdue_at"] is not None,
        "outcome": row["outcome"],
        "unfixed_reason": row["unfixed_reason"],
        "exemption": row["exemption"],
        "dispute_until": row["dispute_until"],
        "disputes": row["disputes"],
        "reject_reason": row["reject_reason"],
        "duplicate_of_id": row["duplicate_of_id"],
        "rating": row["rating"],
        "created_at": row["created_at"],
        "accepted_at": row["accepted_at"],
        "resolved_at": row["resolved_at"],
        "closed_at": row["closed_at"],
    }


def _is_mine(caller: Caller, row: HazardRow) -> bool:
    return caller.is_resident and row["reporter_id"] == caller.id


def _is_inside(caller: Caller, row: HazardRow) -> bool:
    """Whether the caller handles or reported it; everybody else is the public."""
    return not caller.is_resident or row["reporter_id"] == caller.id


def _public_name(row: _Row) -> str | None:
    """Once it passed the content check, and not of whoever stays anonymous."""
    if row["anonymous"] or row["nickname_state"] != PublicState.VISIBLE:
        return None
    return _nickname(row)


def _nickname(row: _Row) -> str | None:
    if row["reporter_id"] is None:
        return None
    return _open_nickname(row["nickname_sealed"], row["reporter_id"])


def _reporter(row: _Row) -> Json | None:
    """Those who handle the case know whom to call, masked until they give a reason."""
    if row["reporter_id"] is None:
        return None
    nickname, phone = _nickname(row), _open_phone(row["phone_sealed"], row["reporter_id"])
    return {
        "id": str(row["reporter_id"]),
        "nickname": mask_name(nickname) if nickname else None,
        "phone_masked": mask_phone(phone) if phone else None,
    }


def _pictures(row: _Row, inside: bool) -> tuple[list[Json], list[Json]]:
    """Those of the report, and those of the result."""
    before: list[Json] = []
    after: list[Json] = []
    for id_, content_type, size, width, height, purpose, review in row["pictures"] or ():
        if inside or review == MediaReview.PASSED:
            picture = media.shown(_dashed(id_), content_type, size, width, height)
            (after if purpose == MediaPurpose.HAZARD_AFTER else before).append(picture)
    return before, after


def _handler(caller: Caller, row: _Row) -> Json | None:
    if row["handler_id"] is None:
        return None
    name = _open_staff_name(row["display_name_sealed"], row["handler_id"]) or row["username"]
    return {"id": str(row["handler_id"]), "name": mask_name(name or "") if caller.is_resident else name}


def _departments(row: _Row) -> list[Json]:
    return [
        {
            "organisation_id": _dashed(organisation_id),
            "name": name,
            "name_en": name_en,
            "role": role,
            "status": status,
            "hop": hop,
            "binding": bool(binding),
            "checked_in_at": _utc(checked_in_at),
            "distance_m": distance_m,
        }
        for organisation_id, name, name_en, role, status, hop, binding, checked_in_at, distance_m in (
            row["departments"] or ()
        )
    ]


def _dashed(text: str) -> str:
    """An id that was inside JSON: bare digits on SQLite."""
    return text if len(text) == _ID_LENGTH else str(UUID(text))


def _utc(text: str | None) -> datetime | None:
    """A time that was inside JSON: with its offset, or naive UTC on SQLite."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
