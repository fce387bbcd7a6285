"""Receivers of our webhooks: created with a secret that is shown once, rotated, switched off and on, tested, deleted."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Select, and_, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, idempotency, pagination, sequencer, standard_webhooks
from app.auth import SYSTEM, Caller
from app.crypto import SealBroken
from app.db import database, signal_after_commit
from app.errors import InvalidInput, NotFound, VersionConflict
from app.events import Place
from app.ids import new_id
from app.keys import seal, unseal
from app.leases import describe
from app.models.base import JsonObject
from app.models.events import Audience
from app.models.webhooks import DisabledReason, EndpointStatus, WebhookEndpoint, WebhookSecret
from app.outside import outside
from app.schemas.base import Page
from app.schemas.webhooks import (
    WebhookEndpointCreate,
    WebhookEndpointCreated,
    WebhookEndpointRead,
    WebhookEndpointUpdate,
    WebhookPinged,
    WebhookSecretRotate,
)
from app.services import scopes
from app.services.webhook_payloads import ping_body

TOPIC = "webhooks"
_log = structlog.get_logger("worker")
_LIST = "list_webhook_endpoints"
_CHANGE = "update_webhook_endpoint"
_TOLERATED = timedelta(hours=120)
_BETWEEN_NOTICES = timedelta(hours=1)
_MOST_SECRETS = 5


async def create(
    session: AsyncSession, caller: Caller, body: WebhookEndpointCreate
) -> WebhookEndpointCreated:
    """A receiver for a region that the caller administers. The URL was checked before."""
    if not await scopes.covers(session, caller.scope("create_webhook_endpoint"), body.region_id):
        raise InvalidInput.of(
            ("body", "region_id"), "unknown_region", "is not one of your regions", "不是您管理的区域"
        )
    endpoint = WebhookEndpoint(
        id=new_id(),
        created_at=clock.now(),
        created_by=caller.id,
        event_seq=0,
        **body.model_dump(),
    )
    session.add(endpoint)
    await session.flush()
    secret = _add_secret(session, endpoint)
    _record(session, caller, endpoint, "webhook_endpoint.created")
    return _created(session, endpoint, secret)


async def update(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, body: WebhookEndpointUpdate, version: int | None
) -> WebhookEndpointRead:
    """Another receiver or other events."""
    endpoint = await lock(session, caller, endpoint_id)
    _require_version(endpoint, version)
    endpoint.revise(**body.model_dump())
    _record(session, caller, endpoint, "webhook_endpoint.updated")
    return WebhookEndpointRead.model_validate(endpoint)


async def rotate_secret(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, body: WebhookSecretRotate
) -> WebhookEndpointCreated:
    """A new secret; the old ones, four at most, sign beside it until the overlap is over."""
    endpoint = await lock(session, caller, endpoint_id)
    now = clock.now()
    ends_at = now + timedelta(hours=body.overlap_hours)
    for age, old in enumerate(await secrets(session, [endpoint.id]), start=1):
        old.expires_at = min(old.expires_at or ends_at, ends_at) if age < _MOST_SECRETS else now
    secret = _add_secret(session, endpoint)
    _record(session, caller, endpoint, "webhook_endpoint.secret_rotated")
    return _created(session, endpoint, secret)


async def enable(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> WebhookEndpointRead:
    """Send again; what waited when it was disabled goes first, what happened since is for a replay."""
    # Whoever is placing events has seen it disabled: when this is over, a replay has to find what they skipped.
    await sequencer.pause(session)
    endpoint = await lock(session, caller, endpoint_id)
    endpoint.enable()
    _record(session, caller, endpoint, "webhook_endpoint.enabled")
    signal_after_commit(session, TOPIC)
    return WebhookEndpointRead.model_validate(endpoint)


async def disable(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> WebhookEndpointRead:
    """Send nothing more. What waits is kept, what happens meanwhile is not queued."""
    endpoint = await lock(session, caller, endpoint_id)
    endpoint.disable(DisabledReason.BY_STAFF, clock.now())
    _record(session, caller, endpoint, "webhook_endpoint.disabled")
    signal_after_commit(session, TOPIC)
    return WebhookEndpointRead.model_validate(endpoint)


async def remove(session: AsyncSession, caller: Caller, endpoint_id: UUID, version: int | None) -> None:
    """Send nothing ever again. The secrets go now; deliveries are out of sight, and go with the next sweep."""
    endpoint = await lock(session, caller, endpoint_id)
    _require_version(endpoint, version)
    endpoint.delete(clock.now())
    await session.execute(delete(WebhookSecret).where(WebhookSecret.endpoint_id == endpoint.id))
    _record(session, caller, endpoint, "webhook_endpoint.deleted")
    signal_after_commit(session, TOPIC)


async def note(session: AsyncSession, endpoint_id: UUID, *, gone: bool, succeeded: bool, died: bool) -> None:
    """What tries say about the endpoint: 410 ends it at once, five days of nothing but failures end it too.

    `died`: a delivery had its last try. Its administrators are told, at most once an hour.
    """
    endpoint = await session.scalar(
        select(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id, WebhookEndpoint.deleted_at.is_(None))
        .with_for_update()
    )
    if endpoint is None:
        return
    now = clock.now()
    endpoint.note(succeeded, now)
    failed_for_long = endpoint.failing_since is not None and now - endpoint.failing_since >= _TOLERATED
    if died and (endpoint.dead_told_at is None or now - endpoint.dead_told_at >= _BETWEEN_NOTICES):
        endpoint.dead_told_at = now
        _tell(session, endpoint, "webhook_endpoint.gave_up", {})
    if endpoint.is_active and (gone or failed_for_long):
        reason = DisabledReason.GONE if gone else DisabledReason.FAILING
        endpoint.disable(reason, now)
        _tell(session, endpoint, "webhook_endpoint.disabled", {"reason": reason})


async def ping(caller: Caller, endpoint_id: UUID, repeat: idempotency.Request | None) -> WebhookPinged:
    """Send a signed test message now and tell what came back. Nothing is queued."""
    async with database.reading() as session:
        if repeat is not None:
            await idempotency.replay_if_done(session, repeat)
        endpoint = await find(session, caller, endpoint_id, "ping_webhook_endpoint")
        keys = await signing_keys(session, endpoint.id)
    body = ping_body(endpoint.id)
    headers = standard_webhooks.headers(f"msg_{new_id()}", clock.now(), body, keys)
    outcome = await outside.outbound.post(endpoint.url, headers, body)
    pinged = WebhookPinged(
        status_code=outcome.status,
        error=outcome.error,
        duration_ms=outcome.duration_ms,
        excerpt=outcome.excerpt,
    )
    async with database.transaction() as session:
        if repeat is not None:
            await idempotency.claim(session, repeat)
        _record(session, caller, await lock(session, caller, endpoint_id), "webhook_endpoint.pinged")
        await idempotency.keep(session, 200, pinged.model_dump_json().encode(), "application/json")
    return pinged


async def page(
    session: AsyncSession, caller: Caller, limit: int, cursor: str | None
) -> Page[WebhookEndpointRead]:
    """The endpoints of the caller's regions, newest first."""
    last = pagination.decode_id(_LIST, cursor)
    query = select(WebhookEndpoint).where(visible_to(caller, _LIST))
    if last is not None:
        query = query.where(WebhookEndpoint.id < last)
    rows = list(await session.scalars(query.order_by(WebhookEndpoint.id.desc()).limit(limit + 1)))
    more = pagination.encode(_LIST, str(rows[limit - 1].id)) if len(rows) > limit else None
    items = [WebhookEndpointRead.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=more)


