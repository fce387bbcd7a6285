"""The reference data that ships with the package: regions, organisations and hazard categories of the demo district."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from app.models.hazard_categories import Urgency
from app.models.hazard_results import PhotoExemption
from app.models.hazards import HazardLevel
from app.models.regions import RegionLevel
from app.worktime import ClockKind

_STRICT = ConfigDict(extra="forbid")
_LONGEST_ANSWER = 500

Text = Annotated[str, Field(min_length=1, max_length=500)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,39}$")]
RegionCode = Annotated[str, Field(pattern=r"^\d{6,18}$")]


@dataclass(frozen=True, slots=True, config=_STRICT)
class RegionRow:
    """A region: `centre` is (longitude, latitude) and `polygon` GeoJSON, both GCJ-02; `demo` marks an invented name."""

    code: RegionCode
    parent_code: RegionCode | None
    level: RegionLevel
    name: Text
    name_en: Text
    demo: bool
    centre: tuple[float, float]
    polygon: dict[str, object] | None


@dataclass(frozen=True, slots=True, config=_STRICT)
class OrganisationRow:
    """Somebody who can be called to a hazard, and the regions served, each with all below it."""

    code: Code
    kind: Literal["department", "utility", "street_office", "property_company"]
    name: Text
    name_en: Text
    region_codes: Annotated[tuple[RegionCode, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, config=_STRICT)
class Deadline:
    """The time a level has, in minutes of its clock; the warning comes `warn_minutes` of that clock before the end."""

    minutes: Annotated[int, Field(ge=5, le=30 * 24 * 60)]
    clock: ClockKind
    warn_minutes: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _warning_lies_within(self) -> "Deadline":
        if self.warn_minutes >= self.minutes:
            raise ValueError("a warning must come after the start")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class EventClass:
    """An event class of GB/T 30428.2: two digits for the class, two for the sub-class, and its Chinese name."""

    class_code: Annotated[str, Field(pattern=r"^\d\d$")]
    subclass_code: Annotated[str, Field(pattern=r"^\d\d$")]
    name: Text


@dataclass(frozen=True, slots=True, config=_STRICT)
class HazardCategoryRow:
    """What a resident may report and how it is handled.

    `public`: shown on the public map. `nearby_radius_m`: how far apart two reports may be one hazard, 0 = never.
    `lead_organisation`: who usually leads when the street dispatches. `event_class`: None where the standard has
    no class that fits.
    """

    code: Code
    name: Text
    name_en: Text
    description: Text
    description_en: Text
    hint: Text
    hint_en: Text
    urgency: Urgency
    public: bool
    nearby_radius_m: Annotated[int, Field(ge=0, le=2000)]
    deadlines: Mapping[HazardLevel, Deadline]
    event_class: EventClass | None
    keywords: Annotated[tuple[Text, ...], Field(min_length=1)]
    lead_organisation: Code
    photo_exemptions: tuple[PhotoExemption, ...]

    @model_validator(mode="after")
    def _every_level_has_a_deadline(self) -> "HazardCategoryRow":
        if set(self.deadlines) != set(HazardLevel):
            raise ValueError("a deadline is needed for every level")
        return self


@dataclass(frozen=True, slots=True, config=_STRICT)
class PhotoExemptionRow:
    """The name of a photo exemption in both languages."""

    code: PhotoExemption
    name: Text
    name_en: Text


@dataclass(frozen=True, slots=True, config=_STRICT)
class Open311Value:
    """One choice of a list question."""

    key: Code
    name: Text
    name_en: Text


@dataclass(frozen=True, slots=True, config=_STRICT)
class Open311Attribute:
    """One extra question of a GeoReport v2 service definition."""

    code: Annotated[str, Field(pattern=r"^[A-Z_]{1,40}$")]
    datatype: Literal["string", "number", "datetime", "text", "singlevaluelist", "multivaluelist"]
    required: bool
    description: Text
    description_en: Text
    datatype_description: Text
    datatype_description_en: Text
    values: tuple[Open311Value, ...]

    def takes(self, answer: str) -> bool:
        """Whether this can be an answer."""
        if self.values:
            return answer in {value.key for value in self.values}
        if self.datatype == "number":
            return re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", answer) is not None
        return len(answer) <= _LONGEST_ANSWER


class _Open311Attributes(BaseModel):
    model_config = _STRICT
    about: str
    attributes: Mapping[str, tuple[Open311Attribute, ...]]


class _Regions(BaseModel):
    model_config = _STRICT
    about: str
    regions: tuple[RegionRow, ...]


class _Organisations(BaseModel):
    model_config = _STRICT
    about: str
    organisations: tuple[OrganisationRow, ...]


class _HazardCategories(BaseModel):
    model_config = _STRICT
    about: str
    photo_exemptions: tuple[PhotoExemptionRow, ...]
    categories: tuple[HazardCategoryRow, ...]


@cache
def load_regions() -> tuple[RegionRow, ...]:
    """All regions, parents before children."""
    return _Regions.model_validate_json(_read("regions.json")).regions


@cache
def load_organisations() -> tuple[OrganisationRow, ...]:
    """All organisations, in the order lists show them."""
    return _Organisations.model_validate_json(_read("organisations.json")).organisations


@cache
def load_categories() -> tuple[HazardCategoryRow, ...]:
    """All hazard categories, in the order the mini-program shows them."""
    return _hazard_categories().categories


@cache
def load_open311_attributes() -> Mapping[str, tuple[Open311Attribute, ...]]:
    """The extra questions of Open311 services, by category."""
    return _Open311Attributes.model_validate_json(_read("open311_attributes.json")).attributes


@cache
def load_photo_exemptions() -> tuple[PhotoExemptionRow, ...]:
    """The names of the photo exemptions."""
    return _hazard_categories().photo_exemptions


@cache
def _hazard_categories() -> _HazardCategories:
    return _HazardCategories.model_validate_json(_read("hazard_categories.json"))


def _read(name: str) -> bytes:
    return files("app").joinpath("data", name).read_bytes()
