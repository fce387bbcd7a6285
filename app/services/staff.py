"""Those who work for the community: taken on, looked up, given a new password, and let go."""

from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency, pagination
from app.auth import Caller
from app.errors import Conflict, InvalidInput, NotFound
from app.events import Place
from app.ids import new_id
from app.keys import seal, unseal
from app.masking import mask_name
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, RecoveryCode, Role, Staff, StaffStatus
from app.policy import GRANTERS, Duty
from app.schemas.base import Page
from app.schemas.staff import (
    GrantRead,
    HandedOver,
    HandOver,
    PasswordReset,
    StaffCreate,
    StaffCreated,
    StaffMe,
    StaffRead,
    TemporaryPassword,
)
from app.services import credentials, grants, hazards, sessions, staff_access

LIST = "list_staff"


class UsernameTaken(Conflict):
    """Somebody else has this user name, or had it."""

    code = "username_taken"
    title_en, title_zh = "This user name is taken", "该用户名已被使用"


async def read_me(session: AsyncSession, caller: Caller) -> StaffMe:
    """The caller's own account, with what they are and what they owe."""
    staff = await session.get(Staff, caller.id)
    if staff is None:
        raise NotFound
    held = await grants.held_by(session, [staff.id])
    return StaffMe(
        kind="staff",
        id=staff.id,
        username=staff.username,
        display_name=unseal(staff, "display_name") or "",
        must_change_password=Duty.CHANGE_PASSWORD in caller.owes,
        must_enrol_totp=Duty.ENROL_TOTP in caller.owes,
        totp_enrolled=staff.totp_secret_sealed is not None,
        grants=held[staff.id],
    )


async def list_page(
    session: AsyncSession,
    caller: Caller,
    role: Role | None,
    status: StaffStatus | None,
    limit: int,
    cursor: str | None,
) -> Page[StaffRead]:
    """Whoever belongs to the caller's scope, oldest account first."""
    query = select(Staff).where(staff_access.visible_to(caller, LIST)).order_by(Staff.id).limit(limit + 1)
    after = pagination.decode_id(LIST, cursor)
    if after is not None:
        query = query.where(Staff.id > after)
    if status is not None:
        query = query.where(Staff.status == status)
    if role is not None:
        holders = select(Grant.staff_id).where(Grant.role == role, Grant.in_force(clock.now()))
        query = query.where(Staff.id.in_(holders))
    rows = list(await session.scalars(query))
    shown = rows[:limit]
    held = await grants.held_by(session, [staff.id for staff in shown])
    return Page(
        items=[_describe(caller, staff, held[staff.id]) for staff in shown],
        next_cursor=pagination.encode(LIST, str(shown[-1].id)) if len(rows) > limit else None,
    )


async def read(session: AsyncSession, caller: Caller, staff_id: UUID) -> StaffRead:
    """One member of staff in the caller's scope."""
    staff = await session.scalar(
        select(Staff).where(Staff.id == staff_id, staff_access.visible_to(caller, "read_staff"))
    )
    if staff is None:
        raise NotFound
    return await _read(session, caller, staff)


async def create(
    session: AsyncSession, caller: Caller, order: StaffCreate, password: credentials.NewPassword
) -> StaffCreated:
    """Take somebody on with a first role, and a password that must be changed at the first sign-in."""
    target = await grants.target_of(session, order)
    await staff_access.require_grantable(session, caller, order.role, target.place)
    staff = await add(session, caller, order.username, order.display_name, password, target.place)
    await grants.give(session, caller, staff, order)
    idempotency.mask_when_replayed(session, "temporary_password")
    shown = await _read(session, caller, staff)
    return StaffCreated(**shown.model_dump(), temporary_password=password.text)


