"""What a webhook says: ids, states and times; the case as well for endpoints with a basis for it."""

from uuid import UUID

import orjson
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from app.keys import seal, unseal
from app.models.events import Event
from app.models.hazards import Hazard
from app.models.webhooks import PayloadKind, WebhookDelivery

_MAX_BYTES = 16 * 1024
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS


async def body_of(session: AsyncSession, event: Event, delivery_id: UUID, payload: PayloadKind) -> bytes:
    """The payload of a delivery: the same bytes with every try, at most 16 KiB, nobody's name or number in it.

    A case changes between tries, so what the first one said about it is kept, sealed, until the delivery is over.
    """
    if payload is PayloadKind.THIN or event.subject_kind != Hazard.__tablename__:
        return _thin(event)
    row = await session.get_one(WebhookDelivery, delivery_id)
    kept = unseal(row, "body")
    if kept is None:
        kept = _full(event, await session.get_one(Hazard, event.subject_id)).decode()
        seal(row, "body", kept)
    return kept.encode()


async def forget(session: AsyncSession, hazard_id: UUID) -> None:
    """Drop what was kept of a case for later tries; they will say what is left of it."""
    await session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.subject_id == hazard_id, WebhookDelivery.body_sealed.is_not(None))
        .values(body_sealed=None)
        .execution_options(synchronize_session=False)
    )


def ping_body(endpoint_id: UUID) -> bytes:
    """A test message."""
    return orjson.dumps({"type": "ping", "data": {"endpoint_id": str(endpoint_id)}})


def _thin(event: Event) -> bytes:
    return _packed(event, {})


def _full(event: Event, hazard: Hazard) -> bytes:
    """The description is cut when it would not fit: what cannot be sent would stand in the way of everything else."""
    text, cut = unseal(hazard, "description") or "", False
    while True:
        body = _packed(event, {"case": _case(hazard) | {"description": text, "description_cut": cut}})
        if len(body) <= _MAX_BYTES:
            return body
        text, cut = text[: len(text) * 3 // 4], True


def _case(hazard: Hazard) -> dict[str, object]:
    return {
        "id": str(hazard.id),
        "version": hazard.version,
        "status": hazard.status,
        "level": hazard.level,
        "category": hazard.category,
        "source": hazard.source,
        "community_id": str(hazard.community_id),
        "region_id": str(hazard.region_id),
        "location": {"lng": hazard.lng, "lat": hazard.lat, "datum": "gcj02"},
        "outcome": hazard.outcome,
        "filed_at": hazard.created_at,
        "due_at": hazard.due_at,
        "resolved_at": hazard.resolved_at,
        "closed_at": hazard.closed_at,
    }


def _packed(event: Event, more: dict[str, object]) -> bytes:
    data = {
        "event_id": str(event.id),
        "position": event.position,
        "subject": {"kind": event.subject_kind, "id": str(event.subject_id)},
        "seq": event.seq,
        "community_id": _text(event.community_id),
        "region_id": _text(event.region_id),
        "facts": event.payload,
        **more,
    }
    return orjson.dumps({"type": event.type, "timestamp": event.occurred_at, "data": data}, option=_OPTIONS)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
