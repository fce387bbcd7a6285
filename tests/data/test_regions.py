"""The demo district: what the tree holds, and that its outlines leave no gap and no overlap."""

import json
import math
import runpy
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import shapely
from shapely.geometry import MultiPolygon, Polygon

from app.geo import EARTH_RADIUS_M, Point, distance_m, parse_polygon
from app.models.regions import RegionLevel
from app.reference import RegionRow, load_regions
from tests.geo.demo_index import MAPLE, regions_of

ROOT = Path(__file__).parents[2]
PARENT_LEVEL = dict(zip(list(RegionLevel)[1:], RegionLevel, strict=False))


def _outline(row: RegionRow) -> Polygon | MultiPolygon:
    return parse_polygon(row.polygon or {})


def _hectares(outline: Polygon | MultiPolygon) -> float:
    """On a sphere flattened at the place, exact enough for a district."""
    metres = math.radians(EARTH_RADIUS_M)
    shrink = math.cos(math.radians(outline.centroid.y))
    return float(shapely.transform(outline, lambda xy: xy * (metres * shrink, metres)).area) / 10_000


def _edges(row: RegionRow) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    ring = [tuple(xy) for xy in shapely.get_coordinates(_outline(row))]
    return list(pairwise(ring))


def _assert_tiles(whole: RegionRow, parts: list[RegionRow]) -> None:
    """Every edge of a part is either the edge of one neighbour, the other way round, or an edge of the whole."""
    edges = Counter(edge for part in parts for edge in _edges(part))
    outer = {edge for edge in edges if edge[::-1] not in edges}
    assert max(edges.values()) == 1
    assert outer == set(_edges(whole))
    outlines = [_outline(part) for part in parts]
    assert sum(outline.area for outline in outlines) == pytest.approx(_outline(whole).area, rel=1e-12)
    assert shapely.union_all(outlines).area == pytest.approx(_outline(whole).area, rel=1e-12)
    for i, one in enumerate(outlines):
        assert not any(one.overlaps(other) for other in outlines[i + 1 :])


def test_the_tree_has_the_numbers_of_the_district_and_of_maple_community() -> None:
    assert Counter(row.level.value for row in load_regions()) == {
        "district": 1,
        "street": 11,
        "community": 76,
        "compound": 7,
        "grid": 13,
        "building": 48,
    }
    assert all(row.code.startswith(MAPLE) for row in load_regions() if len(row.code) > len(MAPLE))


def test_every_parent_comes_first_and_is_one_level_up_and_begins_the_code() -> None:
    seen: dict[str, RegionRow] = {}
    for row in load_regions():
        assert row.code not in seen
        if row.level is RegionLevel.DISTRICT:
            assert (row.code, row.parent_code) == ("510104", None)
        else:
            parent = seen[row.parent_code or ""]
            assert parent.level is PARENT_LEVEL[row.level]
            assert row.code.startswith(parent.code)
        seen[row.code] = row
    assert {len(row.code) for row in load_regions()} == {6, 9, 12, 14, 16, 18}


def test_real_names_are_real_and_invented_ones_marked() -> None:
    real = [row for row in load_regions() if not row.demo]
    assert [row.name for row in real] == [
        "锦江区",
        "锦官驿街道",
        "东湖街道",
        "锦华路街道",
        "春熙路街道",
        "书院街街道",
        "牛市口街道",
        "沙河街道",
        "狮子山街道",
        "成龙路街道",
        "柳江街道",
        "三圣街道",
        "枫树社区",
        "四海逸家",
        "锦江逸家",
    ]
    maple = next(row for row in real if row.code == MAPLE)
    assert next(row.name for row in real if row.code == maple.parent_code) == "成龙路街道"


def test_names_are_unique_within_a_level_in_both_languages() -> None:
    for level in RegionLevel:
        rows = regions_of(level)
        assert len({row.name for row in rows}) == len({row.name_en for row in rows}) == len(rows)


def test_every_region_but_a_building_has_an_outline_around_its_centre() -> None:
    for row in load_regions():
        if row.level is RegionLevel.BUILDING:
            assert row.polygon is None
        else:
            outline = _outline(row)
            assert isinstance(outline, Polygon)
            assert outline.exterior.is_ccw
            assert outline.contains(shapely.Point(row.centre)), row.code


@pytest.mark.parametrize("part", ["street", "community"])
def test_streets_and_communities_tile_the_district(part: str) -> None:
    _assert_tiles(regions_of(RegionLevel.DISTRICT)[0], regions_of(RegionLevel(part)))


def test_communities_tile_their_streets() -> None:
    for street in regions_of(RegionLevel.STREET):
        parts = [row for row in regions_of(RegionLevel.COMMUNITY) if row.parent_code == street.code]
        assert len(parts) >= 5
        _assert_tiles(street, parts)


@pytest.mark.parametrize("part", ["compound", "grid"])
def test_compounds_and_grids_tile_maple_community(part: str) -> None:
    maple = next(row for row in load_regions() if row.code == MAPLE)
    _assert_tiles(maple, regions_of(RegionLevel(part)))


def test_grids_tile_their_compounds() -> None:
    for compound in regions_of(RegionLevel.COMPOUND):
        grids = [row for row in regions_of(RegionLevel.GRID) if row.parent_code == compound.code]
        _assert_tiles(compound, grids)


def test_buildings_lie_inside_their_grids_three_or_four_in_each() -> None:
    for grid in regions_of(RegionLevel.GRID):
        buildings = [row for row in regions_of(RegionLevel.BUILDING) if row.parent_code == grid.code]
        assert len(buildings) in (3, 4)
        assert all(_outline(grid).contains(shapely.Point(row.centre)) for row in buildings)


def test_maple_community_has_73_hectares_around_its_centre() -> None:
    maple = next(row for row in load_regions() if row.code == MAPLE)
    assert maple.centre == (104.128, 30.606)
    assert _hectares(_outline(maple)) == pytest.approx(73.0, abs=0.1)
    middle = _outline(maple).centroid
    assert distance_m(Point(*maple.centre), Point(middle.x, middle.y)) < 1.0


def test_the_district_has_about_the_size_of_the_real_one() -> None:
    assert 5_500 < _hectares(_outline(regions_of(RegionLevel.DISTRICT)[0])) < 6_500


def test_the_committed_file_is_what_the_script_writes() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "make_regions.py"))
    committed = (ROOT / "app" / "data" / "regions.json").read_text(encoding="utf-8")
    assert json.loads(script["text"]()) == json.loads(committed)
