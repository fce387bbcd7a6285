"""A whole case in one document, `jincai-case/1`: the same on the way out and on the way in."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from app.models.events import Audience
from app.models.hazard_assignments import AssignmentRole, AssignmentStatus
from app.models.hazard_comments import CommentVisibility
from app.models.hazard_results import HazardOutcome, PhotoExemption, RejectReason, UnfixedReason
from app.models.hazards import HazardLevel, HazardSource, HazardStatus, PublicState
from app.models.media import MediaPurpose, MediaReview
from app.models.sessions import PrincipalKind
from app.schemas.base import Latitude, Longitude, LongText, Moment, Read, Strict
from app.schemas.hazards import Actor

MOST: Mapping[str, int] = {
    "assignments": 5_000,
    "deadlines": 5_000,
    "comments": 20_000,
    "events": 20_000,
    "media": 1_000,
}
"""How much of everything one document may hold. Of each list the first that is malformed ends the look at it."""


def _utc(moment: datetime) -> datetime:
    """One instant has one form, or the digest would depend on how it was written."""
    return moment.astimezone(UTC)


Id = Annotated[UUID, Field(strict=False)]
Time = Annotated[Moment, AfterValidator(_utc)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Count = Annotated[int, Field(ge=0, le=100_000)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# What is stored may be longer than what is taken today; it comes back as it was.
Words = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Person = Annotated[
    str,
    StringConstraints(pattern=r"^p[1-9][0-9]{0,4}$"),
    Field(description="The same person throughout this document, and nobody outside of it."),
]
Fact = Annotated[str, StringConstraints(max_length=1_000)] | int | float | bool | None


class CasePerson(Strict):
    """Who did something: of what kind, in which role, and which of the people of this case."""

    kind: Annotated[PrincipalKind, Field(strict=False)]
    role: Actor
    person: Person | None


class CaseLocation(Strict):
    """A point in GCJ-02."""

    lng: Longitude
    lat: Latitude
    datum: Literal["gcj02"]


class CaseFacts(Strict):
    """The hazard itself. Words are null in a document without a `consent_basis`."""

    id: Id
    category_code: Code
    community_code: Code
    region_code: Code
    location: CaseLocation
    source: Annotated[HazardSource, Field(strict=False)]
    anonymous: bool
    public_state: Annotated[PublicState, Field(strict=False)]
    description: Words | None
    address: Words | None
    reporter: Person | None
    supporters: Count
    status: Annotated[HazardStatus, Field(strict=False)]
    handler: Person | None
    lead_organisation_code: Code | None
    refusals: Count
    hops: Count
    due_at: Time | None
    overdue_at: Time | None
    accepted_at: Time | None
    resolved_at: Time | None
    resolved_from: Annotated[HazardStatus, Field(strict=False)] | None
    outcome: Annotated[HazardOutcome, Field(strict=False)] | None
    unfixed_reason: Annotated[UnfixedReason, Field(strict=False)] | None
    exemption: Annotated[PhotoExemption, Field(strict=False)] | None
    dispute_until: Time | None
    disputes: Count
    closed_at: Time | None
    reject_reason: Annotated[RejectReason, Field(strict=False)] | None
    merged_into: Id | None
    rating: Annotated[int, Field(ge=1, le=5)] | None
    rating_comment: Words | None
    created_at: Time
    version: Annotated[int, Field(ge=1, le=2**31 - 1)]


class CaseAssignment(Strict):
    """One department's part in one dispatch."""

    id: Id
    organisation_code: Code
    hop: Count
    role: Annotated[AssignmentRole, Field(strict=False)]
    binding: bool
    status: Annotated[AssignmentStatus, Field(strict=False)]
    officer: Person | None
    checked_in_at: Time | None
    checked_in_location: CaseLocation | None
    distance_m: Annotated[int, Field(ge=0, le=50_000_000)] | None
    finished_at: Time | None
    created_at: Time


class CaseDeadline(Strict):
    """The clock of one level."""

    id: Id
    n: Annotated[int, Field(ge=1, le=10_000)]
    level: Annotated[HazardLevel, Field(strict=False)]
    started_at: Time
    warn_at: Time
    due_at: Time
    warned_at: Time | None
    escalated_at: Time | None
    ended_at: Time | None
    created_at: Time


class CaseComment(Strict):
    """What was said; `event_id` names the step that it came with, when that is a step of this case."""

    id: Id
    author_kind: Annotated[PrincipalKind, Field(strict=False)]
    author: Person | None
    visibility: Annotated[CommentVisibility, Field(strict=False)]
    public_state: Annotated[PublicState, Field(strict=False)]
    text: Words | None
    event_id: Id | None
    hidden_at: Time | None
    created_at: Time


class CaseEvent(Strict):
    """One step. `data` holds codes of organisations where the event holds their ids."""

    id: Id
    seq: Annotated[int, Field(ge=1, le=1_000_000)]
    type: Annotated[str, StringConstraints(pattern=r"^hazard\.[a-z_]{1,40}$")]
    audience: Annotated[Audience, Field(strict=False)]
    actor: CasePerson
    occurred_at: Time
    data: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")], Fact],
        # Pydantic refuses other names, and does not say so.
        Field(max_length=30, json_schema_extra={"additionalProperties": False}),
    ]


class CaseMedia(Strict):
    """One picture: a JPEG that `url` gives until `url_expires_at`; afterwards ask for the document again."""

    id: Id
    purpose: Annotated[MediaPurpose, Field(strict=False)]
    content_type: Literal["image/jpeg"]
    bytes: Annotated[int, Field(ge=1, le=10 * 1024 * 1024)]
    width: Annotated[int, Field(ge=1, le=12_000)]
    height: Annotated[int, Field(ge=1, le=12_000)]
    sha256: Sha256
    position: Annotated[int, Field(ge=0, le=1_000)]
    review: Annotated[MediaReview, Field(strict=False)]
    owner_kind: Annotated[PrincipalKind, Field(strict=False)]
    owner: Person | None
    created_at: Time
    url: Annotated[str, StringConstraints(max_length=2_000)] | None
    url_expires_at: Time | None


class CaseDocument(Strict):
    """A case with everything that happened to it.

    `digest` is the SHA-256, in hex, of the document as JSON without `digest`, `exported_at`, `url` and `url_expires_at`:
    keys sorted, no white space, not escaped to ASCII, times in UTC with `Z`. It finds damage; it is no signature.
    """

    format: Literal["jincai-case/1"]
    exported_at: Time
    consent_basis: LongText | None
    internal_comments: Annotated[bool, Field(description="Whether notes among staff are in it.")]
    case: CaseFacts
    assignments: Annotated[list[CaseAssignment], Field(max_length=MOST["assignments"], fail_fast=True)]
    deadlines: Annotated[list[CaseDeadline], Field(max_length=MOST["deadlines"], fail_fast=True)]
    comments: Annotated[list[CaseComment], Field(max_length=MOST["comments"], fail_fast=True)]
    events: Annotated[list[CaseEvent], Field(min_length=1, max_length=MOST["events"], fail_fast=True)]
    media: Annotated[list[CaseMedia], Field(max_length=MOST["media"], fail_fast=True)]
    digest: Sha256

    def computed_digest(self) -> str:
        """The digest that it should have."""
        facts = self.model_dump(
            mode="json",
            exclude={
                "digest": True,
                "exported_at": True,
                "media": {"__all__": {"url", "url_expires_at"}},
            },
        )
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class CaseImported(Read):
    """What became of a document: `unchanged` when the same one was imported before."""

    hazard_id: UUID
    result: Literal["imported", "unchanged"]
    events: int
    comments: int
    pictures: int
