"""Everything stored about one resident, in clear, for that resident."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.models.hazards import HazardStatus
from app.models.households import HouseholdRelation, HouseholdStatus
from app.models.media import MediaPurpose
from app.schemas.base import CoordinatesRead, Read
from app.schemas.consents import ConsentRead
from app.schemas.media import MediaRead
from app.schemas.notifications import MessageQuotaRead, NotificationRead
from app.schemas.reveals import AccessLogEntry
from app.schemas.subscriptions import SubscriptionRead

Clear = Annotated[str | None, Field(repr=False)]


class ProfileExport(Read):
    """Who you are."""

    id: UUID
    openid: Clear
    nickname: Clear
    phone: Clear
    real_name: Clear
    id_number: Clear
    community_id: UUID | None
    language: str
    created_at: AwareDatetime


class HouseholdExport(Read):
    """Where you live or lived; the address goes when the household ends."""

    id: UUID
    community_id: UUID
    region_id: UUID
    address: Clear
    relation: HouseholdRelation
    status: HouseholdStatus
    created_at: AwareDatetime
    decided_at: AwareDatetime | None
    ended_at: AwareDatetime | None


class HazardExport(Read):
    """What you reported."""

    id: UUID
    category: str
    status: HazardStatus
    description: Clear
    address: Clear
    location: CoordinatesRead
    anonymous: bool
    rating: int | None
    rating_comment: Clear
    created_at: AwareDatetime
    closed_at: AwareDatetime | None


class CommentExport(Read):
    """What you wrote about a hazard."""

    id: UUID
    hazard_id: UUID
    text: Clear
    created_at: AwareDatetime


class SupportExport(Read):
    """A hazard that you have seen, too."""

    hazard_id: UUID
    created_at: AwareDatetime


class PictureExport(MediaRead):
    """A picture that you uploaded; the links work for a few minutes."""

    purpose: MediaPurpose
    hazard_id: UUID | None
    created_at: AwareDatetime


class SessionExport(Read):
    """A time at which you were signed in."""

    created_at: AwareDatetime
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None


class EventExport(Read):
    """Something that you did; it stays in the audit trail, which has no names."""

    type: str
    subject_kind: str
    subject_id: UUID
    occurred_at: AwareDatetime


class PersonalDataExport(Read):
    """Everything stored about you, and nothing of anybody else."""

    exported_at: AwareDatetime
    profile: ProfileExport
    consents: list[ConsentRead]
    households: list[HouseholdExport]
    hazards: list[HazardExport]
    comments: list[CommentExport]
    supports: list[SupportExport]
    pictures: list[PictureExport]
    notifications: list[NotificationRead]
    message_quotas: list[MessageQuotaRead]
    subscriptions: list[SubscriptionRead]
    sessions: list[SessionExport]
    access_log: list[AccessLogEntry]
    history: list[EventExport]
