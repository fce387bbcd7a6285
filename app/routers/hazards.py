"""Hazards: what residents report and the grid, the street and departments settle."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from app.deps import CurrentCaller, ReadSession, Session
from app.models.hazards import HazardLevel, HazardStatus
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Coordinates, Datum, Latitude, Longitude, Moment, Page
from app.schemas.hazard_maps import FeatureCollection
from app.schemas.hazard_redactions import HazardRedact
from app.schemas.hazard_reviews import HazardReview
from app.schemas.hazard_statistics import HazardStatistics
from app.schemas.hazards import (
    HazardAssign,
    HazardCall,
    HazardCheckIn,
    HazardCommentCreate,
    HazardCommentRead,
    HazardCreate,
    HazardDispatch,
    HazardDispute,
    HazardMerge,
    HazardRate,
    HazardRead,
    HazardRefuse,
    HazardReject,
    HazardResolve,
    HazardSummary,
    Timeline,
)
from app.services import (
    hazard_assignments,
    hazard_comments,
    hazard_lists,
    hazard_maps,
    hazard_redactions,
    hazard_reviews,
    hazard_statistics,
    hazard_views,
    hazards,
)
from app.services.hazard_lists import Filter, Order, Whose
from app.services.hazard_statistics import GroupBy


class GeoJsonResponse(JSONResponse):
    """RFC 7946, section 12."""

    media_type = "application/geo+json"


router = APIRouter(prefix="/v1/hazards", tags=["hazards"], route_class=Operation)


@router.post("", status_code=201)
async def file_hazard(body: HazardCreate, caller: CurrentCaller, session: Session) -> HazardRead:
    """File a hazard with 1 to 9 pictures. The grid is found from the place; the grid's clock starts."""
    return await hazard_views.describe(session, caller, await hazards.file(session, caller, body))


