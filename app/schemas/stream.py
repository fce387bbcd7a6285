"""Live updates on the wire."""

from uuid import UUID

from app.models.base import JsonObject
from app.schemas.base import Read, Time
from app.schemas.notifications import SubjectRead


class StreamEvent(Read):
    """One event; `seq` counts the events of its subject without gaps. Read the subject again for what it is now."""

    id: UUID
    type: str
    subject: SubjectRead
    seq: int
    occurred_at: Time
    community_id: UUID | None
    data: JsonObject