async def disabled_among(session: AsyncSession, endpoint_ids: Collection[UUID]) -> set[UUID]:
    """Which of these are sent nothing by now."""
    disabled = select(WebhookEndpoint.id).where(
        WebhookEndpoint.id.in_(endpoint_ids), WebhookEndpoint.status == EndpointStatus.DISABLED
    )
    return set(await session.scalars(disabled))


async def find(session: AsyncSession, caller: Caller, endpoint_id: UUID, operation: str) -> WebhookEndpoint:
    """One endpoint of the caller's regions."""
    return _there(await session.scalar(_one(caller, endpoint_id, operation)))


async def lock(session: AsyncSession, caller: Caller, endpoint_id: UUID) -> WebhookEndpoint:
    """The same to change it."""
    locked = _one(caller, endpoint_id, _CHANGE).with_for_update(of=WebhookEndpoint)
    return _there(await session.scalar(locked))


def visible_to(caller: Caller, operation: str) -> ColumnElement[bool]:
    """Endpoints of the regions in which the caller may do this, as long as they are not deleted."""
    mine = scopes.within(WebhookEndpoint.region_id, caller.scope(operation))
    return and_(WebhookEndpoint.deleted_at.is_(None), mine)


async def secrets(session: AsyncSession, endpoint_ids: Sequence[UUID]) -> list[WebhookSecret]:
    """The secrets in force, the newest first."""
    rows = await session.scalars(
        select(WebhookSecret)
        .where(
            WebhookSecret.endpoint_id.in_(endpoint_ids),
            or_(WebhookSecret.expires_at.is_(None), WebhookSecret.expires_at > clock.now()),
        )
        .order_by(WebhookSecret.id.desc())
    )
    return list(rows)