@router.get("")
async def list_hazards(
    caller: CurrentCaller,
    session: ReadSession,
    scope: Annotated[
        Whose | None, Query(description="Default `mine` for residents, `handled` for staff.")
    ] = None,
    status: Annotated[list[HazardStatus] | None, Query(max_length=9, description="May be repeated.")] = None,
    category: Annotated[str | None, Query(max_length=40)] = None,
    level: HazardLevel | None = None,
    region_id: Annotated[UUID | None, Query(description="This region and everything below it.")] = None,
    handler_id: UUID | None = None,
    overdue: bool | None = None,
    due_before: Moment | None = None,
    bbox: Annotated[
        str | None, Query(max_length=100, description="`min_lng,min_lat,max_lng,max_lat` in GCJ-02.")
    ] = None,
    order: Order = "newest",
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[HazardSummary]:
    """Hazards by status, category, level, region or due time, newest or most urgent first."""
    box = hazard_lists.parse_bbox(bbox) if bbox is not None else None
    statuses = tuple(status or ())
    wanted = Filter(scope, statuses, category, level, region_id, handler_id, overdue, due_before, box, order)
    return await hazard_lists.page(session, caller, wanted, limit, cursor)


@router.get("/nearby")
async def list_nearby_hazards(
    caller: CurrentCaller,
    session: ReadSession,
    lng: Longitude,
    lat: Latitude,
    category: Annotated[str, Query(min_length=1, max_length=40)],
    radius_m: Annotated[
        int | None, Query(ge=1, le=hazard_lists.MAX_RADIUS_M, description="Default: the category's radius.")
    ] = None,
    datum: Datum = "gcj02",
) -> Page[HazardSummary]:
    """Open hazards of one category near a place, nearest first: ask before filing, then support instead."""
    point = Coordinates(lng=lng, lat=lat, datum=datum).gcj02()
    return await hazard_lists.nearby(session, caller, point, category, radius_m)


@router.get("/map.geojson", response_class=GeoJsonResponse)
async def read_hazard_map(
    session: ReadSession,
    bbox: Annotated[str, Query(max_length=100, description="`min_lng,min_lat,max_lng,max_lat` in WGS-84.")],
    include_closed: bool = False,
) -> FeatureCollection:
    """Public hazards as GeoJSON in WGS-84, newest first, without anything personal."""
    return await hazard_maps.features(session, hazard_lists.parse_bbox(bbox), include_closed)


@router.get("/statistics")
async def read_hazard_statistics(
    caller: CurrentCaller,
    session: ReadSession,
    group_by: GroupBy = "category",
    scope: Annotated[
        Literal["public", "handled"], Query(description="Residents may ask for `public` only.")
    ] = "public",
    filed_from: Moment | None = None,
    filed_until: Moment | None = None,
    region_id: UUID | None = None,
) -> HazardStatistics:
    """Counts, median times and satisfaction. The public view is a fixed table for each calendar month.

    It has one month in Asia/Shanghai (the current one by default) by category, street or community; `region_id` picks
    rows. Cells of fewer than 5 people are suppressed, with the next smallest when they could be found by subtraction.
    """
    return await hazard_statistics.compute(
        session, caller, group_by, filed_from, filed_until, region_id, scope == "public"
    )


@router.get("/{hazard_id}")
async def read_hazard(hazard_id: UUID, caller: CurrentCaller, session: ReadSession) -> HazardRead:
    """One hazard. The reporter and those who handle it see all of it, the public less."""
    return await hazard_views.read(session, caller, hazard_id)


@router.get("/{hazard_id}/timeline")
async def read_hazard_timeline(hazard_id: UUID, caller: CurrentCaller, session: ReadSession) -> Timeline:
    """Every step so far, oldest first. Internal notes are for staff only."""
    return await hazard_views.timeline(session, caller, hazard_id)


@router.post("/{hazard_id}/support")
async def support_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> HazardRead:
    """Me too. Each resident counts once; doing it again changes nothing. The reporter gets 409 `own_hazard`."""
    return await hazard_views.describe(session, caller, await hazards.support(session, caller, hazard_id))


@router.post("/{hazard_id}/accept")
async def accept_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> HazardRead:
    """Take a filed hazard. The first worker wins, and may ask again; others get 409 `hazard_already_taken`."""
    return await hazard_views.describe(session, caller, await hazards.accept(session, caller, hazard_id))


@router.post("/{hazard_id}/assign")
async def assign_hazard(
    hazard_id: UUID, body: HazardAssign, caller: CurrentCaller, session: Session
) -> HazardRead:
    """Give a hazard to a grid worker of the place."""
    hazard = await hazards.assign(session, caller, hazard_id, body.staff_id)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/call")
async def call_street(
    hazard_id: UUID, caller: CurrentCaller, session: Session, body: HazardCall | None = None
) -> HazardRead:
    """网格吹哨: whoever took it cannot settle it and calls the street, whose clock starts."""
    hazard = await hazards.call_street(session, caller, hazard_id, body.reason if body else None)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/dispatch")
async def dispatch_hazard(
    hazard_id: UUID, body: HazardDispatch, caller: CurrentCaller, session: Session
) -> HazardRead:
    """街道处置: send one lead and any number of joint departments. Binding after two refusals."""
    hazard = await hazard_assignments.dispatch(session, caller, hazard_id, body)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/refuse")
async def refuse_hazard(
    hazard_id: UUID, body: HazardRefuse, caller: CurrentCaller, session: Session
) -> HazardRead:
    """A department hands its part back, once, with a reason. After the second refusal the street decides."""
    hazard = await hazard_assignments.refuse(session, caller, hazard_id, body)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/check-in")
async def check_in_hazard(
    hazard_id: UUID, body: HazardCheckIn, caller: CurrentCaller, session: Session
) -> HazardRead:
    """部门报到: an officer of a dispatched department is on site."""
    hazard = await hazard_assignments.check_in(session, caller, hazard_id, body)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/resolve")
async def resolve_hazard(
    hazard_id: UUID, body: HazardResolve, caller: CurrentCaller, session: Session
) -> HazardRead:
    """Report the result, with an after-photo or an exemption. A joint department reports its own part."""
    return await hazard_views.describe(
        session, caller, await hazards.resolve(session, caller, hazard_id, body)
    )


@router.post("/{hazard_id}/confirm")
async def confirm_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> HazardRead:
    """The reporter agrees; the hazard is closed."""
    return await hazard_views.describe(session, caller, await hazards.confirm(session, caller, hazard_id))


@router.post("/{hazard_id}/dispute")
async def dispute_hazard(
    hazard_id: UUID, body: HazardDispute, caller: CurrentCaller, session: Session
) -> HazardRead:
    """The reporter disagrees, before `dispute_until`: back to the same handler, at most 3 times."""
    return await hazard_views.describe(
        session, caller, await hazards.dispute(session, caller, hazard_id, body)
    )


@router.post("/{hazard_id}/rate")
async def rate_hazard(
    hazard_id: UUID, body: HazardRate, caller: CurrentCaller, session: Session
) -> HazardRead:
    """The reporter rates the result, once."""
    return await hazard_views.describe(session, caller, await hazards.rate(session, caller, hazard_id, body))


@router.post("/{hazard_id}/merge")
async def merge_hazard(
    hazard_id: UUID, body: HazardMerge, caller: CurrentCaller, session: Session
) -> HazardRead:
    """This hazard is the same as another one: supporters and updates follow it there."""
    hazard = await hazards.merge(session, caller, hazard_id, body.into_id)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/reject")
async def reject_hazard(
    hazard_id: UUID, body: HazardReject, caller: CurrentCaller, session: Session
) -> HazardRead:
    """Not a hazard; the reporter is told why. What a colleague has taken is for them, a manager or the street."""
    return await hazard_views.describe(
        session, caller, await hazards.reject(session, caller, hazard_id, body)
    )


@router.post("/{hazard_id}/redactions")
async def redact_hazard(
    hazard_id: UUID, body: HazardRedact, caller: CurrentCaller, session: Session
) -> HazardRead:
    """Erase words or pictures for good, everywhere they are kept; optionally hide the hazard from the public."""
    hazard = await hazard_redactions.redact(session, caller, hazard_id, body)
    return await hazard_views.describe(session, caller, hazard)


@router.post("/{hazard_id}/reviews")
async def review_hazard(
    hazard_id: UUID, body: HazardReview, caller: CurrentCaller, session: Session
) -> HazardRead:
    """Publish words or a picture that the content check hid, or confirm that they stay hidden."""
    hazard = await hazard_reviews.review(session, caller, hazard_id, body)
    return await hazard_views.describe(session, caller, hazard)


@router.get("/{hazard_id}/comments")
async def list_hazard_comments(
    hazard_id: UUID,
    caller: CurrentCaller,
    session: ReadSession,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[HazardCommentRead]:
    """What was said, oldest first. Internal notes are for staff only."""
    return await hazard_comments.page(session, caller, hazard_id, limit, cursor)


@router.post("/{hazard_id}/comments", status_code=201)
async def add_hazard_comment(
    hazard_id: UUID, body: HazardCommentCreate, caller: CurrentCaller, session: Session
) -> HazardCommentRead:
    """Say something: residents in public, staff in public or among themselves (`internal`)."""
    return await hazard_comments.add(session, caller, hazard_id, body)
