"""Public lists that clients may keep: an `ETag` of the content, and 304 for those who have it."""

import hashlib
from typing import Annotated

from fastapi import Header, Response
from pydantic import BaseModel

IfNoneMatch = Annotated[
    str | None,
    Header(max_length=1000, description="The `ETag` of the copy you keep. 304 when it is current."),
]
NOT_MODIFIED: dict[int | str, dict[str, object]] = {304: {"description": "The copy you keep is current."}}


def answer(body: BaseModel, if_none_match: str | None) -> Response:
    """`body` as JSON with its tag, or an empty 304. A kept copy is asked about before each use."""
    return answer_content(body.model_dump_json().encode(), "application/json", if_none_match)


def answer_content(content: bytes, media_type: str, if_none_match: str | None) -> Response:
    """The same for a document of any kind."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "public, no-cache"}
    if tag in _tags(if_none_match or ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)


def _tags(header: str) -> list[str]:
    """Compared weakly, as RFC 9110 13.1.2 has it for reads."""
    return [tag.strip().removeprefix("W/") for tag in header.split(",")]
