"""Pictures on the wire."""

from uuid import UUID

from app.models.base import JsonObject
from app.schemas.base import CoordinatesRead, Read

_LINK = "https://jincai.example.cn/v1/media/01938b5e-7c1a-7d2e-9f00-3a51f0c2b002"
MEDIA_EXAMPLE: JsonObject = {
    "id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b002",
    "content_type": "image/jpeg",
    "bytes": 57344,
    "width": 1024,
    "height": 768,
    "url": f"{_LINK}/main?expires=1795461900&signature=k1.b3d1b09e2c51885a689e8e2205cd9e4c",
    "thumbnail_url": f"{_LINK}/thumbnail?expires=1795461900&signature=k1.447bdc129217c3625961d7edd1e990b5",
}


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

    model_config = {
        "json_schema_extra": {
            "examples": [
                {**MEDIA_EXAMPLE, "location_hint": {"lng": 104.12716, "lat": 30.60655, "datum": "gcj02"}}
            ]
        }
    }