async def signing_keys(session: AsyncSession, endpoint_id: UUID) -> list[bytes]:
    """The bytes of the secrets in force."""
    return [_key(row) for row in await secrets(session, [endpoint_id])]


async def all_signing_keys(session: AsyncSession, endpoint_ids: Sequence[UUID]) -> dict[UUID, list[bytes]]:
    """The same for many. An endpoint with a secret that cannot be read is left out: it stands in nobody's way."""
    keys: dict[UUID, list[bytes]] = {}
    broken = set()
    for row in await secrets(session, endpoint_ids):
        try:
            keys.setdefault(row.endpoint_id, []).append(_key(row))
        except SealBroken as failure:
            broken.add(row.endpoint_id)
            endpoint_id = str(row.endpoint_id)
            _log.error("worker_failed", part="webhooks", error=describe(failure), subject_id=endpoint_id)
    return {key: found for key, found in keys.items() if key not in broken}


def _one(caller: Caller, endpoint_id: UUID, operation: str) -> Select[WebhookEndpoint]:
    return select(WebhookEndpoint).where(WebhookEndpoint.id == endpoint_id, visible_to(caller, operation))


def _there(endpoint: WebhookEndpoint | None) -> WebhookEndpoint:
    if endpoint is None:
        raise NotFound
    return endpoint


def _require_version(endpoint: WebhookEndpoint, version: int | None) -> None:
    if version is not None and version != endpoint.version:
        raise VersionConflict


def _key(row: WebhookSecret) -> bytes:
    return standard_webhooks.key_of(unseal(row, "secret") or "")


def _add_secret(session: AsyncSession, endpoint: WebhookEndpoint) -> str:
    secret = standard_webhooks.new_secret()
    row = WebhookSecret(id=new_id(), created_at=clock.now(), endpoint_id=endpoint.id)
    seal(row, "secret", secret)
    session.add(row)
    return secret


def _created(session: AsyncSession, endpoint: WebhookEndpoint, secret: str) -> WebhookEndpointCreated:
    idempotency.mask_when_replayed(session, "secret")
    read = WebhookEndpointRead.model_validate(endpoint)
    return WebhookEndpointCreated(**read.model_dump(), secret=secret)


def _tell(session: AsyncSession, endpoint: WebhookEndpoint, type_: str, facts: JsonObject) -> None:
    """Something that its administrators have to hear of."""
    place = Place(None, endpoint.region_id)
    events.record(session, SYSTEM, endpoint, type_, audience=Audience.STAFF, place=place, payload=facts)


def _record(session: AsyncSession, caller: Caller, endpoint: WebhookEndpoint, type_: str) -> None:
    place = Place(None, endpoint.region_id)
    events.record(session, caller, endpoint, type_, audience=Audience.AUDIT, place=place)
