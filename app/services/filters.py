"""What a query may name: things that exist. An empty list would look like an answer."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import InvalidInput
from app.models.regions import Region
from app.services import hazard_categories


async def require_region(session: AsyncSession, region_id: UUID | None, name: str = "region_id") -> None:
    """422 at the parameter `name` unless it is absent or a region; everybody may see all of them."""
    known = region_id is None or await session.scalar(select(Region.id).where(Region.id == region_id))
    if not known:
        raise InvalidInput.of(("query", name), "unknown_region", "is not a region", "区域不存在")


async def require_category(session: AsyncSession, code: str | None, loc: Sequence[str]) -> None:
    """422 at `loc` unless it is absent or a category, be it no longer in use."""
    if code is not None:
        await hazard_categories.require(session, code, tuple(loc))
