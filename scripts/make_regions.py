"""Write app/data/regions.json: the demo district, the same from every run.

The names of the district, its streets, Maple Community and the compounds without a "demo" mark are real.
Every other name and every outline is invented. Outlines come from one lattice whose corners are shared by
all regions around them, so neighbours have equal coordinates along a common edge and nothing overlaps or gapes.

Run `python scripts/make_regions.py` after a change and commit the result; a test compares the two.
"""

import json
import math
import random
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

OUTPUT = Path(__file__).parent.parent / "app" / "data" / "regions.json"
EARTH_RADIUS_M = 6371008.8
SEED = 510104

DISTRICT_CODE = "510104"
DISTRICT_CENTRE = (104.083, 30.657)
MAPLE_CENTRE = (104.128, 30.606)
MAPLE_AREA_M2 = 730_000

# Communities are 19 rows from north-west to south-east, four in a row; streets take them along a snake.
ROWS, COLUMNS = 19, 4
CELL_LENGTH_M, CELL_WIDTH_M = 740.0, 1080.0
MAPLE_CELL = (14, 1)
STREETS = {
    # name: English name, place in the official list, communities; in the order of the snake
    "春熙路街道": ("Chunxi Road Street", 4, 5),
    "书院街街道": ("Shuyuan Street", 5, 7),
    "锦官驿街道": ("Jinguanyi Street", 1, 6),
    "牛市口街道": ("Niushikou Street", 6, 7),
    "东湖街道": ("Donghu Street", 2, 7),
    "锦华路街道": ("Jinhua Road Street", 3, 6),
    "沙河街道": ("Shahe Street", 7, 7),
    "狮子山街道": ("Shizishan Street", 8, 8),
    "成龙路街道": ("Chenglong Road Street", 9, 9),
    "柳江街道": ("Liujiang Street", 10, 7),
    "三圣街道": ("Sansheng Street", 11, 7),
}

# Maple Community: eight rows of six buildings; two rows make a band of three grids of four, or four of three.
MAPLE_ROWS, MAPLE_COLUMNS = 8, 6
COMPOUNDS = (
    # name, English name, invented?, buildings of each grid, band, first building column
    ("四海逸家", "Sihaiyijia", False, (4, 4, 4), 0, 0),
    ("馨苑民佳", "Xinyuanminjia", True, (4, 4), 1, 0),
    ("锦江逸家", "Jinjiangyijia", False, (4, 4), 2, 0),
    ("枫林苑", "Maple Grove", True, (3, 3), 3, 0),
    ("银杏里", "Ginkgo Lane", True, (4,), 1, 4),
    ("锦彩花园", "Jincai Garden", True, (3, 3), 3, 3),
    ("成龙新居", "Chenglong New Homes", True, (4,), 2, 4),
)

COMMUNITY_NAMES = (
    "芙蓉 Hibiscus|桂花 Osmanthus|海棠 Crabapple|玉兰 Magnolia|梧桐 Parasol Tree|香樟 Camphor|"
    "翠竹 Green Bamboo|青松 Pine|红梅 Red Plum|荷塘 Lotus Pond|柳荫 Willow Shade|桃溪 Peach Brook|"
    "杏林 Apricot Grove|榕树 Banyan|紫薇 Crape Myrtle|茉莉 Jasmine|兰草 Orchid|菊香 Chrysanthemum|"
    "牡丹 Peony|月季 China Rose|丁香 Lilac|石榴 Pomegranate|枇杷 Loquat|橘园 Orange Grove|柚香 Pomelo|"
    "核桃 Walnut|板栗 Chestnut|楠木 Nanmu|水杉 Dawn Redwood|雪松 Cedar|白杨 Poplar|刺桐 Coral Tree|"
    "木棉 Kapok|凤竹 Phoenix Bamboo|杜鹃 Azalea|山茶 Camellia|栀子 Gardenia|迎春 Winter Jasmine|"
    "紫藤 Wisteria|蔷薇 Rambling Rose|葵花 Sunflower|薄荷 Mint|艾草 Mugwort|芦苇 Reed|菖蒲 Sweet Flag|"
    "莲心 Lotus Heart|稻香 Rice Field|麦田 Wheat Field|茶园 Tea Garden|晨光 Morning Light|朝霞 Sunrise|"
    "晚晴 Evening Sun|明月 Bright Moon|星河 Milky Way|春晓 Spring Dawn|夏荷 Summer Lotus|"
    "秋实 Autumn Harvest|冬青 Holly|清泉 Clear Spring|溪桥 Brook Bridge|云起 Rising Cloud|"
    "听雨 Listening Rain|和风 Gentle Wind|暖阳 Warm Sun|同心 One Heart|睦邻 Good Neighbours|"
    "友爱 Friendship|勤和 Diligence|诚信 Honesty|乐群 Togetherness|安康 Wellbeing|长青 Evergreen|"
    "书香 Fragrant Books|锦绣 Brocade|知音 Kindred Spirit"
)


