"""Files of hazards made for staff by the worker."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity, JsonObject


class ExportFormat(StrEnum):
    """File formats."""

    CSV = "csv"
    XLSX = "xlsx"


class ExportStatus(StrEnum):
    """How far it is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class HazardExport(Entity):
    """One export: the filter it was asked with, how many rows are written, and where the file is until it expires."""

    __tablename__ = "hazard_exports"

    staff_id: Mapped[UUID] = mapped_column(ForeignKey("staff.id"), index=True)
    format: Mapped[ExportFormat]
    filters: Mapped[JsonObject]
    reason_sealed: Mapped[bytes]
    status: Mapped[ExportStatus] = mapped_column(default=ExportStatus.QUEUED)
    rows_total: Mapped[int] = mapped_column(default=0)
    rows_done: Mapped[int] = mapped_column(default=0)
    storage_key: Mapped[str | None]
    expires_at: Mapped[datetime | None]

    def start(self, rows_total: int) -> None:
        """The worker counted and begins; after a crash it begins again."""
        self.status, self.rows_total, self.rows_done = ExportStatus.RUNNING, rows_total, 0

    def finish(self, storage_key: str, expires_at: datetime) -> None:
        """The file is there."""
        self.status, self.storage_key, self.expires_at = ExportStatus.DONE, storage_key, expires_at

    def withdraw(self) -> None:
        """Something in it was erased: the file goes, and one that is being written begins again."""
        self.storage_key = None
        if self.status is ExportStatus.RUNNING:
            self.status = ExportStatus.QUEUED

    def fail(self) -> None:
        """Every attempt failed."""
        self.status = ExportStatus.FAILED
