"""Webhook endpoints and deliveries on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints, model_validator

from app.models.webhooks import DeliveryStatus, DisabledReason, EndpointStatus, PayloadKind
from app.schemas.base import LongText, Read, ShortText, Strict

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}\.([a-z_]{1,40})?$")]
Url = Annotated[str, StringConstraints(min_length=10, max_length=2_000)]


class _Receiver(Strict):
    name: ShortText
    url: Url
    event_types: Annotated[
        list[EventType],
        Field(min_length=1, max_length=50, description="`hazard.filed`, or `hazard.` for all of a kind."),
    ]
    payload: Annotated[PayloadKind, Field(strict=False)] = PayloadKind.THIN
    consent_basis: Annotated[
        LongText | None, Field(description="For full payloads: on which legal basis they are handed over.")
    ] = None

    @model_validator(mode="after")
    def _full_needs_a_basis(self) -> "_Receiver":
        if (self.payload is PayloadKind.FULL) != (self.consent_basis is not None):
            raise ValueError("consent_basis is needed for full payloads, and only there")
        return self


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

    since: Annotated[AwareDatetime, Field(strict=False)]
    until: Annotated[AwareDatetime, Field(strict=False)]

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
