"""Departments, utilities and companies that can be dispatched."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from app.deps import CurrentCaller, ReadSession
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.organisations import OrganisationRead
from app.services import organisations

router = APIRouter(prefix="/v1/organisations", tags=["regions"], route_class=Operation)


@router.get("")
async def list_organisations(
    _: CurrentCaller,
    session: ReadSession,
    region_id: Annotated[UUID | None, Query(description="Only those that serve this region.")] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[OrganisationRead]:
    """Whom a street can dispatch to a hazard."""
    return await organisations.page(session, region_id, limit, cursor)
