"""Hazards: what residents report and the grid, the street and departments settle."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse

from app import atom
from app.deps import CurrentCaller, ReadSession, Session
from app.etags import NOT_MODIFIED, IfNoneMatch, answer_content
from app.models.hazards import HazardLevel, HazardStatus
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.problems import language_of
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
    hazard_feeds,
    hazard_lists,
    hazard_maps,
    hazard_redactions,
    hazard_reviews,
    hazard_statistics,
    hazard_timelines,
    hazard_views,
    hazards,
)
from app.services.hazard_lists import Filter, Order, Whose
from app.services.hazard_statistics import GroupBy
from app.shortcut import Ready


class GeoJsonResponse(JSONResponse):
    """RFC 7946, section 12."""

    media_type = "application/geo+json"


_ATOM: dict[int | str, dict[str, object]] = {200: {"content": {atom.MEDIA_TYPE: {}}}}
router = APIRouter(prefix="/v1/hazards", tags=["hazards"], route_class=Operation)


@router.post("", status_code=201, response_model=HazardRead)
async def file_hazard(body: HazardCreate, caller: CurrentCaller, session: Session) -> Ready:
    """File a hazard with 1 to 9 pictures. The grid is found from the place; the grid's clock starts."""
    filed = await hazards.file(session, caller, body)
    return Ready(await hazard_views.describe_new(session, caller, filed.hazard, filed.pictures), 201)


@router.get("", response_model=Page[HazardSummary])
async def list_hazards(
    caller: CurrentCaller,
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
) -> Ready:
    """Hazards by status, category, level, region or due time, newest or most urgent first."""
    box = hazard_lists.parse_bbox(bbox) if bbox is not None else None
    statuses = tuple(status or ())
    wanted = Filter(scope, statuses, category, level, region_id, handler_id, overdue, due_before, box, order)
    return Ready(await hazard_lists.page(caller, wanted, limit, cursor))


@router.get("/nearby", response_model=Page[HazardSummary])
async def list_nearby_hazards(
    caller: CurrentCaller,
    lng: Longitude,
    lat: Latitude,
    category: Annotated[str, Query(min_length=1, max_length=40)],
    radius_m: Annotated[
        int | None, Query(ge=1, le=hazard_lists.MAX_RADIUS_M, description="Default: the category's radius.")
    ] = None,
    datum: Datum = "gcj02",
) -> Ready:
    """Open hazards of one category near a place, nearest first: ask before filing, then support instead."""
    point = Coordinates(lng=lng, lat=lat, datum=datum).gcj02()
    return Ready(await hazard_lists.nearby(caller, point, category, radius_m))


@router.get("/map.geojson", response_class=GeoJsonResponse)
async def read_hazard_map(
    session: ReadSession,
    bbox: Annotated[str, Query(max_length=100, description="`min_lng,min_lat,max_lng,max_lat` in WGS-84.")],
    include_closed: bool = False,
) -> FeatureCollection:
    """Public hazards as GeoJSON in WGS-84, newest first, without anything personal."""
    return await hazard_maps.features(session, hazard_lists.parse_bbox(bbox), include_closed)


