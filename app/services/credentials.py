"""What proves that somebody is who they say: passwords, authenticator codes, recovery codes."""

import asyncio
import secrets
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency, totp
from app.auth import Caller
from app.db import database
from app.errors import Conflict, InvalidInput, Unauthenticated
from app.ids import new_id
from app.keys import keyring, seal, unseal
from app.models.events import Audience
from app.models.staff import RecoveryCode, Staff, StaffStatus
from app.passwords import hashing, require_strong
from app.schemas.sessions import StepUp
from app.schemas.staff import PasswordChange, RecoveryCodes, TotpConfirm, TotpEnrolment
from app.services import login_throttle, sessions
from app.services.login_throttle import TooManyAttempts

_ALPHABET = "abcdefghjkmnpqrstvwxyz23456789"
_GROUPS, _GROUP = 4, 5


class NoTotpPending(Conflict):
    """There is no enrolment to confirm."""

    code = "no_totp_pending"
    title_en, title_zh = "Start the enrolment first", "请先发起动态口令绑定"


@dataclass(frozen=True, slots=True)
class NewPassword:
    """What is read out to somebody, and what is stored of it."""

    text: str
    hash: str


async def new_password() -> NewPassword:
    """Twenty random characters (98 bits). Asked for before a transaction is open, where others would wait for the hash."""
    text = "-".join("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP)) for _ in range(_GROUPS))
    return NewPassword(text, await hashing.hash(text))


async def spend_second_factor(session: AsyncSession, caller: Caller, staff: Staff, code: str) -> bool:
    """Use up an authenticator or recovery code of `staff`, whose row is locked; whether it was a good one."""
    secret = unseal(staff, "totp_secret")
    if secret is None:
        return False
    step = totp.match_step(secret, code, clock.now(), staff.totp_last_step)
    if step is not None:
        staff.totp_last_step = step
        return True
    return await _spend_recovery_code(session, caller, staff, code)


async def prove_again(caller: Caller, order: StepUp, repeat: idempotency.Request | None) -> None:
    """Open the five minutes of sensitive operations. 422 for a wrong proof, 429 after several."""
    staff = await _admit(caller, repeat)
    if staff.totp_secret_sealed is None:
        await _require_password(staff, order.password, "password")
    async with database.transaction() as session:
        if repeat is not None:
            await idempotency.claim(session, repeat)
        staff = await _lock(session, caller)
        if staff.totp_secret_sealed is not None:
            await _require_second_factor(session, caller, staff, order.totp)
        await login_throttle.take_back(session, [_meter(staff)], clock.now())
        await sessions.step_up(session, caller)
        await idempotency.keep(session, 204, b"", "")


async def change_password(caller: Caller, order: PasswordChange) -> None:
    """Replace the caller's own password and end their other sessions."""
    known = await _admit(caller)
    await _require_password(known, order.current_password, "current_password")
    name = unseal(known, "display_name") or ""
    loc = ("body", "new_password")
    await asyncio.to_thread(require_strong, order.new_password, known.username, loc, name)
    if order.new_password == order.current_password:
        raise _refused(
            "new_password", "password_unchanged", "is the password in use", "新密码不能与当前密码相同"
        )
    new_hash = await hashing.hash(order.new_password)
    async with database.transaction() as session:
        staff = await _lock(session, caller)
        if staff.password_hash != known.password_hash:
            raise _wrong_password("current_password")
        staff.set_password(new_hash, temporary=False)
        await login_throttle.take_back(session, [_meter(staff)], clock.now())
        await sessions.end_all(session, caller.kind, caller.id, besides=caller.session_id)
        events.record(session, caller, staff, "staff.password_changed", audience=Audience.AUDIT)


async def enrol_totp(session: AsyncSession, caller: Caller) -> TotpEnrolment:
    """A new secret for an authenticator app. The one in use stays until the new one is confirmed."""
    staff = await _lock(session, caller)
    secret = totp.new_secret()
    seal(staff, "totp_pending", secret)
    events.record(session, caller, staff, "staff.totp_offered", audience=Audience.AUDIT)
    idempotency.mask_when_replayed(session, "secret", "provisioning_uri")
    return TotpEnrolment(secret=secret, provisioning_uri=totp.provisioning_uri(secret, staff.username))


async def confirm_totp(session: AsyncSession, caller: Caller, order: TotpConfirm) -> RecoveryCodes:
    """Put the offered secret in use, end the sessions that did without, and hand out recovery codes."""
    staff = await _lock(session, caller)
    secret = unseal(staff, "totp_pending")
    if secret is None:
        raise NoTotpPending
    step = totp.match_step(secret, order.totp, clock.now(), None)
    if step is None:
        raise _wrong_code()
    staff.totp_pending_sealed, staff.totp_last_step = None, step
    seal(staff, "totp_secret", secret)
    await sessions.end_all(session, caller.kind, caller.id, besides=caller.session_id)
    await sessions.step_up(session, caller)
    events.record(session, caller, staff, "staff.totp_enrolled", audience=Audience.AUDIT)
    idempotency.mask_when_replayed(session, "recovery_codes")
    return RecoveryCodes(recovery_codes=await _new_recovery_codes(session, staff))


async def _admit(caller: Caller, repeat: idempotency.Request | None = None) -> Staff:
    """The caller's own row, once they may try again. The try counts as a failure until it is taken back."""
    async with database.transaction() as session:
        if repeat is not None:
            await idempotency.replay_if_done(session, repeat)
        staff, now = await _lock(session, caller), clock.now()
        [wait] = await login_throttle.waits(session, [_meter(staff)], now)
        if wait:
            await login_throttle.record_refusal(session, [_meter(staff)], now, staff.id)
        else:
            await login_throttle.count(session, [_meter(staff)], now)
    if wait:
        raise TooManyAttempts(retry_after=wait)
    return staff


async def _lock(session: AsyncSession, caller: Caller) -> Staff:
    staff: Staff | None = await session.scalar(select(Staff).where(Staff.id == caller.id).with_for_update())
    if staff is None or staff.status is not StaffStatus.ACTIVE:
        raise Unauthenticated
    return staff


def _meter(staff: Staff) -> login_throttle.Meter:
    return login_throttle.by_second_factor(staff.username)


async def _require_password(staff: Staff, password: str | None, field: str) -> None:
    if password is None:
        raise _missing(field)
    if not await hashing.verify(staff.password_hash, password):
        raise _wrong_password(field)


async def _require_second_factor(
    session: AsyncSession, caller: Caller, staff: Staff, code: str | None
) -> None:
    if code is None:
        raise _missing("totp")
    if not await spend_second_factor(session, caller, staff, code):
        raise _wrong_code()


async def _spend_recovery_code(session: AsyncSession, caller: Caller, staff: Staff, code: str) -> bool:
    plain = totp.normalise_recovery_code(code)
    if plain is None:
        return False
    spent = await session.scalar(
        update(RecoveryCode)
        .where(
            RecoveryCode.staff_id == staff.id,
            RecoveryCode.digest.in_(keyring.token_digests(plain)),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=clock.now())
        .returning(RecoveryCode.id)
    )
    if spent is not None:
        events.record(session, caller, staff, "staff.recovery_code_used", audience=Audience.AUDIT)
    return spent is not None


async def _new_recovery_codes(session: AsyncSession, staff: Staff) -> list[str]:
    await session.execute(delete(RecoveryCode).where(RecoveryCode.staff_id == staff.id))
    codes = totp.new_recovery_codes()
    digests = [keyring.token_digest(totp.normalise_recovery_code(code) or "") for code in codes]
    session.add_all(RecoveryCode(id=new_id(), staff_id=staff.id, digest=digest) for digest in digests)
    return codes


def _missing(field: str) -> InvalidInput:
    return _refused(field, "missing", "is required", "必填")


def _wrong_password(field: str) -> InvalidInput:
    return _refused(field, "wrong_password", "is not your password", "密码不正确")


def _wrong_code() -> InvalidInput:
    return _refused("totp", "wrong_code", "is not a code that is good now", "动态口令不正确或已使用")


def _refused(field: str, code: str, message_en: str, message_zh: str) -> InvalidInput:
    return InvalidInput.of(("body", field), code, message_en, message_zh)
