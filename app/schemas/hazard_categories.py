"""Hazard categories on the wire."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from app.models.hazard_categories import Urgency
from app.models.hazards import HazardLevel
from app.schemas.base import Read, Strict


class Deadline(Strict):
    """How long one level has, in minutes of working time or of the clock; the warning comes before the end."""

    minutes: Annotated[int, Field(ge=5, le=43_200)]
    warn_minutes: Annotated[int, Field(ge=1, le=43_200)]
    clock: Literal["clock", "working"]

    @model_validator(mode="after")
    def _warns_in_time(self) -> "Deadline":
        if self.warn_minutes >= self.minutes:
            raise PydanticCustomError(
                "warns_too_late", "warn_minutes must be less than minutes", {"zh": "预警时间必须早于期限"}
            )
        return self


class HazardCategoryRead(Read):
    """One category: `nearby_radius_m` 0 switches the search for duplicates off."""

    code: str
    name: str
    name_en: str
    description: str
    description_en: str
    hint: str
    hint_en: str
    urgency: Urgency
    public: bool
    nearby_radius_m: int
    deadlines: dict[str, JsonValue]
    exemptions: list[str]
    keywords: list[str]
    event_class: dict[str, JsonValue] | None
    lead_organisation_code: str | None
    active: bool
    version: int


class HazardCategoryList(Read):
    """All categories."""

    items: list[HazardCategoryRead]
    next_cursor: None = None


class HazardCategoryUpdate(Strict):
    """What a district may change."""

    urgency: Annotated[Urgency, Field(strict=False)]
    public: bool
    nearby_radius_m: Annotated[int, Field(ge=0, le=2_000)]
    deadlines: dict[Annotated[HazardLevel, Field(strict=False)], Deadline]
    lead_organisation_code: Annotated[str, Field(max_length=40)] | None = None
    active: bool = True

    @model_validator(mode="after")
    def _every_level(self) -> "HazardCategoryUpdate":
        if set(self.deadlines) != set(HazardLevel):
            raise PydanticCustomError(
                "deadline_missing", "a deadline is needed for each level", {"zh": "每一级都必须设置期限"}
            )
        return self

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "urgency": "high",
                    "public": True,
                    "nearby_radius_m": 250,
                    "deadlines": {
                        "grid": {"minutes": 120, "warn_minutes": 30, "clock": "clock"},
                        "street": {"minutes": 240, "warn_minutes": 60, "clock": "clock"},
                        "department": {"minutes": 960, "warn_minutes": 240, "clock": "working"},
                    },
                    "active": True,
                }
            ]
        }
    }
