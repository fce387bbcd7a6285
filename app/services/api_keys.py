"""API keys: made, rotated with an overlap, revoked at once, counted."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import api_key_format, auth, clock, events, idempotency, pagination
from app.auth import Caller
from app.db import signal_after_commit
from app.errors import InvalidInput, NotFound
from app.events import Place
from app.ids import new_id
from app.keys import keyring
from app.models.api_keys import ApiKey, ApiKeyUse, ApiScope
from app.models.events import Audience
from app.schemas.api_keys import ApiKeyCreate, ApiKeyCreated, ApiKeyDay, ApiKeyRead, ApiKeyRotate
from app.schemas.base import Page
from app.services import scopes

_LIST = "list_api_keys"
_SHOWN_DAYS = 31


async def create(session: AsyncSession, caller: Caller, body: ApiKeyCreate) -> ApiKeyCreated:
    """A key for a region that the caller administers. It is in this answer and nowhere else."""
    await _require_own_region(session, caller, body.region_id)
    if body.expires_at is not None and body.expires_at <= clock.now():
        raise InvalidInput.of(
            ("body", "expires_at"), "in_the_past", "must be in the future", "必须是未来时间"
        )
    return await _issue(
        session,
        caller,
        name=body.name,
        scopes=[scope.value for scope in body.scopes],
        region_id=body.region_id,
        addresses=body.addresses,
        rate_limit=body.rate_limit,
        expires_at=body.expires_at,
        replaces_id=None,
    )


async def rotate(session: AsyncSession, caller: Caller, key_id: UUID, body: ApiKeyRotate) -> ApiKeyCreated:
    """A successor with the same rights; the old key ends after the overlap."""
    old = await _lock(session, caller, key_id)
    expires_at = old.expires_at
    old.retire(clock.now() + timedelta(hours=body.overlap_hours))
    signal_after_commit(session, auth.topic(old.id))
    return await _issue(
        session,
        caller,
        name=old.name,
        scopes=old.scopes,
        region_id=old.region_id,
        addresses=old.addresses,
        rate_limit=old.rate_limit,
        expires_at=expires_at,
        replaces_id=old.id,
    )


async def revoke(session: AsyncSession, caller: Caller, key_id: UUID) -> ApiKeyRead:
    """It ends now, in every process."""
    key = await _lock(session, caller, key_id)
    key.revoke(clock.now())
    signal_after_commit(session, auth.topic(key.id))
    _record(session, caller, key, "api_key.revoked")
    return _read(key, [])


async def page(session: AsyncSession, caller: Caller, limit: int, cursor: str | None) -> Page[ApiKeyRead]:
    """The keys of the caller's regions, newest first."""
    last = pagination.decode_id(_LIST, cursor)
    query = select(ApiKey).where(scopes.within(ApiKey.region_id, caller.scope(_LIST)))
    if last is not None:
        query = query.where(ApiKey.id < last)
    rows = list(await session.scalars(query.order_by(ApiKey.id.desc()).limit(limit + 1)))
    uses = await _uses(session, [row.id for row in rows[:limit]])
    more = pagination.encode(_LIST, str(rows[limit - 1].id)) if len(rows) > limit else None
    return Page(items=[_read(row, uses[row.id]) for row in rows[:limit]], next_cursor=more)


async def read(session: AsyncSession, caller: Caller, key_id: UUID) -> ApiKeyRead:
    """One key with its use of the last days."""
    key = await session.scalar(
        select(ApiKey).where(
            ApiKey.id == key_id, scopes.within(ApiKey.region_id, caller.scope("read_api_key"))
        )
    )
    if key is None:
        raise NotFound
    return _read(key, (await _uses(session, [key.id]))[key.id])


async def _issue(
    session: AsyncSession,
    caller: Caller,
    **columns: object,
) -> ApiKeyCreated:
    made = api_key_format.new_key()
    key = ApiKey(
        id=new_id(),
        created_at=clock.now(),
        name_part=made.name_part,
        digest=keyring.token_digest(made.text),
        last4=made.text[-4:],
        created_by=caller.id,
        event_seq=0,
        **columns,
    )
    session.add(key)
    await session.flush()
    _record(session, caller, key, "api_key.created")
    idempotency.mask_when_replayed(session, "key")
    return ApiKeyCreated(**_read(key, []).model_dump(), key=made.text)


async def _lock(session: AsyncSession, caller: Caller, key_id: UUID) -> ApiKey:
    scope = caller.scope("revoke_api_key")
    key = await session.scalar(
        select(ApiKey)
        .where(ApiKey.id == key_id, scopes.within(ApiKey.region_id, scope))
        .with_for_update(of=ApiKey)
    )
    if key is None:
        raise NotFound
    return key


async def _require_own_region(session: AsyncSession, caller: Caller, region_id: UUID) -> None:
    if not await scopes.covers(session, caller.scope("create_api_key"), region_id):
        raise InvalidInput.of(
            ("body", "region_id"), "unknown_region", "is not one of your regions", "不是您管理的区域"
        )


async def _uses(session: AsyncSession, key_ids: Sequence[UUID]) -> dict[UUID, list[ApiKeyDay]]:
    since = clock.today() - timedelta(days=_SHOWN_DAYS)
    rows = await session.scalars(
        select(ApiKeyUse).where(ApiKeyUse.key_id.in_(key_ids), ApiKeyUse.day >= since).order_by(ApiKeyUse.day)
    )
    found: dict[UUID, list[ApiKeyDay]] = defaultdict(list)
    for row in rows:
        found[row.key_id].append(ApiKeyDay(day=row.day, requests=row.requests))
    return found


def _record(session: AsyncSession, caller: Caller, key: ApiKey, type_: str) -> None:
    place = Place(None, key.region_id)
    events.record(session, caller, key, type_, audience=Audience.AUDIT, place=place)


def _read(key: ApiKey, days: list[ApiKeyDay]) -> ApiKeyRead:
    return ApiKeyRead(
        id=key.id,
        name=key.name,
        prefix=api_key_format.visible(key.name_part),
        last4=key.last4,
        scopes=[ApiScope(scope) for scope in key.scopes],
        region_id=key.region_id,
        addresses=key.addresses,
        rate_limit=key.rate_limit,
        replaces_id=key.replaces_id,
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
        uses=days,
    )