async def add(
    session: AsyncSession,
    caller: Caller,
    username: str,
    display_name: str,
    password: credentials.NewPassword,
    region_id: UUID | None = None,
) -> Staff:
    """A new account without any role. 409 for a taken user name."""
    staff = Staff(id=new_id(), username=username, region_id=region_id)
    seal(staff, "display_name", display_name)
    staff.password_hash, staff.must_change_password = password.hash, True
    try:
        async with session.begin_nested():
            session.add(staff)
    except IntegrityError:
        raise UsernameTaken from None
    _record(session, caller, staff, "staff.created")
    return staff


async def disable(session: AsyncSession, caller: Caller, staff_id: UUID) -> StaffRead:
    """Let somebody go: their sessions end now, their name stays in the history."""
    staff = await _lock_managed(session, caller, staff_id, "disable_staff")
    staff.disable()
    await sessions.end_all(session, PrincipalKind.STAFF, staff.id)
    _record(session, caller, staff, "staff.disabled")
    return await _read(session, caller, staff)


async def enable(session: AsyncSession, caller: Caller, staff_id: UUID) -> StaffRead:
    """Take somebody back: they sign in anew, with the roles that are still theirs."""
    staff = await _lock_managed(session, caller, staff_id, "enable_staff")
    staff.enable()
    _record(session, caller, staff, "staff.enabled")
    return await _read(session, caller, staff)


async def reset_password(
    session: AsyncSession,
    caller: Caller,
    staff_id: UUID,
    order: PasswordReset,
    password: credentials.NewPassword,
) -> TemporaryPassword:
    """A new temporary password; every session ends. The authenticator app is forgotten when it is lost."""
    staff = await _lock_managed(session, caller, staff_id, "reset_staff_password")
    staff.require_active()
    staff.set_password(password.hash, temporary=True)
    if order.drop_totp:
        staff.drop_totp()
        await session.execute(delete(RecoveryCode).where(RecoveryCode.staff_id == staff.id))
    await sessions.end_all(session, PrincipalKind.STAFF, staff.id)
    _record(session, caller, staff, "staff.password_reset", {"totp_dropped": order.drop_totp})
    idempotency.mask_when_replayed(session, "temporary_password")
    return TemporaryPassword(temporary_password=password.text)


async def hand_over(session: AsyncSession, caller: Caller, staff_id: UUID, order: HandOver) -> HandedOver:
    """Everything open that somebody in the caller's scope handles passes to a colleague."""
    visible = staff_access.visible_to(caller, "hand_over_staff_hazards")
    if await session.scalar(select(Staff.id).where(Staff.id == staff_id, visible)) is None:
        raise NotFound
    if order.to_staff_id == staff_id:
        raise InvalidInput.of(
            ("body", "to_staff_id"), "same_person", "must be somebody else", "不能移交给本人"
        )
    return HandedOver(hazards=await hazards.hand_over(session, caller, staff_id, order.to_staff_id))


async def _lock_managed(session: AsyncSession, caller: Caller, staff_id: UUID, operation: str) -> Staff:
    staff = await staff_access.lock(session, caller, staff_id, operation)
    await staff_access.require_manageable(session, caller, staff)
    return staff


def _record(
    session: AsyncSession, caller: Caller, staff: Staff, type_: str, payload: JsonObject | None = None
) -> None:
    place = Place(None, staff.region_id)
    events.record(session, caller, staff, type_, audience=Audience.AUDIT, place=place, payload=payload)


async def _read(session: AsyncSession, caller: Caller, staff: Staff) -> StaffRead:
    held = await grants.held_by(session, [staff.id])
    return _describe(caller, staff, held[staff.id])


def _describe(caller: Caller, staff: Staff, held: list[GrantRead]) -> StaffRead:
    name = unseal(staff, "display_name") or ""
    manages = any(granted.role in GRANTERS for granted in caller.grants)
    return StaffRead(
        id=staff.id,
        username=staff.username,
        display_name=name if manages else mask_name(name),
        status=staff.status,
        region_id=staff.region_id,
        must_change_password=staff.must_change_password,
        totp_enrolled=staff.totp_secret_sealed is not None,
        created_at=staff.created_at,
        version=staff.version,
        grants=held,
    )
