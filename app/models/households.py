"""A resident's claim to live somewhere, confirmed by staff."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict
from app.models.base import Entity, Subject, Versioned


class HouseholdStatus(StrEnum):
    """A claim is open until staff decide; a confirmed one can be ended."""

    CLAIMED = "claimed"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    ENDED = "ended"


class HouseholdRelation(StrEnum):
    """How the resident belongs to the home."""

    OWNER = "owner"
    TENANT = "tenant"
    FAMILY = "family"


OPEN_STATUSES = (HouseholdStatus.CLAIMED, HouseholdStatus.CONFIRMED)


class HouseholdAlreadyDecided(Conflict):
    """Somebody decided this claim before."""

    code = "household_already_decided"
    title_en, title_zh = "This claim has been decided already", "该住户认领已处理"


class HouseholdAlreadyEnded(Conflict):
    """The claim was rejected or ended before."""

    code = "household_already_ended"
    title_en, title_zh = "This household has ended already", "该住户关系已结束"


class Household(Entity, Subject, Versioned):
    """One resident and one home. The exact address is sealed; the building is not."""

    __tablename__ = "households"

    resident_id: Mapped[UUID] = mapped_column(ForeignKey("residents.id"))
    community_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"), index=True)
    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"))
    address_sealed: Mapped[bytes | None]
    address_index: Mapped[str | None]
    relation: Mapped[HouseholdRelation]
    status: Mapped[HouseholdStatus] = mapped_column(default=HouseholdStatus.CLAIMED)
    decided_by: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))
    decided_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_households_open",
            "resident_id",
            "address_index",
            unique=True,
            sqlite_where=text("status IN ('claimed', 'confirmed')"),
            postgresql_where=text("status IN ('claimed', 'confirmed')"),
        ),
        Index(None, "resident_id", "id"),
        Index(None, "region_id", "status", "id"),
    )

    def decide(self, confirmed: bool, by: UUID, at: datetime) -> None:
        """Confirm or reject an open claim, once."""
        if self.status is not HouseholdStatus.CLAIMED:
            raise HouseholdAlreadyDecided
        self.status = HouseholdStatus.CONFIRMED if confirmed else HouseholdStatus.REJECTED
        self.decided_by, self.decided_at = by, at
        self.version += 1

    def end(self, at: datetime) -> None:
        """The resident moved out, withdrew the claim, or left the service."""
        if self.status not in OPEN_STATUSES:
            raise HouseholdAlreadyEnded
        self.status, self.ended_at = HouseholdStatus.ENDED, at
        self.forget_address()

    def forget_address(self) -> None:
        """Nobody needs to know any more where it was."""
        self.address_sealed = self.address_index = None
        self.version += 1
