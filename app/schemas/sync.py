"""The exchange with the district platform on the wire."""

import re
from datetime import date
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, JsonValue, StringConstraints
from pydantic_core import PydanticCustomError

from app.models.hazard_results import HazardOutcome
from app.models.sync import InboundStatus, MappingKind
from app.schemas.base import Coordinates, Distinct, LongText, Moment, Read, ShortText, Strict


def _written_out(value: object) -> object:
    """A number is a date to Pydantic, and to nobody else."""
    if isinstance(value, str) and _DATE.fullmatch(value) is None:
        raise PydanticCustomError("date_parsing", "must be like 2026-11-20")
    return value


def _within_reason(day: date) -> date:
    """JSON Schema has no bounds for dates, so a day outside of them is not of a wrong shape."""
    if not 2020 <= day.year < 2100:
        english, chinese = "must be in the years from 2020 to 2099", "必须在 2020 年至 2099 年之间"
        raise PydanticCustomError("day_out_of_range", english, {"zh": chinese})
    return day


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
CaseKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
Code = Annotated[str, StringConstraints(min_length=1, max_length=40)]
Day = Annotated[
    date,
    Field(strict=False, description="In the years from 2020 to 2099."),
    BeforeValidator(_written_out),
    AfterValidator(_within_reason),
]
Seq = Annotated[int, Field(ge=1, le=2**31 - 1)]


class CaseCreated(Strict):
    """A case that the district hands to a community."""

    category_code: Code
    region_code: Code
    description: LongText
    location: Coordinates | None = None
    address: ShortText | None = None


class CaseStatusChanged(Strict):
    """How far the district is with it. A note, not a step of our chain."""

    status: Literal["received", "in_progress", "on_hold", "resolved"]
    note: LongText | None = None


class CaseReplied(Strict):
    """A public word of the district."""

    text: LongText


class CaseReturned(Strict):
    """The result is not accepted: the case goes back to whoever resolved it."""

    reason: LongText


class CaseClosed(Strict):
    """The district closes the case."""

    outcome: Annotated[HazardOutcome, Field(strict=False)]
    reason: LongText | None = None


class _Envelope(Strict):
    case: Annotated[CaseKey, Field(description="Their id, or the id of our hazard for a case that we sent.")]
    seq: Annotated[Seq, Field(description="1, 2, 3 … per case, without gaps.")]
    occurred_at: Moment


class CaseCreatedEvent(_Envelope):
    """`case.created`."""

    type: Literal["case.created"]
    data: CaseCreated


class CaseStatusChangedEvent(_Envelope):
    """`case.status_changed`."""

    type: Literal["case.status_changed"]
    data: CaseStatusChanged


class CaseRepliedEvent(_Envelope):
    """`case.replied`."""

    type: Literal["case.replied"]
    data: CaseReplied

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "type": "case.replied",
                    "case": "JJ-2026-000123",
                    "seq": 2,
                    "occurred_at": "2026-11-20T08:05:00+08:00",
                    "data": {"text": "请三日内办结"},
                }
            ]
        }
    }


class CaseReturnedEvent(_Envelope):
    """`case.returned`."""

    type: Literal["case.returned"]
    data: CaseReturned


class CaseClosedEvent(_Envelope):
    """`case.closed`."""

    type: Literal["case.closed"]
    data: CaseClosed


DistrictEvent = Annotated[
    CaseCreatedEvent | CaseStatusChangedEvent | CaseRepliedEvent | CaseReturnedEvent | CaseClosedEvent,
    Field(discriminator="type"),
]


class Accepted(Read):
    """It is stored, and will be applied in its turn. `reason` says what a parked one waits for, or why one had no effect."""

    message_id: str
    status: InboundStatus
    reason: str | None


class FeedEvent(Read):
    """One event of the feed: ids, states, times; nothing personal."""

    id: UUID
    position: int
    type: str
    subject_kind: str
    subject_id: UUID
    seq: int
    community_id: UUID | None
    region_id: UUID | None
    occurred_at: AwareDatetime
    data: dict[str, JsonValue]


class Feed(Read):
    """Events in the order of their commit. `next_cursor` is never null: keep it and ask again later."""

    items: list[FeedEvent]
    next_cursor: str
    has_more: bool


class WatermarkCase(Strict):
    """One case as they have it."""

    case: CaseKey
    status: Annotated[str, StringConstraints(max_length=32)]


class WatermarkCommunity(Strict):
    """What they have of one community and day. `cases` names them, so that a difference has ids."""

    region_code: Code
    count: Annotated[int, Field(ge=0)]
    checksum: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    cases: Annotated[list[WatermarkCase], Field(max_length=10_000, fail_fast=True), Distinct("case")] = Field(
        default_factory=list
    )


class Watermarks(Strict):
    """Their numbers of one business day (Asia/Shanghai, by the time of filing)."""

    day: Day
    communities: Annotated[list[WatermarkCommunity], Field(max_length=500), Distinct("region_code")]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "day": "2026-11-20",
                    "communities": [
                        {
                            "region_code": "510104909901",
                            "count": 0,
                            "checksum": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                            "cases": [],
                        }
                    ],
                }
            ]
        }
    }


class CommunityDrift(Read):
    """How one community differs."""

    region_code: str
    ours: int
    theirs: int
    same: bool
    missing_here: list[str]
    missing_there: list[str]
    differing: list[str]


class DriftReport(Read):
    """The comparison of one day."""

    day: date
    same: bool
    communities: list[CommunityDrift]


class OurWatermark(Read):
    """Our number of one community and day: SHA-256 over the sorted lines `case status`, joined with newlines."""

    region_code: str
    count: int
    checksum: str


class OurWatermarks(Read):
    """Our numbers of one day."""

    day: date
    communities: list[OurWatermark]


class MappingWrite(Strict):
    """One code of theirs and ours."""

    kind: Annotated[MappingKind, Field(strict=False)]
    theirs: Code
    ours: Code


class MappingsWrite(Strict):
    """The whole table; it replaces what was there."""

    mappings: Annotated[list[MappingWrite], Field(max_length=5_000)]

    model_config = {
        "json_schema_extra": {
            "examples": [{"mappings": [{"kind": "category", "theirs": "A01", "ours": "street_lighting"}]}]
        }
    }


class MappingRead(Read):
    """One code of theirs and ours."""

    kind: MappingKind
    theirs: str
    ours: str


class MappingDrift(Read):
    """What is wrong with the table: codes that point nowhere, codes of ours that nobody maps, codes that came unmapped."""

    dangling: list[MappingRead]
    unmapped_regions: list[str]
    unmapped_categories: list[str]
    unknown_received: list[str]


class Mappings(Read):
    """The table and its drift."""

    items: list[MappingRead]
    drift: MappingDrift
    next_cursor: None = None
