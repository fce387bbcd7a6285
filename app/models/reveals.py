"""Who saw whose personal data in clear: one row per reveal, shown to the resident."""

from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity
from app.models.staff import Role


class Reveal(Entity):
    """One look of one member of staff at some fields of one resident, and the grant that allowed it.

    The reason may quote the person, so it is sealed, and erased with them; the row stays and keeps staff accountable.
    """

    __tablename__ = "reveals"

    staff_id: Mapped[UUID] = mapped_column(ForeignKey("staff.id"))
    resident_id: Mapped[UUID] = mapped_column(ForeignKey("residents.id"))
    hazard_id: Mapped[UUID | None] = mapped_column(ForeignKey("hazards.id"))
    role: Mapped[Role]
    region_id: Mapped[UUID | None] = mapped_column(ForeignKey("regions.id"))
    organisation_id: Mapped[UUID | None] = mapped_column(ForeignKey("organisations.id"))
    fields: Mapped[list[str]]
    reason_sealed: Mapped[bytes | None]

    __table_args__ = (Index(None, "staff_id", "created_at"), Index(None, "resident_id", "id"))
