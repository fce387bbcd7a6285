"""Whom a street can dispatch."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app import pagination
from app.models.organisations import Organisation
from app.models.regions import RegionAncestor
from app.schemas.base import Page
from app.schemas.organisations import OrganisationRead
from app.services import filters

_LIST = "list_organisations"


async def page(
    session: AsyncSession, region_id: UUID | None, limit: int, cursor: str | None
) -> Page[OrganisationRead]:
    """Organisations in use, in the order of their codes; of `region_id` those that serve it."""
    await filters.require_region(session, region_id)
    query = select(Organisation).where(Organisation.active).order_by(Organisation.code)
    if region_id is not None:
        above = select(RegionAncestor.ancestor_id).where(RegionAncestor.region_id == region_id)
        query = query.where(Organisation.region_id.in_(above))
    if cursor is not None:
        query = query.where(Organisation.code > str(pagination.decode(_LIST, cursor)[0]))
    rows = list(await session.scalars(query.limit(limit + 1)))
    behind = pagination.encode(_LIST, rows[limit - 1].code) if len(rows) > limit else None
    return Page(items=[OrganisationRead.model_validate(row) for row in rows[:limit]], next_cursor=behind)
