"""Points, distances and areas on the ground: GCJ-02 inside, WGS-84 at the edge, no I/O."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import shapely
from shapely.geometry import MultiPolygon, Polygon, shape
from shapely.geometry import Point as ShapelyPoint
from shapely.ops import nearest_points

EARTH_RADIUS_M = 6371008.8

# Krasovsky 1940, the ellipsoid the GCJ-02 offset is defined on.
_KRASOVSKY_A = 6378245.0
_KRASOVSKY_E2 = 0.00669342162296594323

CELLS_PER_DEGREE = 400
_CELL_COLUMNS = 360 * CELLS_PER_DEGREE
_CELL_ROWS = 180 * CELLS_PER_DEGREE

# A tenth of a millimetre: what rounding may cost a point that lies exactly on the circle.
_BOX_MARGIN_DEGREES = 1e-9

_NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Point:
    """A place in degrees; the datum is GCJ-02 unless the name of a variable says otherwise."""

    lng: float
    lat: float


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle in degrees, edges included."""

    min_lng: float
    min_lat: float
    max_lng: float
    max_lat: float

    def holds(self, point: Point) -> bool:
        return self.min_lng <= point.lng <= self.max_lng and self.min_lat <= point.lat <= self.max_lat


class InvalidPolygon(ValueError):
    """A geometry that cannot be the outline of a region; the message says why."""


# The rectangle inside which maps apply the offset; Chinese maps use it rather than the border.
_OFFSET_AREA = Box(72.004, 0.8293, 137.8347, 55.8271)


def gcj02_from_wgs84(wgs84: Point) -> Point:
    """Shift a satellite position to the datum of Chinese maps; outside China it stays as it is."""
    if not _OFFSET_AREA.holds(wgs84):
        return wgs84
    return _shifted(wgs84)


def wgs84_from_gcj02(gcj02: Point) -> Point:
    """Undo the shift to well below 1 mm; outside China the point stays as it is."""
    if not _OFFSET_AREA.holds(gcj02):
        return gcj02
    guess = gcj02
    for _ in range(10):
        shifted = _shifted(guess)
        off_lng, off_lat = gcj02.lng - shifted.lng, gcj02.lat - shifted.lat
        guess = Point(guess.lng + off_lng, guess.lat + off_lat)
        if abs(off_lng) + abs(off_lat) < 1e-10:
            break
    return guess


def degrees(text: str) -> float:
    """A number as people write it; ValueError for what Python alone would read: 1_0, full-width digits, nan."""
    if _NUMBER.fullmatch(text.strip(" ")) is None:
        raise ValueError("not a number")
    return float(text)


def distance_m(a: Point, b: Point) -> float:
    """Metres along the great circle (haversine); both points must be of one datum."""
    lat_a, lat_b = math.radians(a.lat), math.radians(b.lat)
    half_lat, half_lng = (lat_b - lat_a) / 2, math.radians(b.lng - a.lng) / 2
    h = math.sin(half_lat) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin(half_lng) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(h)))


def box_around(centre: Point, radius_m: float) -> Box:
    """The smallest box that holds the circle; near a pole it spans all longitudes, it never wraps at 180°."""
    angle = radius_m / EARTH_RADIUS_M
    d_lat = math.degrees(angle) + _BOX_MARGIN_DEGREES
    reach, width = math.sin(angle), math.cos(math.radians(centre.lat))
    d_lng = 360.0 if reach >= width else math.degrees(math.asin(reach / width)) + _BOX_MARGIN_DEGREES
    return Box(
        max(centre.lng - d_lng, -180.0),
        max(centre.lat - d_lat, -90.0),
        min(centre.lng + d_lng, 180.0),
        min(centre.lat + d_lat, 90.0),
    )


def cell_of(lng: float, lat: float) -> int:
    """The key of the cell that holds a point: row × 144,000 + column, counted from (-180, -90).

    A cell is 1/400 degree each way, in Chengdu 239 m × 278 m. A key needs a 64-bit column.
    """
    row = min(math.floor((lat + 90) * CELLS_PER_DEGREE), _CELL_ROWS - 1)
    column = min(math.floor((lng + 180) * CELLS_PER_DEGREE), _CELL_COLUMNS - 1)
    return row * _CELL_COLUMNS + column


