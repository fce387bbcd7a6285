"""Hazards on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.models.hazard_assignments import AssignmentRole, AssignmentStatus
from app.models.hazard_comments import CommentVisibility
from app.models.hazard_results import HazardOutcome, PhotoExemption, RejectReason, UnfixedReason
from app.models.hazards import HazardLevel, HazardSource, HazardStatus
from app.models.sessions import PrincipalKind
from app.schemas.base import Coordinates, CoordinatesRead, LongText, Read, ShortText, Strict
from app.schemas.media import MEDIA_EXAMPLE, MediaRead

Id = Annotated[UUID, Field(strict=False)]
Photos = Annotated[list[Id], Field(max_length=9)]


class HazardCreate(Strict):
    """A report. The place is a point, an address, or both; an address alone needs `community_id`."""

    category: Annotated[str, Field(min_length=1, max_length=40)]
    description: LongText
    media_ids: Annotated[list[Id], Field(min_length=1, max_length=9)]
    location: Coordinates | None = None
    address: Annotated[ShortText | None, Field(description="Shown to those who handle the case only.")] = None
    community_id: Id | None = None
    anonymous: Annotated[bool, Field(description="Hide the reporter's name from the public.")] = True

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "category": "fire_passage_blocked",
                    "description": "3栋1单元消防通道堆满纸箱，电动车也停在里面",
                    "media_ids": ["01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"],
                    "location": {"lng": 104.1281, "lat": 30.6062},
                    "address": "枫林苑3栋1单元门口",
                    "anonymous": True,
                }
            ]
        }
    }


class Note(Strict):
    """An optional word to the reporter."""

    note: LongText | None = None


class HazardCall(Strict):
    """Why the street is needed."""

    reason: LongText | None = None

    model_config = {
        "json_schema_extra": {"examples": [{"reason": "堆放物属于商铺，多次劝说无效，需要街道协调"}]}
    }


class HazardDispatch(Strict):
    """One lead and any number of joint departments."""

    lead_organisation_id: Id
    joint_organisation_ids: Annotated[list[Id], Field(max_length=10)] = Field(default_factory=list)
    note: LongText | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "lead_organisation_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                    "joint_organisation_ids": ["01938b5e-7c1a-7d2e-9f00-3a51f0c2b002"],
                    "note": "请今日内到现场",
                }
            ]
        }
    }


class HazardRefuse(Strict):
    """Why it is not ours."""

    reason: LongText

    model_config = {"json_schema_extra": {"examples": [{"reason": "该路段不在我单位管养范围内"}]}}


class HazardCheckIn(Strict):
    """Where the officer stands."""

    location: Coordinates
    note: LongText | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [{"location": {"lng": 104.1281, "lat": 30.6062}, "note": "已到现场"}]
        }
    }


class HazardResolve(Strict):
    """The result. `fixed` needs an after-photo (purpose `hazard_after`) or an exemption; `unfixed` needs a reason."""

    outcome: Annotated[HazardOutcome, Field(strict=False)] = HazardOutcome.FIXED
    media_ids: Photos = Field(default_factory=list)
    exemption: Annotated[PhotoExemption, Field(strict=False)] | None = None
    unfixed_reason: Annotated[UnfixedReason, Field(strict=False)] | None = None
    note: LongText | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "outcome": "fixed",
                    "media_ids": ["01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"],
                    "note": "堆放物已清理",
                }
            ]
        }
    }


class HazardDispute(Strict):
    """Why the result is not accepted."""

    reason: LongText
    media_ids: Photos = Field(default_factory=list)

    model_config = {
        "json_schema_extra": {
            "examples": [{"reason": "第二天又堆满了", "media_ids": ["01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"]}]
        }
    }


class HazardRate(Strict):
    """One to five stars."""

    score: Annotated[int, Field(ge=1, le=5)]
    comment: LongText | None = None

    model_config = {"json_schema_extra": {"examples": [{"score": 5, "comment": "处理很快"}]}}


class HazardMerge(Strict):
    """The hazard that goes on."""

    into_id: Id

    model_config = {"json_schema_extra": {"examples": [{"into_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"}]}}


class HazardReject(Strict):
    """Why this is not a hazard; `note` is shown to the reporter."""

    reason: Annotated[RejectReason, Field(strict=False)]
    note: LongText | None = None

    model_config = {
        "json_schema_extra": {"examples": [{"reason": "not_a_hazard", "note": "该处为临时卸货，已驶离"}]}
    }


class HazardAssign(Strict):
    """The grid worker who shall take it."""

    staff_id: Id

    model_config = {"json_schema_extra": {"examples": [{"staff_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"}]}}


class HazardCommentCreate(Strict):
    """A public reply, or an internal note among staff."""

    text: LongText
    visibility: Annotated[CommentVisibility, Field(strict=False)] = CommentVisibility.PUBLIC

    model_config = {"json_schema_extra": {"examples": [{"text": "物业已贴告示", "visibility": "public"}]}}


class HazardCommentRead(Read):
    """One comment; `text` is null while it is checked and after it was hidden."""

    id: UUID
    created_at: AwareDatetime
    visibility: CommentVisibility
    author_kind: PrincipalKind
    author: str
    text: str | None
    mine: bool


class HazardSummary(Read):
    """A hazard in a list. Text and pictures are null or empty while the public may not see them."""

    id: UUID
    community_id: UUID
    region_id: UUID
    category: str
    status: HazardStatus
    level: HazardLevel | None
    outcome: HazardOutcome | None
    description: str | None
    location: CoordinatesRead
    supporters: int
    mine: bool
    thumbnail_url: str | None
    distance_m: int | None
    due_at: AwareDatetime | None
    overdue: bool
    created_at: AwareDatetime
    version: int


class HandlerRead(Read):
    """Who is on it."""

    id: UUID
    name: str


class AssignmentRead(Read):
    """One department's part."""

    organisation_id: UUID
    name: str
    name_en: str
    role: AssignmentRole
    status: AssignmentStatus
    hop: int
    binding: bool
    checked_in_at: AwareDatetime | None
    distance_m: int | None


