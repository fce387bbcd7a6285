"""What a person says after the content check, on the wire."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from app.schemas.base import LongText, Strict
from app.schemas.hazards import Id


class ReviewDecision(StrEnum):
    """Show it to the public after all, or confirm that it stays hidden."""

    PUBLISH = "publish"
    HIDE = "hide"


class HazardReview(Strict):
    """`part_id` is the `id` that `hazard.review_flagged` names: of the hazard itself, of a comment or of a picture."""

    part_id: Id
    decision: Annotated[ReviewDecision, Field(strict=False)]
    reason: Annotated[LongText, Field(description="Kept as an internal note beside the decision.")]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "part_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                    "decision": "publish",
                    "reason": "照片为燃气表，不涉及违规内容",
                }
            ]
        }
    }