class Spot(NamedTuple):
    """Metres from the centre of Maple Community: south-east along the district, north-east across it."""

    along: float
    across: float


Ring = list[Spot]
LngLat = tuple[float, float]
Row = dict[str, object]
Cell = tuple[int, int]


class Land:
    """The lattice: community corners, the bends between them, the building plots of Maple Community."""

    def __init__(self) -> None:
        self._random = random.Random(SEED)  # noqa: S311 - a picture, not a secret
        self._corners = {
            (i, j): self._jitter(Spot((i - 14.5) * CELL_LENGTH_M, (j - 1.5) * CELL_WIDTH_M), 100.0)
            for i in range(ROWS + 1)
            for j in range(COLUMNS + 1)
        }
        self._bends: dict[tuple[Cell, Cell], Ring] = {}
        self._settle_maple()
        self._plots = self._maple_plots()

    def community_ring(self, cell: Cell) -> Ring:
        """The open outline of a community, anticlockwise."""
        i, j = cell
        around = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1), (i, j)]
        return [spot for a, b in pairwise(around) for spot in self._edge(a, b)[:-1]]

    def building_ring(self, cell: Cell) -> Ring:
        """The open outline of a building plot of Maple Community, anticlockwise."""
        row, column = cell
        around = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)]
        return [self._plots[corner] for corner in around]

    def _edge(self, a: Cell, b: Cell) -> Ring:
        """The bent line between two neighbouring corners, the same points from either side."""
        if a > b:
            return self._edge(b, a)[::-1]
        if (a, b) not in self._bends:
            self._bends[a, b] = self._bend(self._corners[a], self._corners[b], self._segments(a, b))
        return self._bends[a, b]

    def _segments(self, a: Cell, b: Cell) -> int:
        """Edges of Maple Community have a point for every row or column of its building plots."""
        i, j = MAPLE_CELL
        if not {a, b} <= {(i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1)}:
            return 3
        return MAPLE_COLUMNS if a[1] == b[1] else MAPLE_ROWS

    def _bend(self, start: Spot, end: Spot, segments: int) -> Ring:
        sag = self._random.uniform(-0.05, 0.05)
        run, rise = end.along - start.along, end.across - start.across
        spots = [start]
        for step in range(1, segments):
            t = step / segments
            off = sag * math.sin(math.pi * t)
            spots.append(Spot(start.along + t * run - off * rise, start.across + t * rise + off * run))
        return [*spots, end]

    def _settle_maple(self) -> None:
        """Give Maple Community its size and its place; its corners move with it."""
        ring = self.community_ring(MAPLE_CELL)
        area, middle = _area_and_centroid(ring)
        scale = math.sqrt(MAPLE_AREA_M2 / area)

        def settled(spot: Spot) -> Spot:
            return Spot((spot.along - middle.along) * scale, (spot.across - middle.across) * scale)

        for (a, b), spots in self._bends.items():
            self._bends[a, b] = [settled(spot) for spot in spots]
            self._corners[a], self._corners[b] = self._bends[a, b][0], self._bends[a, b][-1]

    def _maple_plots(self) -> dict[Cell, Spot]:
        """The corners of the building plots, spanned between the four edges (a Coons patch)."""
        i, j = MAPLE_CELL
        low, high = self._edge((i, j), (i + 1, j)), self._edge((i, j + 1), (i + 1, j + 1))
        left, right = self._edge((i, j), (i, j + 1)), self._edge((i + 1, j), (i + 1, j + 1))
        plots = {}
        for row in range(MAPLE_ROWS + 1):
            for column in range(MAPLE_COLUMNS + 1):
                t, s = row / MAPLE_ROWS, column / MAPLE_COLUMNS
                plots[row, column] = self._jitter(
                    Spot(
                        *(
                            (1 - t) * low[column][axis]
                            + t * high[column][axis]
                            + (1 - s) * left[row][axis]
                            + s * right[row][axis]
                            - (1 - t) * ((1 - s) * low[0][axis] + s * low[-1][axis])
                            - t * ((1 - s) * high[0][axis] + s * high[-1][axis])
                            for axis in (0, 1)
                        )
                    ),
                    12.0,
                )
        plots.update({(0, column): spot for column, spot in enumerate(low)})
        plots.update({(MAPLE_ROWS, column): spot for column, spot in enumerate(high)})
        plots.update({(row, 0): spot for row, spot in enumerate(left)})
        plots.update({(row, MAPLE_COLUMNS): spot for row, spot in enumerate(right)})
        return plots

    def _jitter(self, spot: Spot, reach_m: float) -> Spot:
        along, across = (self._random.uniform(-reach_m, reach_m) for _ in range(2))
        return Spot(spot.along + along, spot.across + across)


