"""Pictures on the wire."""

from uuid import UUID

from app.schemas.base import CoordinatesRead, Read


class MediaRead(Read):
    """A stored picture. The URLs are signed and expire; ask again for fresh ones."""

    id: UUID
    content_type: str
    bytes: int
    width: int
    height: int
    url: str
    thumbnail_url: str


class MediaUploaded(MediaRead):
    """The answer to an upload; `location_hint` is what the photo's GPS said, for the uploader only."""

    location_hint: CoordinatesRead | None
