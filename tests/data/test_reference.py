"""Organisations and hazard categories: complete in both languages, consistent with each other."""

import json
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from app.models.hazard_categories import Urgency
from app.models.hazard_results import PhotoExemption
from app.models.hazards import HazardLevel
from app.models.regions import RegionLevel
from app.reference import (
    Deadline,
    HazardCategoryRow,
    load_categories,
    load_organisations,
    load_photo_exemptions,
    load_regions,
)
from app.worktime import ClockKind

DATA = Path(__file__).parents[2] / "app" / "data"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
EXPECTED = {
    "gas_leak",
    "fire_passage_blocked",
    "ebike_charging_indoors",
    "road_damage",
    "manhole_cover",
    "falling_objects",
    "street_lighting",
    "water_burst",
    "water_outage",
    "elderly_in_danger",
    "noise_neighbours",
    "garbage",
    "illegal_construction",
    "exposed_cables",
    "elevator_fault",
    "tree_danger",
    "stray_dogs",
    "flooding",
    "other",
}


def _category(**changes: object) -> str:
    rows = json.loads((DATA / "hazard_categories.json").read_text(encoding="utf-8"))["categories"]
    return json.dumps([{**rows[0], **changes}])


def test_the_named_categories_are_there_once() -> None:
    codes = [row.code for row in load_categories()]
    assert set(codes) >= EXPECTED
    assert len(codes) == len(set(codes))
    assert (
        len({row.name for row in load_categories()})
        == len({row.name_en for row in load_categories()})
        == len(codes)
    )


def test_the_most_urgent_come_first_and_the_rest_last() -> None:
    order = [list(Urgency).index(row.urgency) for row in load_categories()[:-1]]
    assert order == sorted(order)
    assert load_categories()[-1].code == "other"


@pytest.mark.parametrize("row", load_categories(), ids=lambda row: row.code)
def test_a_category_is_complete_in_both_languages(row: HazardCategoryRow) -> None:
    assert all(CHINESE.search(text) for text in (row.name, row.description, row.hint))
    assert not any(CHINESE.search(text) for text in (row.name_en, row.description_en, row.hint_en))
    assert any(CHINESE.search(word) for word in row.keywords)
    assert any(word.isascii() for word in row.keywords)
    assert len(set(row.keywords)) == len(row.keywords)


@pytest.mark.parametrize("row", load_categories(), ids=lambda row: row.code)
def test_danger_to_life_runs_on_the_clock_and_each_level_has_more_time(row: HazardCategoryRow) -> None:
    minutes = [row.deadlines[level].minutes for level in HazardLevel]
    if len({row.deadlines[level].clock for level in HazardLevel}) == 1:
        assert minutes == sorted(minutes)
    if row.urgency in (Urgency.CRITICAL, Urgency.HIGH):
        assert all(deadline.clock is ClockKind.CLOCK for deadline in row.deadlines.values())


def test_leads_are_organisations_of_the_whole_district() -> None:
    district = {row.code for row in load_organisations() if row.region_codes == ("510104",)}
    assert {row.lead_organisation for row in load_categories()} <= district


def test_what_concerns_a_home_is_neither_shown_nor_matched() -> None:
    private = {row.code for row in load_categories() if not row.public}
    assert private == {"elderly_in_danger", "noise_neighbours"}
    assert all(row.nearby_radius_m == 0 for row in load_categories() if not row.public)


def test_the_usual_search_radius_is_250_metres() -> None:
    radii = [row.nearby_radius_m for row in load_categories()]
    assert radii.count(250) > len(radii) / 2


def test_no_two_categories_claim_one_event_class() -> None:
    classes = [
        (row.event_class.class_code, row.event_class.subclass_code)
        for row in load_categories()
        if row.event_class
    ]
    assert len(set(classes)) == len(classes) > 10
    assert {class_code for class_code, _ in classes} <= {"01", "02", "03", "04", "05"}


def test_every_photo_exemption_is_named_and_allowed_somewhere() -> None:
    assert [row.code for row in load_photo_exemptions()] == list(PhotoExemption)
    assert {code for row in load_categories() for code in row.photo_exemptions} == set(PhotoExemption)


def test_organisations_serve_regions_that_exist() -> None:
    regions = {row.code: row.level for row in load_regions()}
    kinds = {"department": RegionLevel.DISTRICT, "utility": RegionLevel.DISTRICT}
    kinds |= {"street_office": RegionLevel.STREET, "property_company": RegionLevel.COMPOUND}
    for row in load_organisations():
        assert {regions[code] for code in row.region_codes} == {kinds[row.kind]}
    codes = [row.code for row in load_organisations()]
    assert len(set(codes)) == len(codes)


def test_every_street_has_an_office_and_every_compound_a_property_company() -> None:
    served = sorted(code for row in load_organisations() for code in row.region_codes if code != "510104")
    local = (RegionLevel.STREET, RegionLevel.COMPOUND)
    assert served == sorted(row.code for row in load_regions() if row.level in local)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "Gas Leak"},
        {"name": ""},
        {"urgency": "soon"},
        {"nearby_radius_m": -1},
        {"nearby_radius_m": 2.5},
        {"deadlines": {}},
        {"deadlines": {"grid": {"minutes": 60, "clock": "clock", "warn_minutes": 10}}},
        {"event_class": {"class_code": "4", "subclass_code": "03", "name": "燃气管道破裂"}},
        {"photo_exemptions": ["too_lazy"]},
        {"keywords": []},
        {"colour": "red"},
    ],
    ids=str,
)
def test_a_wrong_category_is_refused(changes: dict[str, object]) -> None:
    table = TypeAdapter(list[HazardCategoryRow])
    assert len(table.validate_json(_category())) == 1
    with pytest.raises(ValidationError):
        table.validate_json(_category(**changes))


def test_a_warning_must_lie_within_the_time() -> None:
    with pytest.raises(ValidationError, match="warning"):
        Deadline(minutes=60, clock=ClockKind.CLOCK, warn_minutes=60)
    assert Deadline(minutes=60, clock=ClockKind.CLOCK, warn_minutes=59).warn_minutes == 59
