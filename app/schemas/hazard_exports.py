"""Exports on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.models.hazard_exports import ExportFormat, ExportStatus
from app.models.hazards import HazardStatus
from app.schemas.base import Distinct, LongText, Moment, Read, Strict
from app.schemas.hazards import Id


class HazardExportCreate(Strict):
    """Which hazards, in which form, and why (kept sealed beside the audit entry)."""

    format: Annotated[ExportFormat, Field(strict=False)]
    reason: LongText
    statuses: Annotated[
        list[Annotated[HazardStatus, Field(strict=False)]], Field(max_length=9), Distinct()
    ] = Field(default_factory=list)
    category: Annotated[str, Field(max_length=40)] | None = None
    region_id: Id | None = None
    filed_from: Moment | None = None
    filed_until: Moment | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [{"format": "csv", "reason": "周例会材料", "statuses": ["filed", "accepted"]}]
        }
    }


class HazardExportRead(Read):
    """How far the file is. It can be downloaded while `status` is `done`, until `expires_at`."""

    id: UUID
    format: ExportFormat
    status: ExportStatus
    rows_total: int
    rows_done: int
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
