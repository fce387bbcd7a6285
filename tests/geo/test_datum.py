"""GCJ-02 and WGS-84: published points, an independent implementation, and the way back."""

import prcoords
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.geo import Point, distance_m, gcj02_from_wgs84, wgs84_from_gcj02

in_china = st.builds(
    Point, lng=st.floats(min_value=73.5, max_value=135.0), lat=st.floats(min_value=18.0, max_value=53.5)
)
# prcoords 1.0.1 multiplies the length of a degree of latitude by a factor that its own sources divide by.
PRCOORDS_SLIP_M = 4.0


@pytest.mark.parametrize(
    ("wgs84", "gcj02"),
    [
        (Point(121.5272106, 31.1774276), Point(121.531541859215, 31.17530398364597)),
        (Point(113.912316, 22.543847), Point(113.9171764808363, 22.540796131694766)),
        (Point(116.377817, 39.911954), Point(116.38404722455657, 39.91334545536069)),
    ],
)
def test_agrees_with_points_published_by_eviltransform(wgs84: Point, gcj02: Point) -> None:
    assert distance_m(gcj02_from_wgs84(wgs84), gcj02) < 0.001
    assert distance_m(wgs84_from_gcj02(gcj02), wgs84) < 0.001


@given(in_china)
def test_agrees_with_prcoords(wgs84: Point) -> None:
    ours = gcj02_from_wgs84(wgs84)
    lat, lng = prcoords.wgs_gcj((wgs84.lat, wgs84.lng), check_china=False)
    assert ours.lng == pytest.approx(lng, abs=1e-9)
    assert distance_m(ours, Point(lng, lat)) < PRCOORDS_SLIP_M


@given(in_china)
def test_there_and_back_is_the_same_place(wgs84: Point) -> None:
    gcj02 = gcj02_from_wgs84(wgs84)
    assert 20 < distance_m(wgs84, gcj02) < 1500
    assert distance_m(wgs84, wgs84_from_gcj02(gcj02)) < 0.001


@given(in_china)
def test_back_and_there_is_the_same_place(gcj02: Point) -> None:
    assert distance_m(gcj02, gcj02_from_wgs84(wgs84_from_gcj02(gcj02))) < 0.001


def test_maple_community_is_shifted_by_some_hundred_metres() -> None:
    centre = Point(104.128, 30.606)
    assert 300 < distance_m(centre, wgs84_from_gcj02(centre)) < 600


@pytest.mark.parametrize(
    "abroad",
    [Point(0.0, 0.0), Point(2.3522, 48.8566), Point(151.2, -33.87), Point(-122.4, 37.8), Point(140.0, 36.0)],
)
def test_abroad_nothing_is_shifted(abroad: Point) -> None:
    assert gcj02_from_wgs84(abroad) == abroad
    assert wgs84_from_gcj02(abroad) == abroad
