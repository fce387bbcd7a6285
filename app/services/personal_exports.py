"""Everything stored about a resident, for that resident: in clear, complete, and nothing of anybody else."""

from collections.abc import Iterable
from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.auth import Caller
from app.keys import unseal
from app.models.base import Entity
from app.models.events import Event
from app.models.hazard_comments import HazardComment, HazardSupport
from app.models.hazards import Hazard
from app.models.households import Household
from app.models.media import Media
from app.models.notifications import MessageQuota, Notification
from app.models.residents import Resident
from app.models.sessions import LoginSession
from app.schemas.base import CoordinatesRead
from app.schemas.notifications import MessageQuotaRead, NotificationRead, SubjectRead
from app.schemas.personal_exports import (
    CommentExport,
    EventExport,
    HazardExport,
    HouseholdExport,
    PersonalDataExport,
    PictureExport,
    ProfileExport,
    SessionExport,
    SupportExport,
)
from app.services import consents, media, reveals, subscriptions

Stored = TypeVar("Stored", bound=Entity)

_SUBJECTS = (Resident.__tablename__, Household.__tablename__, Hazard.__tablename__)


async def export(session: AsyncSession, caller: Caller) -> PersonalDataExport:
    """Everything there is about the caller."""
    resident = await session.get_one(Resident, caller.id)
    homes = await _rows(session, Household, Household.resident_id == caller.id)
    hazards = await _rows(session, Hazard, Hazard.reporter_id == caller.id)
    return PersonalDataExport(
        exported_at=clock.now(),
        profile=_profile(resident),
        consents=await consents.every(session, caller.id),
        households=[_household(row) for row in homes],
        hazards=[_hazard(row) for row in hazards],
        comments=await _comments(session, caller),
        supports=await _supports(session, caller),
        pictures=await _pictures(session, caller),
        notifications=await _notifications(session, caller),
        message_quotas=await _message_quotas(session, caller),
        subscriptions=await subscriptions.every(session, caller),
        sessions=await _sessions(session, caller),
        access_log=await reveals.every(session, caller.id),
        history=await _history(session, caller, [row.id for row in (*homes, *hazards)]),
    )


async def _rows(session: AsyncSession, table: type[Stored], *conditions: ColumnElement[bool]) -> list[Stored]:
    return list(await session.scalars(select(table).where(*conditions).order_by(table.id)))


def _profile(resident: Resident) -> ProfileExport:
    return ProfileExport(
        id=resident.id,
        openid=unseal(resident, "openid"),
        nickname=unseal(resident, "nickname"),
        phone=unseal(resident, "phone"),
        real_name=unseal(resident, "real_name"),
        id_number=unseal(resident, "id_number"),
        community_id=resident.community_id,
        language=resident.language,
        created_at=resident.created_at,
    )


def _household(home: Household) -> HouseholdExport:
    return HouseholdExport(
        id=home.id,
        community_id=home.community_id,
        region_id=home.region_id,
        address=unseal(home, "address"),
        relation=home.relation,
        status=home.status,
        created_at=home.created_at,
        decided_at=home.decided_at,
        ended_at=home.ended_at,
    )


def _hazard(hazard: Hazard) -> HazardExport:
    return HazardExport(
        id=hazard.id,
        category=hazard.category,
        status=hazard.status,
        description=unseal(hazard, "description"),
        address=unseal(hazard, "address"),
        location=CoordinatesRead(lng=hazard.lng, lat=hazard.lat, datum="gcj02"),
        anonymous=hazard.anonymous,
        rating=hazard.rating,
        rating_comment=unseal(hazard, "rating_comment"),
        created_at=hazard.created_at,
        closed_at=hazard.closed_at,
    )


async def _comments(session: AsyncSession, caller: Caller) -> list[CommentExport]:
    rows = await _rows(
        session,
        HazardComment,
        HazardComment.author_kind == caller.kind,
        HazardComment.author_id == caller.id,
    )
    return [
        CommentExport(id=row.id, hazard_id=row.hazard_id, text=unseal(row, "text"), created_at=row.created_at)
        for row in rows
    ]


async def _supports(session: AsyncSession, caller: Caller) -> list[SupportExport]:
    rows = await session.scalars(
        select(HazardSupport).where(HazardSupport.resident_id == caller.id).order_by(HazardSupport.created_at)
    )
    return [SupportExport.model_validate(row) for row in rows]


async def _pictures(session: AsyncSession, caller: Caller) -> list[PictureExport]:
    rows = await _rows(
        session,
        Media,
        Media.owner_kind == caller.kind,
        Media.owner_id == caller.id,
        Media.erased_at.is_(None),
    )
    return [
        PictureExport(
            **media.describe(row).model_dump(),
            purpose=row.purpose,
            hazard_id=row.subject_id,
            created_at=row.created_at,
        )
        for row in rows
    ]


async def _notifications(session: AsyncSession, caller: Caller) -> list[NotificationRead]:
    rows = await _rows(
        session,
        Notification,
        Notification.recipient_kind == caller.kind,
        Notification.recipient_id == caller.id,
    )
    return [
        NotificationRead(
            id=row.id,
            type=row.type,
            subject=SubjectRead(kind=row.subject_kind, id=row.subject_id),
            created_at=row.created_at,
            read_at=row.read_at,
        )
        for row in rows
    ]


async def _message_quotas(session: AsyncSession, caller: Caller) -> list[MessageQuotaRead]:
    rows = await session.scalars(select(MessageQuota).where(MessageQuota.resident_id == caller.id))
    return [MessageQuotaRead.model_validate(row) for row in rows]


async def _sessions(session: AsyncSession, caller: Caller) -> list[SessionExport]:
    rows = await _rows(
        session,
        LoginSession,
        LoginSession.principal_kind == caller.kind,
        LoginSession.principal_id == caller.id,
    )
    return [SessionExport.model_validate(row) for row in rows]


async def _history(session: AsyncSession, caller: Caller, subjects: Iterable[UUID]) -> list[EventExport]:
    rows = await session.scalars(
        select(Event)
        .where(
            Event.subject_kind.in_(_SUBJECTS),
            Event.subject_id.in_([caller.id, *subjects]),
            Event.actor_id == caller.id,
        )
        .order_by(Event.no)
    )
    return [EventExport.model_validate(row) for row in rows]
