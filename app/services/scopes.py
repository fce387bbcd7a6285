"""Which rows lie in a scope: a region covers itself and everything below it, and nothing else."""

from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, false, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Scope
from app.models.regions import RegionAncestor


def within(
    column: SQLColumnExpression[UUID] | SQLColumnExpression[UUID | None], scope: Scope
) -> ColumnElement[bool]:
    """Whether the region in `column` lies in a scope."""
    if not scope.region_ids:
        return false()
    below = select(RegionAncestor.region_id).where(RegionAncestor.ancestor_id.in_(scope.region_ids))
    return column.in_(below)


async def covers(session: AsyncSession, scope: Scope, region_id: UUID) -> bool:
    """Whether one region lies in a scope."""
    found = await session.scalar(
        select(RegionAncestor.region_id)
        .where(RegionAncestor.region_id == region_id, RegionAncestor.ancestor_id.in_(scope.region_ids))
        .limit(1)
    )
    return found is not None
