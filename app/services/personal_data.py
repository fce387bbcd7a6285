"""What residents let us know about themselves: taken with their consent, erased when they leave."""

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, idempotency, outbox
from app.auth import SYSTEM, Caller
from app.crypto import normalise_id_number, normalise_name, normalise_phone
from app.db import among, database
from app.errors import InvalidInput, Unauthenticated
from app.keys import seal, unseal, vault
from app.leases import Lease
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard, PublicState
from app.models.media import Media
from app.models.notifications import MessageQuota, Notification
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.outside import outside
from app.schemas.residents import IdentitySet, ResidentMe
from app.services import consents, households, media, residents, reveals, sessions, subscriptions, wechat

ERASE = "residents.erase"
_STRAGGLERS_AFTER = timedelta(minutes=2)
_IN_ANSWERS = ("address", "reporter", "reporter_name")


async def bind_phone(caller: Caller, code: str, request: idempotency.Request | None) -> ResidentMe:
    """Keep the number that WeChat vouches for. The code works once, so a repeat is looked up before it is spent."""
    async with database.reading() as session:
        if request is not None:
            await idempotency.replay_if_done(session, request)
        await consents.require(session, caller.id, consents.CONTACT_PHONE)
        openid = unseal(await session.get_one(Resident, caller.id), "openid")
    if openid is None:
        raise Unauthenticated
    phone = await _ask_wechat(code, openid)
    async with database.transaction() as session:
        if request is not None:
            await idempotency.claim(session, request)
        answer = await _keep_phone(session, caller, phone)
        await idempotency.keep(session, 200, answer.model_dump_json().encode(), "application/json")
    return answer


async def set_identity(session: AsyncSession, caller: Caller, body: IdentitySet) -> ResidentMe:
    """Keep the name and the number of the identity card."""
    resident = await residents.lock_self(session, caller)
    await consents.require(session, resident.id, consents.IDENTITY)
    number = _checked_number(body.id_number)
    seal(resident, "real_name", normalise_name(body.real_name))
    seal(resident, "id_number", number)
    resident.id_number_index = vault.blind_index("id_number", number)
    resident.version += 1
    residents.record(session, caller, resident, "resident.identity_set")
    return residents.describe_me(resident)


async def delete_me(session: AsyncSession, caller: Caller) -> None:
    """Erase the person. What is about the community stays, without them: cases, counts, and the audit trail."""
    resident = await residents.lock(session, caller.id)
    if resident.deleted_at is not None:
        return
    now = clock.now()
    await sessions.end_all(session, PrincipalKind.RESIDENT, resident.id)
    await _leave_places(session, caller, resident.id, now)
    residents.record(session, caller, resident, "resident.deleted")
    resident.erase(now)
    # This waits for everybody who refers to the row, as a merge does with its supporters, and a merge goes on to comments.
    await session.flush()
    await _erase_traces(session, resident.id, now)
    # Their own requests waited for this, or this for them; what the worker writes for them, a notification say, did not.
    await outbox.enqueue(
        session,
        ERASE,
        {"resident_id": str(resident.id)},
        key=f"{ERASE}:{resident.id}",
        run_at=now + _STRAGGLERS_AFTER,
    )


async def erase_stragglers(lease: Lease) -> None:
    """The worker's part of `delete_me`: the same again for what came in at the same moment."""
    async with lease.transaction() as session:
        resident = await residents.lock(session, UUID(str(lease.payload["resident_id"])))
        if resident.deleted_at is not None:
            await _leave_places(session, SYSTEM, resident.id, clock.now())
            await _erase_traces(session, resident.id, clock.now())


# --- Collecting -------------------------------------------------------------------------------------------------


async def _ask_wechat(code: str, openid: str) -> str:
    try:
        with wechat.explained():
            number = await outside.wechat.phone_number(code, openid)
        return normalise_phone(f"+{number.country_code}{number.number}")
    except wechat.WeChatCodeInvalid:
        raise _not_a_code() from None
    except ValueError:
        raise InvalidInput.of(
            ("body", "code"), "unusable_phone", "stands for a number that cannot be used", "手机号无法使用"
        ) from None


