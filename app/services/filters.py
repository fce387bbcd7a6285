"""What a query may name: things that exist. An empty list would look like an answer."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import Caller
from app.errors import InvalidInput
from app.models.hazards import Hazard
from app.models.regions import Region
from app.models.staff import Staff
from app.services import hazard_access, hazard_categories, staff_access


async def require_region(session: AsyncSession, region_id: UUID | None, name: str = "region_id") -> None:
    """422 at the parameter `name` unless it is absent or a region; everybody may see all of them."""
    known = region_id is None or await session.scalar(select(Region.id).where(Region.id == region_id))
    if not known:
        raise InvalidInput.of(("query", name), "unknown_region", "is not a region", "区域不存在")


async def require_category(session: AsyncSession, code: str | None, loc: Sequence[str]) -> None:
    """422 at `loc` unless it is absent or a category, be it no longer in use."""
    if code is not None:
        await hazard_categories.require(session, code, tuple(loc))


async def require_handler(
    session: AsyncSession, caller: Caller, staff_id: UUID | None, operation: str
) -> None:
    """422 unless it is absent, the caller, or staff who belong, work or handle a hazard where the caller works.

    Somebody elsewhere looks like nobody, so that ids of colleagues cannot be guessed.
    """
    if staff_id in (None, caller.id):
        return
    handles = exists().where(Hazard.handler_id == Staff.id, hazard_access.handled_by(caller, operation))
    known = or_(staff_access.visible_to(caller, operation), handles)
    if not await session.scalar(select(Staff.id).where(Staff.id == staff_id, known)):
        raise InvalidInput.of(
            ("query", "handler_id"),
            "unknown_staff",
            "is nobody of your regions",
            "不是您管辖范围内的工作人员",
        )
