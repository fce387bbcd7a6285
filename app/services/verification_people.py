"""Invariants of people and what is kept about them: sealed values, sessions, households, answers, tasks."""

from collections.abc import AsyncIterator
from datetime import timedelta

from sqlalchemy import and_, exists, func, or_, select

from app import clock
from app.crypto import SealBroken
from app.keys import vault
from app.models.base import Base
from app.models.cases import CaseImport
from app.models.events import Event
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard
from app.models.households import OPEN_STATUSES, Household, HouseholdStatus
from app.models.idempotency import IdempotencyKey
from app.models.notifications import MessageQuota, Notification
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.models.staff import Staff, StaffStatus
from app.models.tasks import Task, TaskStatus
from app.services import key_rotation
from app.services.verification_checks import MOST, Check, Probe, each, rows

_PAGE = 500


async def _sealed(probe: Probe) -> AsyncIterator[str]:
    """Every sealed value opens where it is stored, and is found by its index."""
    tables = key_rotation.sealed_tables()
    sizes = [await probe.session.scalar(select(func.count()).select_from(one.table)) or 0 for one in tables]
    done = 0
    for sealed in tables:
        query = select(sealed.table).order_by(sealed.key).limit(_PAGE)
        page = (await probe.session.execute(query)).mappings().all()
        while page:
            for row in page:
                try:
                    key_rotation.open_row(sealed, vault, row)
                except SealBroken as broken:
                    yield str(broken)
            done += len(page)
            probe.advance(done, sum(sizes))
            after = query.where(sealed.key > page[-1][sealed.key.name])
            page = (await probe.session.execute(after)).mappings().all()


async def _references(probe: Probe) -> AsyncIterator[str]:
    """Also where the database was told not to look."""
    keys = [(table, key) for table in Base.metadata.sorted_tables for key in table.foreign_keys]
    for done, (table, key) in enumerate(keys):
        probe.advance(done, len(keys))
        parent = key.column.table.alias()
        name = next(iter(table.primary_key))
        lost = select(name, key.parent).where(
            key.parent.is_not(None), ~exists().where(parent.c[key.column.name] == key.parent)
        )
        for row_key, pointer in await probe.session.execute(lost.limit(MOST)):
            yield f"{table.name} {row_key}: {key.parent.name} {pointer} does not exist"


def _families() -> Check:
    query = (
        select(LoginSession.family_id, func.count().label("unspent"))
        .where(LoginSession.spent_at.is_(None))
        .group_by(LoginSession.family_id)
        .having(func.count() > 1)
    )
    return Check(
        "sessions.families",
        "every sign-in has one generation of tokens that can be renewed",
        rows("sessions", query),
    )


def _answers() -> Check:
    query = select(IdempotencyKey.scope, IdempotencyKey.created_at.label("claimed_at")).where(
        or_(IdempotencyKey.status.is_(None), IdempotencyKey.answer_sealed.is_(None))
    )
    return Check(
        "idempotency.answers",
        "every idempotency key that was claimed has its answer",
        rows("idempotency_keys", query),
    )


_HOUSEHOLDS = each(
    Household,
    {
        "decided, but not by whom or when": and_(
            Household.status.in_((HouseholdStatus.CONFIRMED, HouseholdStatus.REJECTED)),
            or_(Household.decided_by.is_(None), Household.decided_at.is_(None)),
        ),
        "claimed, but somebody has decided it": and_(
            Household.status == HouseholdStatus.CLAIMED, Household.decided_at.is_not(None)
        ),
        "ended, but not when": and_(Household.status == HouseholdStatus.ENDED, Household.ended_at.is_(None)),
        "ended, but the address is still there": and_(
            Household.status == HouseholdStatus.ENDED,
            or_(Household.address_sealed.is_not(None), Household.address_index.is_not(None)),
        ),
        "open, but nobody knows where": and_(
            Household.status.in_((HouseholdStatus.CLAIMED, HouseholdStatus.CONFIRMED)),
            or_(Household.address_sealed.is_(None), Household.address_index.is_(None)),
        ),
    },
)

