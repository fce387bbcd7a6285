"""From a point to its community and grid: inside, on an edge, outside."""

from itertools import pairwise

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from app.geo import Location, Point, RegionIndex, RegionShape, distance_m, parse_polygon
from app.models.regions import RegionLevel
from app.reference import RegionRow, load_regions
from tests.geo.demo_index import MAPLE, demo_index, id_of, regions_of


def _square(code: str, level: str, west: float, east: float, community: str) -> RegionShape:
    outline = shapely.box(west, 30.0, east, 30.01)
    return RegionShape(
        id_of(code), code, "grid" if level == "grid" else "community", id_of(community), outline
    )


def test_the_centre_of_every_grid_lies_in_that_grid_of_maple_community() -> None:
    for grid in regions_of(RegionLevel.GRID):
        assert demo_index().locate(*grid.centre) == Location(id_of(MAPLE), id_of(grid.code))


def test_the_centre_of_every_building_lies_in_its_grid() -> None:
    for building in regions_of(RegionLevel.BUILDING):
        assert demo_index().locate(*building.centre) == Location(
            id_of(MAPLE), id_of(building.parent_code or "")
        )


def test_a_community_without_grids_has_none_to_name() -> None:
    for community in regions_of(RegionLevel.COMMUNITY):
        if community.code != MAPLE:
            assert demo_index().locate(*community.centre) == Location(id_of(community.code), None)


def test_a_shared_edge_belongs_to_the_lowest_code_whatever_the_order() -> None:
    west = _square("02", "community", 104.00, 104.01, "02")
    east = _square("01", "community", 104.01, 104.02, "01")
    for shapes in ([west, east], [east, west]):
        found = RegionIndex(shapes).locate(104.01, 30.005)
        assert found == Location(id_of("01"), None)


def test_the_grid_of_an_edge_is_one_of_the_chosen_community() -> None:
    """The lower grid code lies in the other community, and must not be paired with this one."""
    shapes = [
        _square("01", "community", 104.00, 104.01, "01"),
        _square("02", "community", 104.01, 104.02, "02"),
        _square("019", "grid", 104.00, 104.01, "01"),
        _square("011", "grid", 104.01, 104.02, "02"),
    ]
    assert RegionIndex(shapes).locate(104.01, 30.005) == Location(id_of("01"), id_of("019"))


def test_every_corner_of_the_demo_has_one_owner_the_lowest_code_around_it() -> None:
    polygons = {row.code: parse_polygon(row.polygon or {}) for row in regions_of(RegionLevel.COMMUNITY)}
    grids = {row.code: parse_polygon(row.polygon or {}) for row in regions_of(RegionLevel.GRID)}
    corners = {
        tuple(xy)
        for polygon in [*polygons.values(), *grids.values()]
        for xy in shapely.get_coordinates(polygon)
    }
    assert len(corners) > 400
    for lng, lat in corners:
        here = shapely.Point(lng, lat)
        community = min(code for code, polygon in polygons.items() if polygon.intersects(here))
        owners = [code for code, polygon in grids.items() if community == MAPLE and polygon.intersects(here)]
        expected = Location(id_of(community), id_of(min(owners)) if owners else None)
        assert demo_index().locate(lng, lat) == expected


@given(st.sampled_from(regions_of(RegionLevel.COMMUNITY) + regions_of(RegionLevel.GRID)), st.data())
def test_no_point_along_an_inner_edge_falls_into_a_gap(row: RegionRow, data: st.DataObject) -> None:
    ring = shapely.get_coordinates(parse_polygon(row.polygon or {}))
    a, b = data.draw(st.sampled_from(list(pairwise(ring))))
    share = data.draw(st.floats(min_value=0, max_value=1))
    lng, lat = (float(x) for x in a + (b - a) * share)
    district = parse_polygon(regions_of(RegionLevel.DISTRICT)[0].polygon or {})
    if district.contains(shapely.Point(lng, lat)):
        found = demo_index().locate(lng, lat)
        assert found is not None
        assert found.community_id != id_of(MAPLE) or found.grid_id is not None


@pytest.mark.parametrize(
    "outside", [Point(0.0, 0.0), Point(104.30, 30.606), Point(116.4, 39.9), Point(104.0, 30.57)]
)
def test_outside_there_is_nothing_but_a_nearest_community(outside: Point) -> None:
    assert demo_index().locate(outside.lng, outside.lat) is None
    near = demo_index().nearest_community(outside.lng, outside.lat)
    assert near is not None
    edges = {
        row.code: min(
            distance_m(outside, Point(lng, lat))
            for lng, lat in shapely.get_coordinates(parse_polygon(row.polygon or {}))
        )
        for row in regions_of(RegionLevel.COMMUNITY)
    }
    assert near.community_id == id_of(min(edges, key=lambda code: edges[code]))
    assert near.distance_m <= min(edges.values())
    assert near.distance_m == pytest.approx(min(edges.values()), rel=0.01, abs=100)


def test_nearest_means_nearest_in_metres_not_in_degrees() -> None:
    """At 60° north a degree of longitude is half as long: 0.03° east is nearer than 0.02° north."""
    east = RegionShape(id_of("02"), "02", "community", id_of("02"), shapely.box(10.03, 59.9, 10.1, 60.1))
    north = RegionShape(id_of("01"), "01", "community", id_of("01"), shapely.box(9.9, 60.02, 10.029, 60.1))
    near = RegionIndex([east, north]).nearest_community(10.0, 60.0)
    assert near is not None
    assert near.community_id == id_of("02")
    assert near.distance_m == pytest.approx(distance_m(Point(10.0, 60.0), Point(10.03, 60.0)), rel=0.001)


def test_inside_the_distance_is_nothing() -> None:
    near = demo_index().nearest_community(104.128, 30.606)
    assert near is not None
    assert near.community_id == id_of(MAPLE)
    assert near.distance_m == pytest.approx(0.0, abs=0.001)


def test_an_empty_index_finds_nothing() -> None:
    index = RegionIndex([])
    assert index.locate(104.128, 30.606) is None
    assert index.nearest_community(104.128, 30.606) is None


def test_regions_above_the_community_are_not_needed_to_locate() -> None:
    maple = next(row for row in load_regions() if row.code == MAPLE)
    assert demo_index().locate(*maple.centre) is not None


def test_a_grid_given_to_another_community_takes_its_inside_along() -> None:
    index = RegionIndex(
        [
            _square("1", "community", 104.0, 104.1, "1"),
            _square("2", "community", 104.1, 104.2, "2"),
            _square("21", "grid", 104.05, 104.1, "2"),
        ]
    )
    assert index.locate(104.075, 30.005) == Location(id_of("2"), id_of("21"))
    assert index.locate(104.025, 30.005) == Location(id_of("1"), None)
    assert index.locate(104.05, 30.005) == Location(id_of("1"), None)