class ReporterRead(Read):
    """The reporter as handlers see him: masked; `reveal-reporter` gives the rest, with a reason."""

    id: UUID
    nickname: str | None
    phone_masked: str | None


class HazardRead(Read):
    """A whole hazard. What the caller may not see is null: `address`, `reporter`, `handler` are for handlers."""

    id: UUID
    version: int
    community_id: UUID
    region_id: UUID
    category: str
    source: HazardSource
    status: HazardStatus
    level: HazardLevel | None
    description: str | None
    location: CoordinatesRead
    address: str | None
    anonymous: bool
    reporter_name: Annotated[str | None, Field(description="Public name, null when anonymous.")]
    reporter: ReporterRead | None
    mine: bool
    supported: bool
    supporters: int
    photos: list[MediaRead]
    after_photos: list[MediaRead]
    handler: HandlerRead | None
    departments: list[AssignmentRead]
    refusals: int
    hops: int
    decision_forced: bool
    due_at: AwareDatetime | None
    overdue: bool
    outcome: HazardOutcome | None
    unfixed_reason: UnfixedReason | None
    exemption: PhotoExemption | None
    dispute_until: AwareDatetime | None
    disputes: int
    reject_reason: RejectReason | None
    duplicate_of_id: UUID | None
    rating: int | None
    created_at: AwareDatetime
    accepted_at: AwareDatetime | None
    resolved_at: AwareDatetime | None
    closed_at: AwareDatetime | None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                    "version": 6,
                    "community_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b010",
                    "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b011",
                    "category": "fire_passage_blocked",
                    "source": "mini_program",
                    "status": "resolved",
                    "level": None,
                    "description": "3栋1单元消防通道堆满纸箱，电动车也停在里面",
                    "location": {"lng": 104.12716, "lat": 30.60655, "datum": "gcj02"},
                    "address": "枫林苑3栋1单元门口",
                    "anonymous": True,
                    "reporter_name": None,
                    "reporter": None,
                    "mine": True,
                    "supported": False,
                    "supporters": 2,
                    "photos": [MEDIA_EXAMPLE],
                    "after_photos": [MEDIA_EXAMPLE],
                    "handler": {"id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b020", "name": "杨**"},
                    "departments": [
                        {
                            "organisation_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b030",
                            "name": "锦江区消防救援大队",
                            "name_en": "Jinjiang Fire and Rescue Brigade",
                            "role": "lead",
                            "status": "done",
                            "hop": 1,
                            "binding": False,
                            "checked_in_at": "2026-11-23T02:40:00Z",
                            "distance_m": 12,
                        }
                    ],
                    "refusals": 0,
                    "hops": 1,
                    "decision_forced": False,
                    "due_at": None,
                    "overdue": False,
                    "outcome": "fixed",
                    "unfixed_reason": None,
                    "exemption": None,
                    "dispute_until": "2026-11-30T03:05:00Z",
                    "disputes": 0,
                    "reject_reason": None,
                    "duplicate_of_id": None,
                    "rating": None,
                    "created_at": "2026-11-23T01:30:00Z",
                    "accepted_at": "2026-11-23T01:42:00Z",
                    "resolved_at": "2026-11-23T03:05:00Z",
                    "closed_at": None,
                }
            ]
        }
    }


Actor = Literal["reporter", "resident", "grid", "street", "department", "staff", "system"]


class TimelineEntry(Read):
    """One step. Names of people are left out; a department is named, staff are `grid`, `street` or `department`."""

    seq: int
    type: str
    occurred_at: AwareDatetime
    actor: Actor
    data: dict[str, str | int | bool | None]
    text: str | None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "seq": 5,
                    "type": "hazard.called",
                    "occurred_at": "2026-11-23T01:55:00Z",
                    "actor": "grid",
                    "data": {"status": "called", "version": 3},
                    "text": "商户拒绝清理，请街道协调",
                }
            ]
        }
    }


class Timeline(Read):
    """All steps that the caller may see, oldest first."""

    items: list[TimelineEntry]
    next_cursor: None = None