_PERSONAL = (
    Resident.openid_index,
    Resident.openid_sealed,
    Resident.nickname_sealed,
    Resident.phone_index,
    Resident.phone_sealed,
    Resident.real_name_sealed,
    Resident.id_number_index,
    Resident.id_number_sealed,
)
_RESIDENTS = each(
    Resident,
    {
        "deleted, but something personal is left": and_(
            Resident.deleted_at.is_not(None), or_(*(column.is_not(None) for column in _PERSONAL))
        ),
        "there, but cannot sign in": and_(
            Resident.deleted_at.is_(None),
            or_(Resident.openid_index.is_(None), Resident.openid_sealed.is_(None)),
        ),
        "a value without its index, or an index without its value": or_(
            Resident.phone_index.is_(None) != Resident.phone_sealed.is_(None),
            Resident.id_number_index.is_(None) != Resident.id_number_sealed.is_(None),
        ),
    },
)
_COMMENTS = each(
    HazardComment,
    {
        "hidden, but its words are still there": and_(
            HazardComment.hidden_at.is_not(None), HazardComment.text_sealed.is_not(None)
        ),
        "belongs to an event that does not exist": and_(
            HazardComment.event_id.is_not(None), ~exists().where(Event.id == HazardComment.event_id)
        ),
    },
)
_STRAGGLERS = timedelta(hours=1)
# Reporters of imported cases were never here, so they have not left either.
_STRANGERS = (
    select(Hazard.reporter_id)
    .join(CaseImport, CaseImport.hazard_id == Hazard.id)
    .where(Hazard.reporter_id.is_not(None))
)


async def _links(probe: Probe) -> AsyncIterator[str]:
    """Whoever left is nobody any more, an hour later; whoever was disabled is signed in nowhere."""
    gone = select(Resident.id).where(
        Resident.deleted_at < clock.now() - _STRAGGLERS, Resident.id.not_in(_STRANGERS)
    )
    disabled = select(Staff.id).where(Staff.status == StaffStatus.DISABLED)
    quota = MessageQuota.resident_id
    breaches = {
        "reported by somebody who left": select(Hazard.id).where(Hazard.reporter_id.in_(gone)),
        "open, of somebody who left": select(Household.id).where(
            Household.resident_id.in_(gone), Household.status.in_(OPEN_STATUSES)
        ),
        "the words of somebody who left": select(HazardComment.id).where(
            HazardComment.author_kind == PrincipalKind.RESIDENT,
            HazardComment.author_id.in_(gone),
            HazardComment.text_sealed.is_not(None),
        ),
        "told to somebody who left": select(Notification.id).where(
            Notification.recipient_kind == PrincipalKind.RESIDENT, Notification.recipient_id.in_(gone)
        ),
        "messages for somebody who left": select(quota).where(quota.in_(gone)),
        "a sign-in of somebody who left": select(LoginSession.id).where(
            LoginSession.principal_kind == PrincipalKind.RESIDENT, LoginSession.principal_id.in_(gone)
        ),
        "still signed in, but disabled": select(LoginSession.id).where(
            LoginSession.principal_kind == PrincipalKind.STAFF,
            LoginSession.principal_id.in_(disabled),
            LoginSession.revoked_at.is_(None),
        ),
    }
    for done, (what, query) in enumerate(breaches.items()):
        probe.advance(done, len(breaches))
        for row_id in await probe.session.scalars(query.limit(MOST)):
            yield f"{query.get_final_froms()[0]} {row_id}: {what}"


_NOTIFICATIONS = each(
    Notification,
    {
        "about an event that does not exist": ~exists().where(Event.id == Notification.event_id),
        "to nobody": or_(
            and_(
                Notification.recipient_kind == PrincipalKind.RESIDENT,
                ~exists().where(Resident.id == Notification.recipient_id),
            ),
            and_(
                Notification.recipient_kind == PrincipalKind.STAFF,
                ~exists().where(Staff.id == Notification.recipient_id),
            ),
        ),
    },
)
_TASKS = each(
    Task,
    {
        "over, but not since when": and_(Task.status != TaskStatus.QUEUED, Task.finished_at.is_(None)),
        "over, but somebody holds it": and_(Task.status != TaskStatus.QUEUED, Task.lease_token.is_not(None)),
        "held without an end": Task.lease_token.is_(None) != Task.lease_until.is_(None),
    },
)

CHECKS = (
    Check("sealed.opens", "every sealed value opens where it is stored and has its own index", _sealed),
    Check("references", "every reference points to something that exists", _references),
    _families(),
    _answers(),
    Check("households.columns", "every household has the columns that its status asks for", _HOUSEHOLDS),
    Check("residents.columns", "nothing personal is left of those who left", _RESIDENTS),
    Check("comments.columns", "hidden comments have no words, and events of comments exist", _COMMENTS),
    Check(
        "people.gone", "nothing points to those who left, and those who were disabled are signed out", _links
    ),
    Check("notifications.ends", "every notification is about an event, to somebody", _NOTIFICATIONS),
    Check("tasks.columns", "tasks that are over are nobody's", _TASKS),
)
