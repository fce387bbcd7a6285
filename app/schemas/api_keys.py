"""API keys on the wire."""

from datetime import date
from ipaddress import ip_network
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.models.api_keys import ApiScope
from app.schemas.base import Distinct, Moment, Read, ShortText, Strict


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise PydanticCustomError("network", "must be an address or a network like 203.0.113.0/24") from None


Network = Annotated[str, StringConstraints(max_length=43), AfterValidator(_network)]


class ApiKeyCreate(Strict):
    """What the key is for, where it counts and from which addresses. No addresses means from anywhere."""

    name: ShortText
    scopes: Annotated[
        list[Annotated[ApiScope, Field(strict=False)]], Field(min_length=1, max_length=10), Distinct()
    ]
    region_id: Annotated[UUID, Field(strict=False)]
    addresses: Annotated[list[Network], Field(max_length=50), Distinct()] = Field(default_factory=list)
    expires_at: Moment | None = None
    rate_limit: (
        Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}/(second|minute|hour|day)$")] | None
    ) = None

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "name": "district platform",
                    "scopes": ["events:read", "cases:read"],
                    "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                    "addresses": ["203.0.113.0/28"],
                    "rate_limit": "600/minute",
                }
            ]
        }
    }


class ApiKeyRotate(Strict):
    """How long the old key still works beside the new one."""

    overlap_hours: Annotated[int, Field(ge=0, le=24)] = 24

    model_config = {"json_schema_extra": {"examples": [{"overlap_hours": 24}]}}


class ApiKeyDay(Read):
    """Use on one business day."""

    day: date
    requests: int


class ApiKeyRead(Read):
    """A key without its secret."""

    id: UUID
    name: str
    prefix: Annotated[str, Field(description="The visible beginning, to tell keys apart.")]
    last4: str
    scopes: list[ApiScope]
    region_id: UUID
    addresses: list[str]
    rate_limit: str | None
    replaces_id: UUID | None
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    uses: list[ApiKeyDay]


class ApiKeyCreated(ApiKeyRead):
    """The answer to creating or rotating: `key` is shown this once; a replayed request has null."""

    key: Annotated[str | None, Field(repr=False)]
