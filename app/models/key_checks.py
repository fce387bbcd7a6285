"""Which keys this database was written with, so that another key is noticed before it writes."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class KeyCheck(Base):
    """One key that has been the current one. `fingerprint` tells it from any other, and says nothing else of it."""

    __tablename__ = "key_checks"

    kid: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    created_at: Mapped[datetime]