def _not_a_code() -> InvalidInput:
    return InvalidInput.of(
        ("body", "code"),
        wechat.WeChatCodeInvalid.code,
        "is unknown, expired or used before",
        "凭证无效、已过期或已使用",
    )


async def _keep_phone(session: AsyncSession, caller: Caller, phone: str) -> ResidentMe:
    resident = await residents.lock_self(session, caller)
    await consents.require(session, resident.id, consents.CONTACT_PHONE)
    seal(resident, "phone", phone)
    resident.phone_index = vault.blind_index("phone", phone)
    resident.version += 1
    residents.record(session, caller, resident, "resident.phone_bound")
    return residents.describe_me(resident)


def _checked_number(text: str) -> str:
    try:
        return normalise_id_number(text)
    except ValueError:
        raise InvalidInput.of(
            ("body", "id_number"),
            "invalid_id_number",
            "is not a resident identity number",
            "身份证号码不正确",
        ) from None


# --- Erasing ----------------------------------------------------------------------------------------------------


async def _leave_places(session: AsyncSession, caller: Caller, resident_id: UUID, now: datetime) -> None:
    """No home is theirs, no consent and no report any more."""
    await households.end_all(session, caller, resident_id, now)
    await consents.withdraw_all(session, resident_id, now)
    await _forget_reports(session, resident_id)


async def _erase_traces(session: AsyncSession, resident_id: UUID, now: datetime) -> None:
    """What else is personal around the resident's own row. Supports stay: they point to a row that is nobody."""
    await _forget_comments(session, resident_id, now)
    await _erase_unused_pictures(session, resident_id)
    await reveals.forget_reasons(session, resident_id)
    await idempotency.forget(session, resident_id)
    await subscriptions.forget(session, resident_id)
    await session.execute(delete(MessageQuota).where(MessageQuota.resident_id == resident_id))
    await session.execute(
        delete(Notification).where(
            Notification.recipient_kind == PrincipalKind.RESIDENT, Notification.recipient_id == resident_id
        )
    )
    await session.execute(
        delete(LoginSession).where(
            LoginSession.principal_kind == PrincipalKind.RESIDENT, LoginSession.principal_id == resident_id
        )
    )


async def _forget_reports(session: AsyncSession, resident_id: UUID) -> None:
    """The hazards stay with those who handle them; who reported them is gone."""
    rows = await session.scalars(
        select(Hazard).where(Hazard.reporter_id == resident_id).order_by(Hazard.id).with_for_update()
    )
    for hazard in rows:
        seal(hazard, "address", None)
        seal(hazard, "rating_comment", None)
        hazard.forget_reporter()
        await idempotency.redact(session, hazard.id, _IN_ANSWERS)


async def _forget_comments(session: AsyncSession, resident_id: UUID, now: datetime) -> None:
    theirs = (
        HazardComment.author_kind == PrincipalKind.RESIDENT,
        HazardComment.author_id == resident_id,
        HazardComment.text_sealed.is_not(None),
    )
    await session.execute(
        update(HazardComment)
        .where(among(HazardComment, *theirs))
        .values(text_sealed=None, hidden_at=now, public_state=PublicState.HIDDEN)
        .execution_options(synchronize_session=False)
    )


async def _erase_unused_pictures(session: AsyncSession, resident_id: UUID) -> None:
    rows = await session.scalars(
        select(Media)
        .where(
            Media.owner_kind == PrincipalKind.RESIDENT,
            Media.owner_id == resident_id,
            Media.subject_id.is_(None),
            Media.erased_at.is_(None),
        )
        .order_by(Media.id)
        .with_for_update()
    )
    for picture in rows:
        await media.erase(session, picture)
