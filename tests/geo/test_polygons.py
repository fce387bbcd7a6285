"""What may be the outline of a region."""

import math

import pytest

from app.geo import InvalidPolygon, parse_polygon

SQUARE = [[104.0, 30.0], [104.1, 30.0], [104.1, 30.1], [104.0, 30.1], [104.0, 30.0]]
BOW_TIE = [[104.0, 30.0], [104.1, 30.1], [104.1, 30.0], [104.0, 30.1], [104.0, 30.0]]
HOLE = [[104.02, 30.02], [104.02, 30.04], [104.04, 30.04], [104.04, 30.02], [104.02, 30.02]]


def test_a_polygon_with_a_hole() -> None:
    polygon = parse_polygon({"type": "Polygon", "coordinates": [SQUARE, HOLE]})
    assert polygon.area == pytest.approx(0.01 - 0.0004)


def test_several_pieces() -> None:
    elsewhere = [[lng + 1, lat] for lng, lat in SQUARE]
    polygon = parse_polygon({"type": "MultiPolygon", "coordinates": [[SQUARE], [elsewhere]]})
    assert polygon.area == pytest.approx(0.02)


@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"type": "Point", "coordinates": [104.0, 30.0]},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [SQUARE]}},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": None},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": "104.0,30.0"},
        {"type": "Polygon", "coordinates": {"a": 1}},
        {"type": "Polygon", "coordinates": [[["a", "b"], ["c", "d"], ["e", "f"], ["a", "b"]]]},
        {"type": "Polygon", "coordinates": [[[104.0], [104.1], [104.1], [104.0]]]},
        {"type": "Polygon", "coordinates": [SQUARE[:2]]},
        {"type": "Polygon", "coordinates": [[[None, None], *SQUARE[1:]]]},
        {"type": "Polygon", "coordinates": [[[math.nan, 30.0], *SQUARE[1:-1], [math.nan, 30.0]]]},
        {"type": "Polygon", "coordinates": [[[math.inf, 30.0], *SQUARE[1:-1], [math.inf, 30.0]]]},
        {"type": "Polygon", "coordinates": [[[lat, lng] for lng, lat in SQUARE]]},
        {"type": "Polygon", "coordinates": [BOW_TIE]},
        {"type": "Polygon", "coordinates": [[SQUARE[0]] * 4]},
        {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE]]},
        {"type": "MultiPolygon", "coordinates": [SQUARE]},
    ],
)
def test_rubbish_is_refused_with_a_reason(geometry: dict[str, object]) -> None:
    with pytest.raises(InvalidPolygon, match=r"\w"):
        parse_polygon(geometry)
