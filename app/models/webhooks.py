"""Webhooks that we send: where to, signed with what, one delivery per event and endpoint, one attempt per try."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.errors import Conflict
from app.models.base import BIG, Entity, Subject, Versioned

EVENT_TYPES = (
    "hazard.accepted",
    "hazard.assigned",
    "hazard.called",
    "hazard.checked_in",
    "hazard.closed",
    "hazard.commented",
    "hazard.confirmed",
    "hazard.deadline_warned",
    "hazard.dispatched",
    "hazard.disputed",
    "hazard.district_status",
    "hazard.escalated",
    "hazard.filed",
    "hazard.handed_over",
    "hazard.merged",
    "hazard.noted",
    "hazard.part_done",
    "hazard.rated",
    "hazard.redacted",
    "hazard.refused",
    "hazard.rejected",
    "hazard.resolved",
    "hazard.returned",
    "hazard.review_flagged",
    "hazard.reviewed",
    "hazard.supported",
    "household.claimed",
    "household.confirmed",
    "household.ended",
    "household.rejected",
    "region.updated",
    "sync.conflict",
    "sync.not_applied",
    "sync.waiting",
    "webhook_endpoint.disabled",
    "webhook_endpoint.gave_up",
)
"""What is told to somebody and happens somewhere: events for audit alone are sent to no receiver."""


class EndpointStatus(StrEnum):
    """A disabled endpoint is sent nothing, and what happens meanwhile is not queued for it."""

    ACTIVE = "active"
    DISABLED = "disabled"


class DisabledReason(StrEnum):
    """Who or what switched it off."""

    BY_STAFF = "by_staff"
    GONE = "gone"
    FAILING = "failing"


class PayloadKind(StrEnum):
    """Thin: ids, states, times. Full: the case as well, on a legal basis of its own."""

    THIN = "thin"
    FULL = "full"


class WrongEndpointStatus(Conflict):
    """It is what it was asked to become."""

    code = "wrong_webhook_endpoint_status"
    title_en, title_zh = "The endpoint is in that state already", "该端点已处于此状态"


class WebhookEndpoint(Entity, Subject, Versioned):
    """One receiver.

    `failing_since` is the first failure after the last success, `disabled_at` when it was last disabled, `dead_told_at`
    the last notice of dead letters. A deleted one stays as a row that nobody is shown: events are about it.
    """

    __tablename__ = "webhook_endpoints"

    name: Mapped[str]
    url: Mapped[str]
    event_types: Mapped[list[str]]
    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"), index=True)
    payload: Mapped[PayloadKind] = mapped_column(default=PayloadKind.THIN)
    consent_basis: Mapped[str | None]
    status: Mapped[EndpointStatus] = mapped_column(default=EndpointStatus.ACTIVE)
    disabled_reason: Mapped[DisabledReason | None]
    disabled_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    dead_told_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    created_by: Mapped[UUID | None] = mapped_column(ForeignKey("staff.id"))

    @property
    def is_active(self) -> bool:
        """Whether it is sent anything."""
        return self.status is EndpointStatus.ACTIVE

    def hears_of(self, at: datetime) -> bool:
        """Whether what happened then is queued for it: not what happens while it is disabled.

        Asked when the event is placed, a little later: what happened before `disabled_at` is queued all the same, so that
        nothing lies between the last delivery and a replay that begins there.
        """
        return self.is_active or (self.disabled_at is not None and at < self.disabled_at)

    def disable(self, reason: DisabledReason, at: datetime) -> None:
        """Send nothing more until somebody enables it."""
        if not self.is_active:
            raise WrongEndpointStatus
        self.status, self.disabled_reason, self.disabled_at = EndpointStatus.DISABLED, reason, at
        self.version += 1

    def enable(self) -> None:
        """Send again, beginning with what waited when it was disabled. `disabled_at` stays: a replay may begin there."""
        if self.is_active:
            raise WrongEndpointStatus
        self.status, self.disabled_reason, self.failing_since = EndpointStatus.ACTIVE, None, None
        self.version += 1

    def delete(self, at: datetime) -> None:
        """Send nothing ever again. The URL goes, as it may hold a secret; who was told, and on which basis, stays on record."""
        if self.is_active:
            self.disable(DisabledReason.BY_STAFF, at)
        self.url, self.deleted_at = "", at
        self.version += 1

    def revise(
        self, *, name: str, url: str, event_types: list[str], payload: PayloadKind, consent_basis: str | None
    ) -> None:
        """Change where to and what about."""
        self.name, self.url, self.event_types = name, url, event_types
        self.payload, self.consent_basis = payload, consent_basis
        self.version += 1

    def note(self, succeeded: bool, at: datetime) -> None:
        """Remember since when it fails."""
        self.failing_since = None if succeeded else self.failing_since or at


class WebhookSecret(Entity):
    """One signing secret; two are in use while one is being replaced."""

    __tablename__ = "webhook_secrets"

    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id"), index=True)
    secret_sealed: Mapped[bytes]
    expires_at: Mapped[datetime | None]


class DeliveryStatus(StrEnum):
    """Queued until it is delivered, or dead when every attempt failed."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEAD = "dead"


class WebhookDelivery(Entity):
    """One event for one endpoint.

    `ready` says that no earlier event of the same subject still waits for this endpoint. A worker that takes it moves
    `next_at` to the end of its lease and writes its `lease_token`: another may take it when that time has come.
    """

    __tablename__ = "webhook_deliveries"

    endpoint_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_endpoints.id"))
    event_id: Mapped[UUID]
    type: Mapped[str]
    subject_id: Mapped[UUID]
    position: Mapped[int] = mapped_column(BIG)
    status: Mapped[DeliveryStatus] = mapped_column(default=DeliveryStatus.QUEUED)
    ready: Mapped[bool]
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime]
    lease_token: Mapped[UUID | None]
    finished_at: Mapped[datetime | None]
    body_sealed: Mapped[bytes | None]

    __table_args__ = (
        UniqueConstraint("endpoint_id", "event_id"),
        Index(
            "ix_webhook_deliveries_due",
            "endpoint_id",
            "next_at",
            sqlite_where=text("status = 'queued' AND ready"),
            postgresql_where=text("status = 'queued' AND ready"),
        ),
        Index(
            "ix_webhook_deliveries_order",
            "endpoint_id",
            "subject_id",
            "position",
            sqlite_where=text("status = 'queued'"),
            postgresql_where=text("status = 'queued'"),
        ),
        Index(None, "endpoint_id", "id"),
        Index(
            "ix_webhook_deliveries_over",
            "finished_at",
            sqlite_where=text("finished_at IS NOT NULL"),
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
    )


class WebhookAttempt(Entity):
    """One try: how long it took and what came back, cut and cleaned. There is one for each lease of a delivery."""

    __tablename__ = "webhook_attempts"

    delivery_id: Mapped[UUID] = mapped_column(ForeignKey("webhook_deliveries.id"))
    lease_token: Mapped[UUID]
    n: Mapped[int]
    duration_ms: Mapped[int]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    excerpt: Mapped[str | None]

    __table_args__ = (UniqueConstraint("delivery_id", "lease_token"),)