@router.get("/feed.atom", response_class=Response, responses=_ATOM | NOT_MODIFIED)
async def read_hazard_feed(
    session: ReadSession,
    category: Annotated[str | None, Query(min_length=1, max_length=40)] = None,
    region_id: Annotated[UUID | None, Query(description="This region and everything below it.")] = None,
    bbox: Annotated[
        str | None, Query(max_length=100, description="`min_lng,min_lat,max_lng,max_lat` in WGS-84.")
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
    if_none_match: IfNoneMatch = None,
    accept_language: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Public hazards as an Atom feed, the newest reports first, with WGS-84 points and nothing personal."""
    box = hazard_lists.parse_bbox(bbox) if bbox is not None else None
    wanted = hazard_feeds.Wanted(category, region_id, bbox, box, limit, cursor)
    content = await hazard_feeds.render(session, wanted, language_of(accept_language))
    answer = answer_content(content, f"{atom.MEDIA_TYPE}; charset=utf-8", if_none_match)
    answer.headers["Vary"] = "Accept-Language"
    return answer


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


@router.get("/{hazard_id}", response_model=HazardRead)
async def read_hazard(hazard_id: UUID, caller: CurrentCaller) -> Ready:
    """One hazard. The reporter and those who handle it see all of it, the public less."""
    return Ready(await hazard_views.read(caller, hazard_id))


@router.get("/{hazard_id}/timeline")
async def read_hazard_timeline(hazard_id: UUID, caller: CurrentCaller, session: ReadSession) -> Timeline:
    """Every step so far, oldest first. Internal notes are for staff only."""
    return await hazard_timelines.timeline(session, caller, hazard_id)


@router.post("/{hazard_id}/support", response_model=HazardRead)
async def support_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> Ready:
    """Me too. Each resident counts once; doing it again changes nothing. The reporter gets 409 `own_hazard`."""
    hazard = await hazards.support(session, caller, hazard_id)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/accept", response_model=HazardRead)
async def accept_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> Ready:
    """Take a filed hazard. The first worker wins, and may ask again; others get 409 `hazard_already_taken`."""
    hazard = await hazards.accept(session, caller, hazard_id)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/assign", response_model=HazardRead)
async def assign_hazard(
    hazard_id: UUID, body: HazardAssign, caller: CurrentCaller, session: Session
) -> Ready:
    """Give a hazard to a grid worker of the place."""
    hazard = await hazards.assign(session, caller, hazard_id, body.staff_id)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/call", response_model=HazardRead)
async def call_street(
    hazard_id: UUID, caller: CurrentCaller, session: Session, body: HazardCall | None = None
) -> Ready:
    """网格吹哨: whoever took it cannot settle it and calls the street, whose clock starts."""
    hazard = await hazards.call_street(session, caller, hazard_id, body.reason if body else None)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/dispatch", response_model=HazardRead)
async def dispatch_hazard(
    hazard_id: UUID, body: HazardDispatch, caller: CurrentCaller, session: Session
) -> Ready:
    """街道处置: send one lead and any number of joint departments. Binding after two refusals."""
    hazard = await hazard_assignments.dispatch(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/refuse", response_model=HazardRead)
async def refuse_hazard(
    hazard_id: UUID, body: HazardRefuse, caller: CurrentCaller, session: Session
) -> Ready:
    """A department hands its part back, once, with a reason. After the second refusal the street decides."""
    hazard = await hazard_assignments.refuse(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/check-in", response_model=HazardRead)
async def check_in_hazard(
    hazard_id: UUID, body: HazardCheckIn, caller: CurrentCaller, session: Session
) -> Ready:
    """部门报到: an officer of a dispatched department is on site."""
    hazard = await hazard_assignments.check_in(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/resolve", response_model=HazardRead)
async def resolve_hazard(
    hazard_id: UUID, body: HazardResolve, caller: CurrentCaller, session: Session
) -> Ready:
    """Report the result, with an after-photo or an exemption. A joint department reports its own part."""
    hazard = await hazards.resolve(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/confirm", response_model=HazardRead)
async def confirm_hazard(hazard_id: UUID, caller: CurrentCaller, session: Session) -> Ready:
    """The reporter agrees; the hazard is closed."""
    hazard = await hazards.confirm(session, caller, hazard_id)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/dispute", response_model=HazardRead)
async def dispute_hazard(
    hazard_id: UUID, body: HazardDispute, caller: CurrentCaller, session: Session
) -> Ready:
    """The reporter disagrees, before `dispute_until`: back to the same handler, at most 3 times."""
    hazard = await hazards.dispute(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/rate", response_model=HazardRead)
async def rate_hazard(hazard_id: UUID, body: HazardRate, caller: CurrentCaller, session: Session) -> Ready:
    """The reporter rates the result, once."""
    hazard = await hazards.rate(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/merge", response_model=HazardRead)
async def merge_hazard(hazard_id: UUID, body: HazardMerge, caller: CurrentCaller, session: Session) -> Ready:
    """This hazard is the same as another one: supporters and updates follow it there."""
    hazard = await hazards.merge(session, caller, hazard_id, body.into_id)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/reject", response_model=HazardRead)
async def reject_hazard(
    hazard_id: UUID, body: HazardReject, caller: CurrentCaller, session: Session
) -> Ready:
    """Not a hazard; the reporter is told why. What a colleague has taken is for them, a manager or the street."""
    hazard = await hazards.reject(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/redactions", response_model=HazardRead)
async def redact_hazard(
    hazard_id: UUID, body: HazardRedact, caller: CurrentCaller, session: Session
) -> Ready:
    """Erase words or pictures for good, everywhere they are kept; optionally hide the hazard from the public."""
    hazard = await hazard_redactions.redact(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


@router.post("/{hazard_id}/reviews", response_model=HazardRead)
async def review_hazard(
    hazard_id: UUID, body: HazardReview, caller: CurrentCaller, session: Session
) -> Ready:
    """Publish words or a picture that the content check hid, or confirm that they stay hidden."""
    hazard = await hazard_reviews.review(session, caller, hazard_id, body)
    return Ready(await hazard_views.describe(session, caller, hazard))


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
