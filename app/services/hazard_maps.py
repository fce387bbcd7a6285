"""The public map: GeoJSON in WGS-84 (RFC 7946), without anything personal."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.geo import Box, Point, gcj02_from_wgs84, wgs84_from_gcj02
from app.models.hazards import OPEN_STATUSES, Hazard
from app.schemas.hazard_maps import Feature, FeatureCollection, FeatureProperties, PointGeometry
from app.services import hazard_access, hazard_categories
from app.services.hazard_lists import box_holds

MAX_FEATURES = 1_000


async def features(session: AsyncSession, box_wgs84: Box, include_closed: bool) -> FeatureCollection:
    """Public hazards in a WGS-84 box, newest first, at most 1,000; `truncated` says when there are more."""
    corners = [
        gcj02_from_wgs84(Point(box_wgs84.min_lng, box_wgs84.min_lat)),
        gcj02_from_wgs84(Point(box_wgs84.max_lng, box_wgs84.max_lat)),
    ]
    around = Box(corners[0].lng, corners[0].lat, corners[1].lng, corners[1].lat)
    query = select(Hazard).where(hazard_access.public(), box_holds(around))
    if not include_closed:
        query = query.where(Hazard.status.in_(OPEN_STATUSES))
    rows = list(await session.scalars(query.order_by(Hazard.id.desc()).limit(MAX_FEATURES + 1)))
    names = {row.code: row for row in await hazard_categories.every(session)}
    shown = [_feature(row, names) for row in rows[:MAX_FEATURES]]
    return FeatureCollection(features=shown, truncated=len(rows) > MAX_FEATURES)


def _feature(row: Hazard, names: dict[str, hazard_categories.Category]) -> Feature:
    point = wgs84_from_gcj02(Point(row.lng, row.lat))
    category = names.get(row.category)
    return Feature(
        id=row.id,
        geometry=PointGeometry(coordinates=(round(point.lng, 6), round(point.lat, 6))),
        properties=FeatureProperties(
            category=row.category,
            category_name=category.name if category else row.category,
            category_name_en=category.name_en if category else row.category,
            status=row.status,
            supporters=row.supporters,
            filed_at=row.created_at,
        ),
    )
