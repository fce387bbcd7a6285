"""The photos that the demo and other tests send are real ones: small JPEGs with a phone's tags, taken in the community."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shapely.geometry import Point, shape

from app.geo import gcj02_from_wgs84
from app.imaging import Imaging
from tests.media.jpeg import assert_bare, segments

_DATA = Path(__file__).parents[2] / "app" / "data"
_SAMPLES = sorted((_DATA / "samples").glob("*.jpg"))
_SCENES = {"corridor-charging", "fire-passage", "garbage", "manhole", "pipe-leak", "street-lamp"}


def test_every_scene_has_a_before_and_an_after() -> None:
    assert {path.stem for path in _SAMPLES} == {
        f"{scene}-{state}" for scene in _SCENES for state in ("before", "after")
    }


@pytest.mark.parametrize("path", _SAMPLES, ids=lambda path: path.stem)
def test_samples_are_small_and_tagged(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) < 60_000
    assert [part.payload[:6] for part in segments(data) if part.marker == 0xE1] == [b"Exif\0\0"]


async def test_samples_come_out_upright_with_place_and_time() -> None:
    (maple,) = (
        shape(row["polygon"])
        for row in json.loads((_DATA / "regions.json").read_text())["regions"]
        if row["level"] == "community" and row["name"].startswith("枫树")
    )
    imaging = Imaging()
    for path, result in zip(_SAMPLES, await asyncio.gather(*map(imaging.process, _SAMPLES)), strict=True):
        assert_bare(result.main.data)
        portrait = path.stem.startswith("street-lamp")
        assert (result.main.width, result.main.height) == ((768, 1024) if portrait else (1024, 768))
        assert result.gps_wgs84
        place = gcj02_from_wgs84(result.gps_wgs84)
        assert maple.contains(Point(place.lng, place.lat))
        assert result.taken_at
        assert datetime(2026, 3, 1, tzinfo=UTC) < result.taken_at < datetime(2026, 3, 11, tzinfo=UTC)
