"""Notifications and message quotas on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from app.schemas.base import Read, Strict, Time


class SubjectRead(Read):
    """What it is about: the plural noun of the path, and the id."""

    kind: str
    id: UUID


class NotificationRead(Read):
    """One event told to the caller; its words are the client's, by `type`."""

    id: UUID
    type: str
    subject: SubjectRead
    created_at: Time
    read_at: Time | None


class MessageQuotaAdd(Strict):
    """How often `wx.requestSubscribeMessage` just answered `accept` for this template."""

    template_id: Annotated[str, Field(min_length=1, max_length=100)]
    count: Annotated[int, Field(ge=1, le=10)] = 1

    model_config = {"json_schema_extra": {"examples": [{"template_id": "sandbox-progress", "count": 1}]}}


class MessageQuotaRead(Read):
    """How many messages of this template the resident will still take."""

    template_id: str
    remaining: int
