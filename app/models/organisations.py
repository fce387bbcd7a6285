"""Who may be dispatched to a hazard: departments and companies of the district."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Entity, Versioned


class Organisation(Entity, Versioned):
    """A department, public utility or company that covers `region_id` and everything below it."""

    __tablename__ = "organisations"

    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    name_en: Mapped[str]
    kind: Mapped[str]
    region_id: Mapped[UUID] = mapped_column(ForeignKey("regions.id"), index=True)
    active: Mapped[bool] = mapped_column(default=True)
    demo: Mapped[bool] = mapped_column(default=False)
