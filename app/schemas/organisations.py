"""Organisations on the wire."""

from uuid import UUID

from app.schemas.base import Read


class OrganisationRead(Read):
    """Somebody who can be dispatched to a hazard in `region_id` and everything below it."""

    id: UUID
    code: str
    name: str
    name_en: str
    kind: str
    region_id: UUID
    demo: bool
    version: int