def main() -> None:
    """Write the file."""
    OUTPUT.write_text(text(), encoding="utf-8")


def text() -> str:
    """The whole file, one region a line."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in region_rows())
    about = (
        "Real: the district with its centre, its 11 streets, Maple Community, and the compounds without a demo "
        "mark. 'demo' marks an invented name (of 馨苑民佳 only the characters are invented). Every outline and "
        "every other centre is invented, in GCJ-02. Code of the district: GB/T 2260; below it demo codes, each "
        "of which begins with the code of its parent. Written by scripts/make_regions.py: do not edit by hand."
    )
    return f'{{\n"about": {json.dumps(about, ensure_ascii=False)},\n"regions": [\n{lines}\n]\n}}\n'


def region_rows() -> list[Row]:
    """Every region, parents before children."""
    land = Land()
    streets, communities = _streets_and_communities(land)
    district = _row(DISTRICT_CODE, None, "district", "锦江区", "Jinjiang District")
    rings = [land.community_ring((i, j)) for i in range(ROWS) for j in range(COLUMNS)]
    _draw(district, rings, DISTRICT_CENTRE)
    maple = next(row for row in communities if not row["demo"])
    return [district, *streets, *communities, *_maple_rows(land, str(maple["code"]))]


def _streets_and_communities(land: Land) -> tuple[list[Row], list[Row]]:
    snake = iter(
        [(i, j) for i in range(ROWS) for j in (range(COLUMNS) if i % 2 == 0 else reversed(range(COLUMNS)))]
    )
    names = iter(name.split(" ", 1) for name in COMMUNITY_NAMES.split("|"))
    streets: list[Row] = []
    communities: list[Row] = []
    for street_name, (street_name_en, place, count) in STREETS.items():
        cells = sorted((next(snake) for _ in range(count)), key=lambda cell: cell != MAPLE_CELL)
        street = _row(f"{DISTRICT_CODE}{900 + place}", DISTRICT_CODE, "street", street_name, street_name_en)
        _draw(street, [land.community_ring(cell) for cell in cells])
        streets.append(street)
        for number, cell in enumerate(cells, start=1):
            is_maple = cell == MAPLE_CELL
            name, name_en = ("枫树", "Maple") if is_maple else next(names)
            community = _row(
                f"{street['code']}{900 + number}",
                street["code"],
                "community",
                f"{name}社区",
                f"{name_en} Community",
                demo=not is_maple,
            )
            _draw(community, [land.community_ring(cell)], MAPLE_CENTRE if is_maple else None)
            communities.append(community)
    return sorted(streets, key=_code), sorted(communities, key=_code)


def _maple_rows(land: Land, maple: str) -> list[Row]:
    compounds: list[Row] = []
    grids: list[Row] = []
    buildings: list[Row] = []
    for number, (name, name_en, demo, sizes, band, column) in enumerate(COMPOUNDS, start=1):
        compound = _row(f"{maple}{number:02}", maple, "compound", name, name_en, demo=demo)
        path = _band_path(band)[2 * column : 2 * column + sum(sizes)]
        _draw(compound, [land.building_ring(cell) for cell in path])
        compounds.append(compound)
        for in_compound, size in enumerate(sizes, start=1):
            cells, path = path[:size], path[size:]
            label = len(grids) + 1
            grid = _row(
                f"{compound['code']}{in_compound:02}",
                compound["code"],
                "grid",
                f"枫树社区第{label}网格",
                f"Maple Community Grid {label}",
                demo=True,
            )
            _draw(grid, [land.building_ring(cell) for cell in cells])
            grids.append(grid)
            for in_grid, cell in enumerate(cells, start=1):
                house = sum(str(row["code"]).startswith(str(compound["code"])) for row in buildings) + 1
                building = _row(
                    f"{grid['code']}{in_grid:02}",
                    grid["code"],
                    "building",
                    f"{name}{house}栋",
                    f"{name_en} Building {house}",
                    demo=True,
                )
                building["centre"] = _centre([land.building_ring(cell)])
                buildings.append(building)
    return [*compounds, *grids, *buildings]


def _band_path(band: int) -> list[Cell]:
    """The twelve building plots of two rows, in an order of which every stretch hangs together."""
    low, high = 2 * band, 2 * band + 1
    return [(row, c) for c in range(MAPLE_COLUMNS) for row in ((low, high) if c % 2 == 0 else (high, low))]


def _row(code: str, parent: object, level: str, name: str, name_en: str, *, demo: bool = False) -> Row:
    return {
        "code": code,
        "parent_code": parent,
        "level": level,
        "name": name,
        "name_en": name_en,
        "demo": demo,
        "centre": None,
        "polygon": None,
    }


def _code(row: Row) -> str:
    return str(row["code"])


def _draw(row: Row, rings: list[Ring], centre: LngLat | None = None) -> None:
    """Give a region the outline around the pieces, and their middle as its centre unless that is known."""
    outline = _outline([[_lng_lat(spot) for spot in ring] for ring in rings])
    row["centre"] = centre or _centre(rings)
    row["polygon"] = {"type": "Polygon", "coordinates": [[*outline, outline[0]]]}


def _outline(rings: list[list[LngLat]]) -> list[LngLat]:
    """The edges that belong to one piece only, as an open anticlockwise ring from its westernmost corner."""
    edges = {edge for ring in rings for edge in zip(ring, [*ring[1:], ring[0]], strict=True)}
    following = dict(edge for edge in edges if edge[::-1] not in edges)
    outline = [min(following)]
    while (spot := following.pop(outline[-1])) != outline[0]:
        outline.append(spot)
    if following:
        raise ValueError("the pieces do not form one ring")
    return outline


def _centre(rings: Iterable[Ring]) -> LngLat:
    parts = [_area_and_centroid(ring) for ring in rings]
    total = sum(area for area, _ in parts)
    along = sum(area * middle.along for area, middle in parts) / total
    across = sum(area * middle.across for area, middle in parts) / total
    return _lng_lat(Spot(along, across))


def _area_and_centroid(ring: Ring) -> tuple[float, Spot]:
    """Square metres and the centre of gravity of an open anticlockwise ring."""
    area = along = across = 0.0
    for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
        cross = a.along * b.across - b.along * a.across
        area += cross / 2
        along += (a.along + b.along) * cross / 6
        across += (a.across + b.across) * cross / 6
    return area, Spot(along / area, across / area)


def _lng_lat(spot: Spot) -> LngLat:
    """Degrees with six decimals, a tenth of a metre."""
    east, north = 0.605, -0.796
    size = math.hypot(east, north)
    x = (spot.along * east - spot.across * north) / size
    y = (spot.along * north + spot.across * east) / size
    metres_per_degree = math.radians(EARTH_RADIUS_M)
    lng, lat = MAPLE_CENTRE
    return (
        round(lng + x / (metres_per_degree * math.cos(math.radians(lat))), 6),
        round(lat + y / metres_per_degree, 6),
    )


if __name__ == "__main__":
    main()
