"""What kinds of hazards there are: urgency, deadlines per level, and the national class they map to."""

from enum import StrEnum

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, JsonObject, Versioned


class Urgency(StrEnum):
    """How fast somebody must move."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class HazardCategory(Base, Versioned):
    """One row of the maintained table. `deadlines` is `{level: {minutes, warn_minutes, clock}}`."""

    __tablename__ = "hazard_categories"

    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    name_en: Mapped[str]
    description: Mapped[str]
    description_en: Mapped[str]
    hint: Mapped[str]
    hint_en: Mapped[str]
    urgency: Mapped[Urgency]
    public: Mapped[bool]
    nearby_radius_m: Mapped[int]
    deadlines: Mapped[JsonObject]
    exemptions: Mapped[list[str]]
    keywords: Mapped[list[str]]
    event_class: Mapped[JsonObject | None]
    lead_organisation_code: Mapped[str | None]
    active: Mapped[bool] = mapped_column(default=True)
    sort: Mapped[int] = mapped_column(default=0)

    def revise(
        self,
        *,
        urgency: Urgency,
        public: bool,
        nearby_radius_m: int,
        deadlines: JsonObject,
        lead_organisation_code: str | None,
        active: bool,
    ) -> None:
        """Change what a district may decide; names and national classes are fixed."""
        self.urgency, self.public, self.nearby_radius_m = urgency, public, nearby_radius_m
        self.deadlines, self.lead_organisation_code, self.active = deadlines, lead_organisation_code, active
        self.version += 1
