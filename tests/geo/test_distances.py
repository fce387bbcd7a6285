"""Metres, boxes and cells: nothing near is missed."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.geo import EARTH_RADIUS_M, Point, box_around, cell_of, cells_around, distance_m

anywhere = st.builds(
    Point, lng=st.floats(min_value=-179, max_value=179), lat=st.floats(min_value=-89, max_value=89)
)
around_chengdu = st.builds(
    Point, lng=st.floats(min_value=103.0, max_value=105.0), lat=st.floats(min_value=29.5, max_value=31.5)
)
radii = st.floats(min_value=1.0, max_value=2000.0)
bearings = st.floats(min_value=0.0, max_value=2 * math.pi)


def _travel(start: Point, bearing: float, metres: float) -> Point:
    """Along a great circle: an independent formula for the same sphere."""
    angle, lat = metres / EARTH_RADIUS_M, math.radians(start.lat)
    end = math.asin(math.sin(lat) * math.cos(angle) + math.cos(lat) * math.sin(angle) * math.cos(bearing))
    turn = math.atan2(
        math.sin(bearing) * math.sin(angle) * math.cos(lat), math.cos(angle) - math.sin(lat) * math.sin(end)
    )
    return Point(start.lng + math.degrees(turn), math.degrees(end))


def test_a_degree_of_latitude_has_111_195_metres() -> None:
    assert distance_m(Point(104.0, 30.0), Point(104.0, 31.0)) == pytest.approx(111_195.08, abs=0.01)


def test_opposite_sides_of_the_earth() -> None:
    assert distance_m(Point(0.0, 0.0), Point(180.0, 0.0)) == pytest.approx(math.pi * EARTH_RADIUS_M)


@given(around_chengdu, bearings, radii)
def test_distance_is_what_was_travelled(start: Point, bearing: float, metres: float) -> None:
    end = _travel(start, bearing, metres)
    assert distance_m(start, end) == pytest.approx(metres, abs=1e-4)
    assert distance_m(start, end) == distance_m(end, start)


@given(anywhere, bearings, radii)
def test_the_box_holds_the_circle(centre: Point, bearing: float, radius: float) -> None:
    assert box_around(centre, radius).holds(_travel(centre, bearing, radius * (1 - 1e-9)))


def test_the_box_is_no_larger_than_the_circle() -> None:
    box = box_around(Point(104.128, 30.606), 250.0)
    assert distance_m(Point(104.128, box.min_lat), Point(104.128, box.max_lat)) == pytest.approx(
        500, abs=0.01
    )
    assert distance_m(Point(box.min_lng, 30.606), Point(box.max_lng, 30.606)) == pytest.approx(500, abs=0.01)


def test_at_the_pole_the_box_spans_all_longitudes() -> None:
    box = box_around(Point(10.0, 89.9999), 250.0)
    assert (box.min_lng, box.max_lng, box.max_lat) == (-180.0, 180.0, 90.0)


@given(anywhere, bearings, radii, st.floats(min_value=0, max_value=1 - 1e-9))
def test_every_near_point_is_in_a_cell_around(
    centre: Point, bearing: float, radius: float, share: float
) -> None:
    # Close to a pole a circle crosses so many columns that only a test would ask for them.
    near = _travel(Point(centre.lng, centre.lat * 0.8), bearing, radius * share)
    assert cell_of(near.lng, near.lat) in cells_around(centre.lng, centre.lat * 0.8, radius)


@given(around_chengdu)
def test_a_usual_search_reads_few_cells(centre: Point) -> None:
    cells = cells_around(centre.lng, centre.lat, 250.0)
    assert len(cells) <= 16
    assert cells == sorted(set(cells))


def test_a_cell_is_about_250_metres() -> None:
    lng, lat = 104.1251, 30.6001
    assert cell_of(lng, lat) == cell_of(lng + 0.0023, lat + 0.0023)
    assert cell_of(lng + 0.0025, lat) == cell_of(lng, lat) + 1
    assert cell_of(lng, lat + 0.0025) == cell_of(lng, lat) + 144_000


def test_the_keys_of_the_corners_of_the_earth_differ_and_fit_a_64_bit_column() -> None:
    keys = {cell_of(lng, lat) for lng in (-180.0, 180.0) for lat in (-90.0, 90.0)}
    assert len(keys) == 4
    assert min(keys) == 0
    assert max(keys) == 72_000 * 144_000 - 1


def test_no_radius_means_the_own_cell() -> None:
    assert cells_around(104.1262, 30.6012, 0.0) == [cell_of(104.1262, 30.6012)]
