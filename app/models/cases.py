"""Cases that came from another service, and what of ours was handed to one in clear."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, Entity
from app.models.sessions import PrincipalKind


class CaseImport(Base):
    """One case that was imported: the digest of its document, and how many events of its history came with it."""

    __tablename__ = "case_imports"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"), primary_key=True)
    digest: Mapped[str]
    events: Mapped[int]
    imported_at: Mapped[datetime]


class CaseReveal(Entity):
    """One document with words and pictures: to whom, and on which basis. The basis is free text, so it is sealed."""

    __tablename__ = "case_reveals"

    hazard_id: Mapped[UUID] = mapped_column(ForeignKey("hazards.id"), index=True)
    caller_kind: Mapped[PrincipalKind]
    caller_id: Mapped[UUID]
    basis_sealed: Mapped[bytes]
