"""The tree of places: district, street, community, compound, grid, building."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.deps import CurrentCaller, IfMatch, ReadSession, Session
from app.etags import NOT_MODIFIED, IfNoneMatch, answer
from app.models.regions import RegionLevel
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Coordinates, Datum, Latitude, Longitude, Page
from app.schemas.regions import RegionLocation, RegionRead, RegionSummary, RegionUpdate
from app.services import regions

router = APIRouter(prefix="/v1/regions", tags=["regions"], route_class=Operation)


@router.get("", response_model=Page[RegionSummary], responses=NOT_MODIFIED)
async def list_regions(
    session: ReadSession,
    level: RegionLevel | None = None,
    parent_id: Annotated[UUID | None, Query(description="The region one level up.")] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Regions by level and parent, in the order of their codes."""
    return answer(await regions.page(session, level, parent_id, limit, cursor), if_none_match)


@router.get("/locate")
async def locate_region(
    session: ReadSession, lng: Longitude, lat: Latitude, datum: Datum = "gcj02"
) -> RegionLocation:
    """The community and grid of a point. Outside: 422 `outside_district` with the nearest community.

    A point on an edge that two regions share belongs to the one with the lower code.
    """
    return await regions.locate(session, Coordinates(lng=lng, lat=lat, datum=datum).gcj02())


@router.get("/{region_id}", response_model=RegionRead, responses=NOT_MODIFIED)
async def read_region(region_id: UUID, session: ReadSession, if_none_match: IfNoneMatch = None) -> Response:
    """One region with its outline, a GeoJSON geometry in GCJ-02."""
    return answer(await regions.read(session, region_id), if_none_match)


@router.put("/{region_id}")
async def update_region(
    region_id: UUID, body: RegionUpdate, caller: CurrentCaller, session: Session, if_match: IfMatch
) -> RegionRead:
    """Rename a region or move it, with everything below it, to another parent of the same level.

    Whoever is responsible for the old parent loses it at once, whoever is for the new one gains it.
    """
    return regions.describe(await regions.update_region(session, caller, region_id, body, if_match))
