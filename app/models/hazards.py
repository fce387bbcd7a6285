"""A hazard and its chain: the grid calls, the street disposes, the department checks in."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict, Forbidden
from app.models.base import BIG, Entity, Subject, Versioned, enum_column
from app.models.hazard_results import (
    AlreadyRated,
    DisputeTooLate,
    HazardOutcome,
    PhotoExemption,
    RejectReason,
    TooManyDisputes,
    UnfixedReason,
    require_reason,
)


class HazardStatus(StrEnum):
    """Where the hazard is. `closed`, `rejected` and `merged` are final."""

    FILED = "filed"
    ACCEPTED = "accepted"
    CALLED = "called"
    DISPATCHED = "dispatched"
    CHECKED_IN = "checked_in"
    RESOLVED = "resolved"
    CLOSED = "closed"
    REJECTED = "rejected"
    MERGED = "merged"


class HazardLevel(StrEnum):
    """Who has to act, and whose clock runs."""

    GRID = "grid"
    STREET = "street"
    DEPARTMENT = "department"


class PublicState(StrEnum):
    """Whether the public may see it: not before the content check, never after moderation hid it.

    What the content check hid stays hidden until a person publishes it.
    """

    PENDING = "pending"
    VISIBLE = "visible"
    HIDDEN = "hidden"


class HazardSource(StrEnum):
    """How the report came in."""

    MINI_PROGRAM = "mini_program"
    STAFF = "staff"
    OPEN311 = "open311"
    DISTRICT = "district"


OPEN_STATUSES = (
    HazardStatus.FILED,
    HazardStatus.ACCEPTED,
    HazardStatus.CALLED,
    HazardStatus.DISPATCHED,
    HazardStatus.CHECKED_IN,
)
OPEN = text("status IN ('filed', 'accepted', 'called', 'dispatched', 'checked_in')")
"""The same in SQL, without parameters: planners recognise it in the condition of an index."""
FINAL_STATUSES = (HazardStatus.CLOSED, HazardStatus.REJECTED, HazardStatus.MERGED)
LEVEL_OF: dict[str, HazardLevel] = {
    HazardStatus.FILED: HazardLevel.GRID,
    HazardStatus.ACCEPTED: HazardLevel.GRID,
    HazardStatus.CALLED: HazardLevel.STREET,
    HazardStatus.DISPATCHED: HazardLevel.DEPARTMENT,
    HazardStatus.CHECKED_IN: HazardLevel.DEPARTMENT,
}
MAX_REFUSALS = 2


class WrongHazardStatus(Conflict):
    """This step does not follow from where the hazard is now."""

    code = "wrong_hazard_status"
    title_en, title_zh = "The hazard is not in a state that allows this step", "隐患当前状态不允许此操作"


class HazardAlreadyTaken(Conflict):
    """Another grid worker was first."""

    code = "hazard_already_taken"
    title_en, title_zh = "Another worker has already taken this hazard", "该隐患已被其他网格员受理"


class NotTheHandler(Forbidden):
    """Somebody else is handling this hazard."""

    code = "not_the_handler"
    title_en, title_zh = "Another member of staff is handling this hazard", "该隐患由其他工作人员处理"


class NotTheReporter(Forbidden):
    """Only the resident who filed it may say so."""

    code = "not_the_reporter"
    title_en, title_zh = "Only the reporter may do this", "仅上报人可执行此操作"


class HazardMerged(Conflict):
    """The hazard lives on in another one, named in `merged_into`."""

    code = "hazard_merged"
    title_en, title_zh = "This hazard was merged into another one", "该隐患已合并至其他隐患"


class CannotMerge(Conflict):
    """A hazard merges into another open hazard of the same community, never into itself."""

    code = "cannot_merge"
    title_en, title_zh = "These two hazards cannot be merged", "这两条隐患不能合并"


class NotFlagged(Conflict):
    """The content check did not hide this, somebody has published it, or it was erased."""

    code = "not_flagged"
    title_en, title_zh = "The content check is not what hides this", "该内容并非因内容安全检测而隐藏"


class Hazard(Entity, Subject, Versioned):
    """A danger that a resident photographed and somebody must settle."""

    __tablename__ = "hazards"

    community_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"))
    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"))
    category: Mapped[str] = mapped_column(ForeignKey("hazard_categories.code"))
    description_sealed: Mapped[bytes | None]
    address_sealed: Mapped[bytes | None]
    lng: Mapped[float]
    lat: Mapped[float]
    cell: Mapped[int] = mapped_column(BIG)
    source: Mapped[HazardSource] = mapped_column(default=HazardSource.MINI_PROGRAM)
    reporter_id: Mapped[UUID | None] = mapped_column(ForeignKey("residents.id"))
    anonymous: Mapped[bool]
    public_state: Mapped[PublicState] = mapped_column(default=PublicState.PENDING)
    supporters: Mapped[int] = mapped_column(default=0)

    status: Mapped[HazardStatus] = mapped_column(default=HazardStatus.FILED)
    handler_id: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))
    lead_organisation_id: Mapped[UUID | None] = mapped_column(ForeignKey("organisations.id"))
    refusals: Mapped[int] = mapped_column(default=0)
    hops: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    overdue_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    resolved_from: Mapped[HazardStatus | None] = mapped_column(enum_column(HazardStatus, "resolved_from"))
    outcome: Mapped[HazardOutcome | None]
    unfixed_reason: Mapped[UnfixedReason | None]
    exemption: Mapped[PhotoExemption | None]
    dispute_until: Mapped[datetime | None]
    disputes: Mapped[int] = mapped_column(default=0)
    closed_at: Mapped[datetime | None]
    reject_reason: Mapped[RejectReason | None]
    duplicate_of_id: Mapped[UUID | None] = mapped_column(ForeignKey("hazards.id"))
    rating: Mapped[int | None]
    rating_comment_sealed: Mapped[bytes | None]

    __table_args__ = (
        CheckConstraint("supporters >= 0", name="supporters"),
        CheckConstraint("rating BETWEEN 1 AND 5", name="rating"),
        CheckConstraint("(status IN ('resolved', 'closed')) = (outcome IS NOT NULL)", name="outcome"),
        CheckConstraint("(status = 'merged') = (duplicate_of_id IS NOT NULL)", name="duplicate_of"),
        CheckConstraint("(status = 'rejected') = (reject_reason IS NOT NULL)", name="reject_reason"),
        Index(None, "community_id", "id"),
        Index(None, "region_id", "id"),
        Index(None, "region_id", "status", "id"),
        Index(None, "reporter_id", "id"),
        Index(None, "handler_id", "status"),
        Index(None, "lead_organisation_id", "status"),
        Index(None, "duplicate_of_id"),
        Index(None, "due_at"),
        Index(
            "ix_hazards_open_cell",
            "category",
            "cell",
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        ),
        Index(
            "ix_hazards_awaiting_reporter",
            "dispute_until",
            sqlite_where=text("status = 'resolved'"),
            postgresql_where=text("status = 'resolved'"),
        ),
    )

    @property
    def level(self) -> HazardLevel | None:
        """Who has to act now; nobody once it is resolved or final."""
        return LEVEL_OF.get(self.status)

    @property
    def is_open(self) -> bool:
        """Somebody still has to act."""
        return self.status in OPEN_STATUSES

    @property
    def decision_forced(self) -> bool:
        """Two refusals: the street settles it itself, or dispatches it bindingly."""
        return self.refusals >= MAX_REFUSALS

    def accept(self, worker_id: UUID, at: datetime) -> None:
        """A grid worker takes it. The first one wins."""
        self._not_merged()
        if self.accepted_at is not None:
            raise HazardAlreadyTaken
        self._require(HazardStatus.FILED)
        self._move(HazardStatus.ACCEPTED)
        self.handler_id, self.accepted_at = worker_id, at

    def assign(self, worker_id: UUID, at: datetime) -> None:
        """A manager gives it to one grid worker."""
        self._require(HazardStatus.FILED, HazardStatus.ACCEPTED)
        self._move(HazardStatus.ACCEPTED)
        self.handler_id, self.accepted_at = worker_id, self.accepted_at or at

    def hand_over(self, worker_id: UUID) -> None:
        """Another worker takes over, whatever the hazard waits for."""
        self._not_merged()
        if self.status in FINAL_STATUSES:
            raise WrongHazardStatus(status_now=self.status)
        self.handler_id = worker_id
        self.version += 1

    def call(self, worker_id: UUID) -> None:
        """The grid calls the street (网格吹哨)."""
        self._require(HazardStatus.ACCEPTED)
        self.require_handler(worker_id)
        self._move(HazardStatus.CALLED)

    def dispatch(self, lead_organisation_id: UUID) -> None:
        """The street names a lead department (街道处置)."""
        self._require(HazardStatus.CALLED)
        self._move(HazardStatus.DISPATCHED)
        self.lead_organisation_id = lead_organisation_id
        self.hops += 1

    def refuse(self) -> None:
        """The lead department hands it back to the street."""
        self._require(HazardStatus.DISPATCHED)
        self._move(HazardStatus.CALLED)
        self.lead_organisation_id = None
        self.refusals += 1
        self.hops += 1

    def check_in(self) -> None:
        """The lead department is on site (部门报到)."""
        self._require(HazardStatus.DISPATCHED)
        self._move(HazardStatus.CHECKED_IN)

    def resolve(
        self,
        outcome: HazardOutcome,
        unfixed_reason: UnfixedReason | None,
        exemption: PhotoExemption | None,
        at: datetime,
        dispute_days: int,
    ) -> None:
        """Whoever has to act says it is settled; the reporter has `dispute_days` to disagree."""
        self.require_resolvable()
        require_reason(outcome, unfixed_reason)
        self.resolved_from = self.status
        self._move(HazardStatus.RESOLVED)
        self.outcome, self.unfixed_reason, self.exemption = outcome, unfixed_reason, exemption
        self.resolved_at, self.dispute_until = at, at + timedelta(days=dispute_days)

    def confirm(self, resident_id: UUID, at: datetime) -> None:
        """The reporter agrees."""
        self._require_reporter(resident_id)
        self._require(HazardStatus.RESOLVED)
        self._move(HazardStatus.CLOSED)
        self.closed_at = at

    def close_unanswered(self, at: datetime) -> None:
        """The reporter said nothing in time."""
        self._require(HazardStatus.RESOLVED)
        if self.dispute_until is None or at < self.dispute_until:
            raise WrongHazardStatus(status_now=self.status)
        self._move(HazardStatus.CLOSED)
        self.closed_at = at

    def dispute(self, resident_id: UUID, at: datetime, limit: int) -> None:
        """The reporter disagrees, at most `limit` times: it goes back to where it was resolved."""
        self._require_reporter(resident_id)
        if self.status is HazardStatus.CLOSED:
            raise DisputeTooLate
        self._require(HazardStatus.RESOLVED)
        if self.dispute_until is None or at >= self.dispute_until or self.resolved_from is None:
            raise DisputeTooLate
        if self.disputes >= limit:
            raise TooManyDisputes
        self._reopen(self.resolved_from)
        self.disputes += 1

    def give_back(self) -> None:
        """The district does not accept the result, whether the reporter has answered or not."""
        self._require(HazardStatus.RESOLVED, HazardStatus.CLOSED)
        self._reopen(self.resolved_from or HazardStatus.FILED)

    def close_by_district(self, outcome: HazardOutcome, at: datetime) -> None:
        """The district ends the case. An unfixed one ends without a typed reason: theirs is in the history."""
        self._require(*OPEN_STATUSES, HazardStatus.RESOLVED)
        if self.resolved_at is None:
            # A department that never came has nothing to come back to: the street would have to decide again.
            waiting = self.status is HazardStatus.DISPATCHED
            self.resolved_from, self.resolved_at = HazardStatus.CALLED if waiting else self.status, at
            self.dispute_until = at
        self._move(HazardStatus.CLOSED)
        self.outcome, self.closed_at = outcome, at
        if outcome is HazardOutcome.FIXED:
            self.unfixed_reason = None

    def rate(self, resident_id: UUID, score: int) -> None:
        """One score from 1 to 5 by the reporter, once there is a result."""
        self._require_reporter(resident_id)
        self._require(HazardStatus.RESOLVED, HazardStatus.CLOSED)
        if self.rating is not None:
            raise AlreadyRated
        self.rating = score
        self.version += 1

    def reject(self, reason: RejectReason, at: datetime, worker_id: UUID | None = None) -> None:
        """Not a hazard; final, and the reporter is told why. A grid worker (`worker_id`) leaves a colleague's alone."""
        self._require(HazardStatus.FILED, HazardStatus.ACCEPTED, HazardStatus.CALLED)
        if worker_id is not None and self.status is not HazardStatus.FILED:
            self.require_handler(worker_id)
        self._move(HazardStatus.REJECTED)
        self.reject_reason, self.closed_at = reason, at

    def merge_into(self, primary: "Hazard", at: datetime) -> None:
        """The same danger, reported before: this one ends, the other goes on."""
        self._not_merged()
        if primary.id == self.id or not primary.is_open or primary.community_id != self.community_id:
            raise CannotMerge
        self._require(*OPEN_STATUSES)
        self._move(HazardStatus.MERGED)
        self.duplicate_of_id, self.closed_at = primary.id, at

    def start_clock(self, due_at: datetime | None) -> None:
        """A new level, a new due time; None when nobody has to act."""
        self.due_at, self.overdue_at = due_at, None

    def mark_overdue(self, at: datetime) -> None:
        """The clock of this level ran out; the escalation is recorded once."""
        self.overdue_at = at

    def support(self, count: int) -> None:
        """More residents saw it too."""
        self.supporters += count

    def hide(self) -> None:
        """Moderation took it off the map."""
        self.public_state = PublicState.HIDDEN
        self.version += 1

    def require_flagged(self) -> None:
        """Hidden; that it was not moderation, the events know."""
        if self.public_state is not PublicState.HIDDEN:
            raise NotFlagged

    def publish(self) -> None:
        """A person found nothing wrong with it."""
        self.public_state = PublicState.VISIBLE
        self.version += 1

    def forget_reporter(self) -> None:
        """The reporter left the service: nothing points to a person any more."""
        self.reporter_id, self.anonymous = None, True
        self.version += 1

    def require_open(self) -> None:
        """Somebody still has to act."""
        self._require(*OPEN_STATUSES)

    def require_resolvable(self) -> None:
        """Somebody has taken it and, when it is a department, is on site."""
        self._require(HazardStatus.ACCEPTED, HazardStatus.CALLED, HazardStatus.CHECKED_IN)

    def require_handler(self, worker_id: UUID) -> None:
        """Only whoever took it."""
        if self.handler_id != worker_id:
            raise NotTheHandler

    def require_open_for_comments(self) -> None:
        """Updates to a merged hazard belong to the other one."""
        self._not_merged()

    def _reopen(self, to: HazardStatus) -> None:
        self._move(to)
        if self.level is not HazardLevel.DEPARTMENT:
            self.lead_organisation_id = None
        self.outcome = self.unfixed_reason = self.exemption = None
        self.resolved_at = self.resolved_from = self.dispute_until = self.closed_at = None
        # A rating is of a result; the next result may be rated again.
        self.rating = self.rating_comment_sealed = None

    def _move(self, to: HazardStatus) -> None:
        self.status = to
        self.version += 1

    def _require(self, *allowed: HazardStatus) -> None:
        self._not_merged()
        if self.status not in allowed:
            raise WrongHazardStatus(status_now=self.status)

    def _require_reporter(self, resident_id: UUID) -> None:
        if self.reporter_id != resident_id:
            raise NotTheReporter

    def _not_merged(self) -> None:
        if self.duplicate_of_id is not None:
            raise HazardMerged(merged_into=str(self.duplicate_of_id))
