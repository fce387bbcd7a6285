"""What a webhook says: ids, states and times; the case as well for endpoints with a basis for it."""

from uuid import UUID

import orjson

from app.models.events import Event

_MAX_BYTES = 16 * 1024


def body_of(event: Event) -> bytes:
    """The thin payload of an event: the same bytes with every try, at most 16 KiB, nothing personal."""
    body = orjson.dumps(
        {
            "type": event.type,
            "timestamp": event.occurred_at,
            "data": {
                "event_id": str(event.id),
                "position": event.position,
                "subject": {"kind": event.subject_kind, "id": str(event.subject_id)},
                "seq": event.seq,
                "community_id": _text(event.community_id),
                "region_id": _text(event.region_id),
                "facts": event.payload,
            },
        },
        option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS,
    )
    if len(body) > _MAX_BYTES:
        raise ValueError(f"the payload of {event.type} is larger than 16 KiB")
    return body


def ping_body(endpoint_id: UUID) -> bytes:
    """A test message."""
    return orjson.dumps({"type": "ping", "data": {"endpoint_id": str(endpoint_id)}})


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)
