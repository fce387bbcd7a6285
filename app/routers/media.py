"""Pictures: one file per upload, as `wx.uploadFile` sends it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, BinaryIO, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Header, Query, Request, Response, UploadFile

from app import idempotency
from app.deps import CurrentCaller, ReadSession
from app.errors import FieldError, InvalidInput
from app.models.media import MediaPurpose
from app.operation import Operation
from app.schemas.media import MediaRead, MediaUploaded
from app.services import media

router = APIRouter(prefix="/v1/media", tags=["media"], route_class=Operation)

_FILE_HEADERS = {
    "Cache-Control": "private, max-age=300",
    "Content-Disposition": "inline",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_PIECE_BYTES = 256 * 1024
_EXAMPLE: dict[str, object] = {"file": "(bytes)", "purpose": "hazard"}
_UPLOAD = {"requestBody": {"content": {"multipart/form-data": {"example": _EXAMPLE}}}}


@router.post("", status_code=201, openapi_extra=_UPLOAD)
async def upload_media(
    request: Request,
    caller: CurrentCaller,
    file: UploadFile,
    purpose: Annotated[MediaPurpose, Form()],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> MediaUploaded:
    """Upload one JPEG, PNG or WebP picture (up to 10 MiB and 40 megapixels) and refer to it by its id.

    It is re-encoded without any metadata. `location_hint` is what its GPS said: a suggestion, kept only as long as
    the same answer has to be given again, with an `Idempotency-Key`.
    """
    _require_one_of_each((await request.form()).multi_items())
    repeat = None
    if idempotency_key is not None:
        repeat = idempotency.Request(
            caller=caller,
            method="POST",
            path=request.url.path,
            key=idempotency.checked_key(idempotency_key),
            fingerprint=await asyncio.to_thread(_fingerprint, purpose, file.file),
        )
    return await media.upload(caller, file.file, purpose, repeat)


def _require_one_of_each(parts: Sequence[tuple[str, object]]) -> None:
    """What comes twice or under another name was meant for something: better to refuse it than to drop it."""
    given = Counter(name for name, _ in parts)
    errors = [
        FieldError(("body", name), "repeated_parameter", "may be given only once", "参数不可重复")
        if name in _EXAMPLE
        else FieldError(("body", name), "extra_forbidden", "is not a known field", "未知字段")
        for name, times in given.items()
        if times > 1 or name not in _EXAMPLE
    ]
    if errors:
        raise InvalidInput(fields=errors)


def _fingerprint(purpose: MediaPurpose, picture: BinaryIO) -> str:
    """Of everything that makes two uploads the same; a large picture lies on the disk and stays there."""
    digest = hashlib.sha256(f"{purpose}\n".encode())
    while piece := picture.read(_PIECE_BYTES):
        digest.update(piece)
    picture.seek(0)
    return digest.hexdigest()


@router.get("/{media_id}")
async def read_media(media_id: UUID, caller: CurrentCaller, session: ReadSession) -> MediaRead:
    """A picture of your own, with fresh links."""
    return await media.read(session, caller, media_id)


@router.get(
    "/{media_id}/{rendition}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}}
)
async def download_media(
    media_id: UUID,
    rendition: Literal["main", "thumbnail"],
    expires: Annotated[int, Query(ge=0, le=2**53)],
    signature: Annotated[str, Query(max_length=200)],
) -> Response:
    """The picture behind a signed link. The link is the permission; it ends after a few minutes."""
    data = await media.download(media_id, rendition, expires, signature)
    return Response(data, media_type=media.CONTENT_TYPE, headers=_FILE_HEADERS)
