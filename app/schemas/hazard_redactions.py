"""Moderation on the wire."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.schemas.base import Distinct, Strict
from app.schemas.hazards import Id


class RedactionReason(StrEnum):
    """Why something is taken away."""

    PERSONAL_DATA = "personal_data"
    ABUSE = "abuse"
    ILLEGAL = "illegal"
    SUBJECT_REQUEST = "subject_request"


class HazardRedact(Strict):
    """What to erase. `hide` also takes the whole hazard off the public map."""

    description: bool = False
    address: bool = False
    rating_comment: bool = False
    comment_ids: Annotated[list[Id], Field(max_length=50), Distinct()] = Field(default_factory=list)
    media_ids: Annotated[list[Id], Field(max_length=50), Distinct()] = Field(default_factory=list)
    hide: bool = False
    reason: Annotated[RedactionReason, Field(strict=False)]

    model_config = {"json_schema_extra": {"examples": [{"description": True, "reason": "personal_data"}]}}
