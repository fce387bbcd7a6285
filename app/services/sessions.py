"""Who is signed in: tokens handed out, renewed with one successor, and ended at once."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, clock, events
from app.auth import ACCESS_PREFIX, REFRESH_PREFIX, Caller
from app.crypto import new_token, token_well_formed
from app.db import database, signal_after_commit
from app.errors import Unauthenticated
from app.ids import new_id
from app.keys import keyring, seal, unseal
from app.models.base import JsonObject
from app.models.sessions import LoginSession, PrincipalKind
from app.policy import Duty
from app.schemas.sessions import ResidentPrincipal, SessionRead, StaffPrincipal

ACCESS_LIFE = timedelta(minutes=30)
RESIDENT_LIFE = timedelta(days=30)
STAFF_LIFE = timedelta(hours=12)
GRACE = timedelta(seconds=30)


class SessionEnded(Unauthenticated):
    """The refresh token is unknown, expired, revoked, or was used before."""

    code = "session_ended"
    title_en, title_zh = "The session has ended, sign in again", "会话已结束，请重新登录"


@dataclass(frozen=True, slots=True)
class _Tokens:
    access: str
    refresh: str


async def start(
    session: AsyncSession, kind: PrincipalKind, principal_id: UUID, method: str, *, stepped_up: bool = False
) -> SessionRead:
    """Sign somebody in who has proved to be this principal: a new family with tokens of its own."""
    now, family_id = clock.now(), new_id()
    login = LoginSession(
        id=family_id,
        family_id=family_id,
        principal_kind=kind,
        principal_id=principal_id,
        expires_at=now + (RESIDENT_LIFE if kind is PrincipalKind.RESIDENT else STAFF_LIFE),
        stepped_up_at=now if stepped_up else None,
    )
    tokens = await _hand_out(session, login, now)
    caller = await auth.caller_of(session, login)
    if caller is None:
        raise SessionEnded
    payload: JsonObject = {"session_id": str(login.id), "method": method}
    events.record_access(session, caller, "session.created", payload=payload)
    return _answer(tokens, login, caller, now)


async def refresh(token: str) -> SessionRead:
    """Spend a refresh token for its one successor, which repeats get for 30 s; later the whole family ends."""
    if not token_well_formed(REFRESH_PREFIX, token):
        raise SessionEnded
    async with database.transaction() as session:
        answer = await _refresh(session, token, clock.now())
    # After the commit: the end of the family must outlast the refusal.
    if answer is None:
        raise SessionEnded
    return answer


async def end_current(session: AsyncSession, caller: Caller) -> None:
    """Sign out: the caller's whole family of tokens."""
    login = await session.get_one(LoginSession, caller.session_id)
    await _end_family(session, login)
    events.record_access(session, caller, "session.ended", payload={"session_id": str(login.family_id)})


async def end_all(
    session: AsyncSession, kind: PrincipalKind, principal_id: UUID, *, besides: UUID | None = None
) -> None:
    """End every family of somebody, but for the one that the session `besides` belongs to."""
    theirs = [
        LoginSession.principal_kind == kind,
        LoginSession.principal_id == principal_id,
        LoginSession.revoked_at.is_(None),
    ]
    if besides is not None:
        kept = select(LoginSession.family_id).where(LoginSession.id == besides)
        theirs.append(LoginSession.family_id != kept.scalar_subquery())
    roots = select(LoginSession.id).where(*theirs, LoginSession.id == LoginSession.family_id)
    await session.execute(roots.order_by(LoginSession.id).with_for_update())
    await session.execute(update(LoginSession).where(*theirs).values(revoked_at=clock.now()))
    signal_after_commit(session, auth.topic(principal_id))


async def step_up(session: AsyncSession, caller: Caller) -> None:
    """Note that the caller has just proved again who they are."""
    await session.execute(
        update(LoginSession).where(LoginSession.id == caller.session_id).values(stepped_up_at=clock.now())
    )
    signal_after_commit(session, auth.topic(caller.id))


async def purge(session: AsyncSession, now: datetime) -> None:
    """Drop families whose time is over, and successors that nobody may ask for again."""
    await session.execute(delete(LoginSession).where(LoginSession.expires_at < now - timedelta(days=1)))
    await session.execute(
        update(LoginSession)
        .where(LoginSession.successor_sealed.is_not(None), LoginSession.spent_at < now - GRACE)
        .values(successor_sealed=None)
    )