def cells_around(lng: float, lat: float, radius_m: float) -> list[int]:
    """Ascending keys of all cells that a circle may touch: at most 16 for 250 m, growing with its square.

    Every point within the radius is in one of them; the distance itself is left to `distance_m`.
    """
    box = box_around(Point(lng, lat), radius_m)
    first, last = cell_of(box.min_lng, box.min_lat), cell_of(box.max_lng, box.max_lat)
    rows = range(first // _CELL_COLUMNS, last // _CELL_COLUMNS + 1)
    columns = range(first % _CELL_COLUMNS, last % _CELL_COLUMNS + 1)
    return [row * _CELL_COLUMNS + column for row in rows for column in columns]


def parse_polygon(geometry: Mapping[str, object]) -> Polygon | MultiPolygon:
    """Read a GeoJSON Polygon or MultiPolygon in longitude, latitude; raises `InvalidPolygon`."""
    if geometry.get("type") not in ("Polygon", "MultiPolygon"):
        raise InvalidPolygon("a Polygon or MultiPolygon is expected")
    try:
        polygon = shape(dict(geometry))
        coordinates = shapely.get_coordinates(polygon)
    except (TypeError, ValueError, LookupError, AttributeError, shapely.errors.ShapelyError) as error:
        raise InvalidPolygon(f"the coordinates cannot be read: {error}") from error
    if not isinstance(polygon, Polygon | MultiPolygon) or polygon.is_empty:
        raise InvalidPolygon("the polygon is empty")
    if not all(-180 <= lng <= 180 and -90 <= lat <= 90 for lng, lat in coordinates):
        raise InvalidPolygon("a coordinate is not a longitude and latitude")
    if not polygon.is_valid:
        raise InvalidPolygon(shapely.is_valid_reason(polygon))
    return polygon


@dataclass(frozen=True, slots=True)
class RegionShape:
    """The outline of a community or of a grid; `community_id` of a community is its own id."""

    region_id: UUID
    code: str
    level: Literal["community", "grid"]
    community_id: UUID
    outline: Polygon | MultiPolygon


@dataclass(frozen=True, slots=True)
class Location:
    """Where a point lies; a community without grids has none to name."""

    community_id: UUID
    grid_id: UUID | None


@dataclass(frozen=True, slots=True)
class NearestCommunity:
    """The community whose edge is closest to a point outside all of them."""

    community_id: UUID
    distance_m: float


class _Tiles:
    """Which outlines may hold a point, by square tiles: a tree of outlines takes longer than to ask these few."""

    _PER_DEGREE = 200

    def __init__(self, regions: Sequence[RegionShape]) -> None:
        self._tiles: dict[tuple[int, int], list[RegionShape]] = defaultdict(list)
        for region in regions:
            west, south, east, north = region.outline.bounds
            for column in range(self._of(west), self._of(east) + 1):
                for row in range(self._of(south), self._of(north) + 1):
                    self._tiles[column, row].append(region)

    def around(self, lng: float, lat: float) -> Sequence[RegionShape]:
        """In the order that was given."""
        return self._tiles.get((self._of(lng), self._of(lat)), ())

    def _of(self, degrees: float) -> int:
        return math.floor(degrees * self._PER_DEGREE)


class RegionIndex:
    """Finds the community and grid of a point in memory, in microseconds.

    A point on a shared edge or corner belongs to the region with the lowest code: first the community is
    chosen, then the grid among those of that community. An outer edge belongs to the region it encloses.
    A grid that was given to another community without moving its outline takes its inside along.
    """

    def __init__(self, shapes: Iterable[RegionShape]) -> None:
        ordered = sorted(shapes, key=lambda region: region.code)
        self._communities = [region for region in ordered if region.level == "community"]
        self._grids = [region for region in ordered if region.level == "grid"]
        outlines = [region.outline for region in self._communities]
        self._communities_near = _Tiles(self._communities)
        self._grids_near = _Tiles(self._grids)
        # Degrees of longitude shrunk to the length of degrees of latitude, or "nearest" would lean east and west.
        latitudes = [outline.centroid.y for outline in outlines]
        self._shrink = math.cos(math.radians(sum(latitudes) / len(latitudes))) if latitudes else 1.0
        self._flat = [shapely.transform(outline, lambda xy: xy * (self._shrink, 1.0)) for outline in outlines]

    def locate(self, lng: float, lat: float) -> Location | None:
        """The community and grid of a point, or None outside all communities."""
        communities = self._communities_near.around(lng, lat)
        hit = next((each for each in communities if shapely.intersects_xy(each.outline, lng, lat)), None)
        if hit is None:
            return None
        touching = [
            grid
            for grid in self._grids_near.around(lng, lat)
            if shapely.intersects_xy(grid.outline, lng, lat)
        ]
        grid = next((grid for grid in touching if grid.community_id == hit.region_id), None)
        if grid is None:
            inside = (each for each in touching if shapely.contains_xy(each.outline, lng, lat))
            grid = next(inside, None)
        return Location(hit.region_id, None) if grid is None else Location(grid.community_id, grid.region_id)

    def nearest_community(self, lng: float, lat: float) -> NearestCommunity | None:
        """The closest community and the metres to its edge (0 inside); None when there is no community."""
        if not self._communities:
            return None
        point = ShapelyPoint(lng * self._shrink, lat)
        nearest = int(shapely.distance(self._flat, point).argmin())
        edge, _ = nearest_points(self._flat[nearest], point)
        metres = distance_m(Point(lng, lat), Point(edge.x / self._shrink, edge.y))
        return NearestCommunity(self._communities[nearest].region_id, metres)


def _shifted(wgs84: Point) -> Point:
    """The published GCJ-02 polynomial, without the question whether it applies here."""
    x, y = wgs84.lng - 105.0, wgs84.lat - 35.0
    wave = (20 * math.sin(6 * math.pi * x) + 20 * math.sin(2 * math.pi * x)) * 2 / 3
    north = -100 + 2 * x + 3 * y + 0.2 * y * y + 0.1 * x * y + 0.2 * math.sqrt(abs(x)) + wave
    north += (20 * math.sin(math.pi * y) + 40 * math.sin(math.pi * y / 3)) * 2 / 3
    north += (160 * math.sin(math.pi * y / 12) + 320 * math.sin(math.pi * y / 30)) * 2 / 3
    east = 300 + x + 2 * y + 0.1 * x * x + 0.1 * x * y + 0.1 * math.sqrt(abs(x)) + wave
    east += (20 * math.sin(math.pi * x) + 40 * math.sin(math.pi * x / 3)) * 2 / 3
    east += (150 * math.sin(math.pi * x / 12) + 300 * math.sin(math.pi * x / 30)) * 2 / 3
    lat = math.radians(wgs84.lat)
    bend = 1 - _KRASOVSKY_E2 * math.sin(lat) ** 2
    metres_per_radian_north = _KRASOVSKY_A * (1 - _KRASOVSKY_E2) / bend**1.5
    metres_per_radian_east = _KRASOVSKY_A / math.sqrt(bend) * math.cos(lat)
    return Point(
        wgs84.lng + math.degrees(east / metres_per_radian_east),
        wgs84.lat + math.degrees(north / metres_per_radian_north),
    )
