"""Signing in: residents through WeChat, staff with a password and a second factor."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events
from app.auth import SYSTEM
from app.db import database
from app.errors import Forbidden, Problem, Unauthenticated
from app.models.base import JsonObject
from app.models.sessions import PrincipalKind
from app.models.staff import Staff, StaffStatus
from app.outside import outside
from app.passwords import Busy, hashing
from app.schemas.sessions import SessionRead, StaffSessionCreate, WeChatSessionCreate
from app.services import credentials, login_throttle, residents, sessions, wechat
from app.services.login_throttle import Meter, TooManyAttempts


class InvalidCredentials(Unauthenticated):
    """Unknown user, disabled user or wrong password: nobody is told which."""

    code = "invalid_credentials"
    title_en, title_zh = "The user name or the password is wrong", "用户名或密码错误"


class TotpRequired(Unauthenticated):
    """The password was right; send it again together with a code."""

    code = "totp_required"
    title_en, title_zh = "A code of your authenticator app is required", "请输入动态口令"


class TotpInvalid(Unauthenticated):
    """The password was right, the code was not, or it was used before."""

    code = "totp_invalid"
    title_en, title_zh = "The code is wrong or was used before", "动态口令不正确或已使用"


async def sign_in_resident(order: WeChatSessionCreate) -> SessionRead:
    """Exchange a WeChat code for a session; a first-time visitor becomes a resident."""
    if order.community_id is not None:
        async with database.reading() as session:
            await residents.require_community(session, order.community_id)
    try:
        with wechat.explained():
            login = await outside.wechat.code2session(order.code)
    except (Unauthenticated, Forbidden) as refusal:
        async with database.transaction() as session:
            _record_failure(session, "wechat", refusal)
        raise
    async with database.transaction() as session:
        resident_id = await residents.find_or_create(session, login.openid, order.community_id)
        return await sessions.start(session, PrincipalKind.RESIDENT, resident_id, "wechat")


async def sign_in_staff(order: StaffSessionCreate, address: str) -> SessionRead:
    """Check password and second factor. An unknown user gets the same answer after the same time."""
    attempt = await _admit(order, address)
    verdict = await _verify(attempt, order.password)
    async with database.transaction() as session:
        answer = await _judge(session, attempt, order, verdict)
        if isinstance(answer, Unauthenticated) and not isinstance(answer, TotpRequired):
            _record_failure(session, "password", answer, attempt.staff_id)
            if attempt.held_for:
                account = login_throttle.by_account(order.username.lower())
                await login_throttle.record_refusal(session, [account], clock.now(), attempt.staff_id)
    # After the commit: what was counted must outlast the refusal.
    if isinstance(answer, SessionRead):
        return answer
    raise TooManyAttempts(retry_after=attempt.held_for) if attempt.held_for else answer


@dataclass(frozen=True, slots=True)
class _Attempt:
    """`held_for`: seconds for which this account is open to a right second factor only."""

    staff_id: UUID | None
    password_hash: str | None
    counted: list[Meter]
    held_for: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether the password fits, and its hash with today's parameters if the stored one is out of date."""

    fits: bool
    new_hash: str | None = None


async def _admit(order: StaffSessionCreate, address: str) -> _Attempt:
    """Take the try for a failure before anything is looked at, unless it has to wait."""
    username, now = order.username.lower(), clock.now()
    account = login_throttle.by_account(username)
    source = [login_throttle.by_address(address), login_throttle.by_both(username, address)]
    async with database.transaction() as session:
        held_for, *others = await login_throttle.waits(session, [account, *source], now)
        wait = max(others) if order.totp else max(held_for, *others)
        # A held account is not counted on: otherwise whoever goes on trying would hold it for ever.
        counted = source if held_for else [account, *source]
        if not wait:
            await login_throttle.count(session, counted, now)
        known = await session.execute(
            select(Staff.id, Staff.password_hash).where(
                Staff.username == username, Staff.status == StaffStatus.ACTIVE
            )
        )
        staff_id, password_hash = known.one_or_none() or (None, None)
        if wait:
            asked = source if order.totp else [account, *source]
            await login_throttle.record_refusal(session, asked, now, staff_id)
    if wait:
        raise TooManyAttempts(retry_after=wait)
    return _Attempt(staff_id, password_hash, counted, held_for)


async def _verify(attempt: _Attempt, password: str) -> _Verdict:
    stored = attempt.password_hash
    try:
        if not await hashing.verify(stored, password) or stored is None:
            return _Verdict(fits=False)
        return _Verdict(True, await hashing.hash(password) if hashing.needs_rehash(stored) else None)
    except Busy:
        async with database.transaction() as session:
            await login_throttle.take_back(session, attempt.counted, clock.now())
        raise


async def _judge(
    session: AsyncSession, attempt: _Attempt, order: StaffSessionCreate, verdict: _Verdict
) -> SessionRead | Problem:
    staff = await _lock_unchanged(session, attempt) if verdict.fits else None
    if staff is None:
        return InvalidCredentials()
    if not attempt.held_for:
        await login_throttle.take_back(session, attempt.counted, clock.now())
    refusal = await _second_factor_refusal(session, staff, order.totp, attempt)
    if refusal is not None:
        return refusal
    if verdict.new_hash is not None:
        staff.password_hash = verdict.new_hash
    method = "password" if staff.totp_secret_sealed is None else "password and second factor"
    return await sessions.start(session, PrincipalKind.STAFF, staff.id, method, stepped_up=True)


async def _lock_unchanged(session: AsyncSession, attempt: _Attempt) -> Staff | None:
    """The row whose password was checked, unless it was disabled or given another password meanwhile."""
    staff: Staff | None = await session.scalar(
        select(Staff)
        .where(
            Staff.id == attempt.staff_id,
            Staff.status == StaffStatus.ACTIVE,
            Staff.password_hash == attempt.password_hash,
        )
        .with_for_update()
    )
    return staff


async def _second_factor_refusal(
    session: AsyncSession, staff: Staff, code: str | None, attempt: _Attempt
) -> Problem | None:
    if staff.totp_secret_sealed is None:
        return InvalidCredentials() if attempt.held_for else None
    if code is None:
        return TotpRequired()
    now, meter = clock.now(), login_throttle.by_second_factor(staff.username)
    [wait] = await login_throttle.waits(session, [meter], now)
    if wait:
        await login_throttle.record_refusal(session, [meter], now, staff.id)
        return TooManyAttempts(retry_after=wait)
    if not await credentials.spend_second_factor(session, SYSTEM, staff, code):
        await login_throttle.count(session, [meter], now)
        return TotpInvalid()
    if attempt.held_for:
        await login_throttle.take_back(session, attempt.counted, now)
    return None


def _record_failure(
    session: AsyncSession, method: str, refusal: Problem, staff_id: UUID | None = None
) -> None:
    payload: JsonObject = {"method": method, "reason": refusal.code}
    if staff_id is not None:
        payload["staff_id"] = str(staff_id)
    events.record_access(session, SYSTEM, "session.failed", payload=payload)