async def _refresh(session: AsyncSession, token: str, now: datetime) -> SessionRead | None:
    login = await _lock(session, token)
    if login is None or login.revoked_at is not None or login.expires_at <= now:
        return None
    caller = await auth.caller_of(session, login)
    if caller is None:
        return None
    if login.spent_at is None:
        return await _succeed(session, login, caller, now)
    if now - login.spent_at <= GRACE:
        return await _repeat(session, login, caller, now)
    await _end_family(session, login)
    payload: JsonObject = {"session_id": str(login.family_id)}
    events.record_access(session, caller, "session.refresh_reused", payload=payload)
    return None


async def _lock(session: AsyncSession, token: str) -> LoginSession | None:
    """The generation of a refresh token, read under the lock of its family.

    The family's first row is the lock: whoever ends the family waits for a successor in the making, and sees it.
    """
    mine = LoginSession.refresh_digest.in_(keyring.token_digests(token))
    family_id = await session.scalar(select(LoginSession.family_id).where(mine))
    if family_id is None:
        return None
    await _lock_family(session, family_id)
    login: LoginSession | None = await session.scalar(
        select(LoginSession).where(mine).execution_options(populate_existing=True)
    )
    return login


async def _lock_family(session: AsyncSession, family_id: UUID) -> None:
    await session.execute(select(LoginSession.id).where(LoginSession.id == family_id).with_for_update())


async def _succeed(session: AsyncSession, login: LoginSession, caller: Caller, now: datetime) -> SessionRead:
    successor = LoginSession(
        id=new_id(),
        family_id=login.family_id,
        principal_kind=login.principal_kind,
        principal_id=login.principal_id,
        expires_at=login.expires_at,
        stepped_up_at=login.stepped_up_at,
    )
    tokens = await _hand_out(session, successor, now)
    login.spend(now, GRACE)
    seal(login, "successor", json.dumps([tokens.access, tokens.refresh]))
    return _answer(tokens, successor, caller, now)


async def _repeat(
    session: AsyncSession, login: LoginSession, caller: Caller, now: datetime
) -> SessionRead | None:
    """What the first use of this refresh token was answered."""
    sealed = unseal(login, "successor")
    if sealed is None:
        return None
    tokens = _Tokens(*json.loads(sealed))
    digests = keyring.token_digests(tokens.refresh)
    successor = await session.scalar(select(LoginSession).where(LoginSession.refresh_digest.in_(digests)))
    return None if successor is None else _answer(tokens, successor, caller, now)


async def _end_family(session: AsyncSession, login: LoginSession) -> None:
    await _lock_family(session, login.family_id)
    await session.execute(
        update(LoginSession)
        .where(LoginSession.family_id == login.family_id, LoginSession.revoked_at.is_(None))
        .values(revoked_at=clock.now())
    )
    signal_after_commit(session, auth.topic(login.principal_id))


async def _hand_out(session: AsyncSession, login: LoginSession, now: datetime) -> _Tokens:
    tokens = _Tokens(new_token(ACCESS_PREFIX), new_token(REFRESH_PREFIX))
    login.access_digest = keyring.token_digest(tokens.access)
    login.refresh_digest = keyring.token_digest(tokens.refresh)
    login.access_expires_at = min(now + ACCESS_LIFE, login.expires_at)
    session.add(login)
    await session.flush()
    return tokens


def _answer(tokens: _Tokens, login: LoginSession, caller: Caller, now: datetime) -> SessionRead:
    return SessionRead(
        access_token=tokens.access,
        refresh_token=tokens.refresh,
        token_type="Bearer",
        expires_in=max(int((login.access_expires_at - now).total_seconds()), 0),
        principal=_principal(caller),
    )


def _principal(caller: Caller) -> ResidentPrincipal | StaffPrincipal:
    if caller.is_resident:
        return ResidentPrincipal(kind="resident", id=caller.id, community_id=caller.community_id)
    return StaffPrincipal(
        kind="staff",
        id=caller.id,
        must_change_password=Duty.CHANGE_PASSWORD in caller.owes,
        must_enrol_totp=Duty.ENROL_TOTP in caller.owes,
    )
