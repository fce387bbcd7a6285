"""Webhook endpoints and deliveries on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.models.webhooks import EVENT_TYPES, DeliveryStatus, DisabledReason, EndpointStatus, PayloadKind
from app.schemas.base import Distinct, LongText, Moment, Read, ShortText, Strict


def _known(kind: str) -> str:
    if kind not in _KINDS:
        english, chinese = "is no type of event, and no beginning of one", "不是任何事件类型或其前缀"
        raise PydanticCustomError("unknown_event_type", english, {"zh": chinese})
    return kind


_KINDS = (*sorted({f"{kind.partition('.')[0]}." for kind in EVENT_TYPES}), *EVENT_TYPES)
EventType = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z_]{1,40}\.([a-z_]{1,40})?$"),
    AfterValidator(_known),
    Field(json_schema_extra={"enum": list(_KINDS)}),
]
Url = Annotated[str, StringConstraints(min_length=10, max_length=2_000)]


class _Receiver(Strict):
    name: ShortText
    url: Url
    event_types: Annotated[
        list[EventType],
        Field(min_length=1, max_length=50, description="`hazard.filed`, or `hazard.` for all of a kind."),
        Distinct(),
    ]
    payload: Annotated[PayloadKind, Field(strict=False)] = PayloadKind.THIN
    consent_basis: Annotated[
        LongText | None,
        Field(
            validate_default=True,
            description="For full payloads, and only there: on which legal basis they are handed over.",
        ),
    ] = None

    @field_validator("consent_basis")
    @classmethod
    def _full_needs_a_basis(cls, basis: str | None, others: ValidationInfo) -> str | None:
        payload = others.data.get("payload")
        if payload is PayloadKind.FULL and basis is None:
            english = "must say on which legal basis full payloads are handed over"
            raise PydanticCustomError("consent_basis_needed", english, {"zh": "完整内容须写明提供的法律依据"})
        if payload is PayloadKind.THIN and basis is not None:
            english = "is for full payloads only"
            raise PydanticCustomError("consent_basis_unused", english, {"zh": "仅用于完整内容"})
        return basis


class WebhookEndpointCreate(_Receiver):
    """Where to send what happens in a region."""

    region_id: Annotated[UUID, Field(strict=False)]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "district platform",
                    "url": "https://platform.example.org/jincai",
                    "event_types": ["hazard."],
                    "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                }
            ]
        }
    }


class WebhookEndpointUpdate(_Receiver):
    """Another receiver for the same region."""

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "district platform",
                    "url": "https://platform.example.org/jincai",
                    "event_types": ["hazard."],
                }
            ]
        }
    }


class WebhookEndpointRead(Read):
    """An endpoint without its secret."""

    id: UUID
    version: int
    name: str
    url: str
    event_types: list[str]
    region_id: UUID
    payload: PayloadKind
    consent_basis: str | None
    status: EndpointStatus
    disabled_reason: DisabledReason | None
    disabled_at: Annotated[
        AwareDatetime | None,
        Field(
            description="When it was last disabled. What happened from then until it was enabled was not queued for it:"
            " a replay from then on sends it."
        ),
    ]
    failing_since: AwareDatetime | None
    created_at: AwareDatetime


class WebhookEndpointCreated(WebhookEndpointRead):
    """The answer to creating or rotating: `secret` is shown this once; a replayed request has null."""

    secret: Annotated[str | None, Field(repr=False)]


class WebhookSecretRotate(Strict):
    """How long the old secret signs beside the new one."""

    overlap_hours: Annotated[int, Field(ge=0, le=168)] = 24

    model_config = {"json_schema_extra": {"examples": [{"overlap_hours": 24}]}}


class WebhookReplay(Strict):
    """Which events to send again, with their original ids: those that occurred in [since, until)."""

    since: Moment
    until: Moment

    model_config = {
        "json_schema_extra": {
            "examples": [{"since": "2026-11-20T00:00:00Z", "until": "2026-11-21T00:00:00Z"}]
        }
    }


class WebhookReplayed(Read):
    """How many deliveries were queued."""

    queued: int


class WebhookPinged(Read):
    """What came back from a test message."""

    status_code: int | None
    error: str | None
    duration_ms: int
    excerpt: str | None


class WebhookAttemptRead(Read):
    """One try."""

    n: int
    created_at: AwareDatetime
    duration_ms: int
    status_code: int | None
    error: str | None
    excerpt: str | None


class WebhookDeliveryRead(Read):
    """One event for one endpoint."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    type: str
    subject_id: UUID
    position: int
    status: DeliveryStatus
    attempts: int
    next_at: AwareDatetime
    finished_at: AwareDatetime | None
    created_at: AwareDatetime


class WebhookDeliveryDetail(WebhookDeliveryRead):
    """The same with every try."""

    tries: list[WebhookAttemptRead]
