"""Which departments a street dispatched to a hazard, and what each of them did."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict
from app.models.base import Entity


class AssignmentRole(StrEnum):
    """One department leads, any number work jointly."""

    LEAD = "lead"
    JOINT = "joint"


class AssignmentStatus(StrEnum):
    """What the department did; `released` when the case moved on without it."""

    ASSIGNED = "assigned"
    CHECKED_IN = "checked_in"
    DONE = "done"
    REFUSED = "refused"
    RELEASED = "released"


class WrongAssignmentStatus(Conflict):
    """The department has already done, refused or lost this part."""

    code = "wrong_assignment_status"
    title_en, title_zh = "Your department's part does not allow this step", "本部门当前状态不允许此操作"


class RefusalNotAllowed(Conflict):
    """A department refuses once, and never after the street had to decide."""

    code = "refusal_not_allowed"
    title_en, title_zh = "This dispatch can no longer be refused", "该派单不可再退回"


class HazardAssignment(Entity):
    """One department's part in one dispatch; `hop` is the number of the dispatch."""

    __tablename__ = "hazard_assignments"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"))
    organisation_id: Mapped[UUID] = mapped_column(ForeignKey("organisations.id"))
    hop: Mapped[int]
    role: Mapped[AssignmentRole]
    binding: Mapped[bool] = mapped_column(default=False)
    status: Mapped[AssignmentStatus] = mapped_column(default=AssignmentStatus.ASSIGNED)
    officer_id: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))
    checked_in_at: Mapped[datetime | None]
    checked_in_lng: Mapped[float | None]
    checked_in_lat: Mapped[float | None]
    distance_m: Mapped[int | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("hazard_id", "hop", "organisation_id"),
        Index(
            "uq_hazard_assignments_lead",
            "hazard_id",
            unique=True,
            sqlite_where=text("role = 'lead' AND status IN ('assigned', 'checked_in')"),
            postgresql_where=text("role = 'lead' AND status IN ('assigned', 'checked_in')"),
        ),
        Index(None, "organisation_id", "status", "hazard_id"),
    )

    @property
    def is_active(self) -> bool:
        """The department still has something to do."""
        return self.status in (AssignmentStatus.ASSIGNED, AssignmentStatus.CHECKED_IN)

    def check_in(self, officer_id: UUID, at: datetime, lng: float, lat: float, distance_m: int) -> None:
        """An officer stands where the hazard is: who, when, where (GCJ-02) and how many metres away."""
        self._require(AssignmentStatus.ASSIGNED)
        self.status, self.officer_id, self.checked_in_at = AssignmentStatus.CHECKED_IN, officer_id, at
        self.checked_in_lng, self.checked_in_lat, self.distance_m = lng, lat, distance_m

    def refuse(self, officer_id: UUID, refused_before: bool, at: datetime) -> None:
        """Not ours. Once per department and hazard, and not when the dispatch is binding."""
        self._require(AssignmentStatus.ASSIGNED)
        if self.binding or refused_before:
            raise RefusalNotAllowed
        self.status, self.officer_id, self.finished_at = AssignmentStatus.REFUSED, officer_id, at

    def finish(self, officer_id: UUID, at: datetime) -> None:
        """This department's part is done."""
        self._require(AssignmentStatus.CHECKED_IN)
        self.status, self.officer_id, self.finished_at = AssignmentStatus.DONE, officer_id, at

    def release(self, at: datetime) -> None:
        """The case moved on; nothing is left to do here."""
        self.status, self.finished_at = AssignmentStatus.RELEASED, at

    def reopen(self) -> None:
        """The reporter disputed: back to the department that was on site."""
        self.status, self.finished_at = AssignmentStatus.CHECKED_IN, None

    def _require(self, wanted: AssignmentStatus) -> None:
        if self.status is not wanted:
            raise WrongAssignmentStatus(status_now=self.status)
