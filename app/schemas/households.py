"""Who lives where, on the wire."""

from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.models.households import HouseholdRelation, HouseholdStatus
from app.schemas.base import Read, ShortText, Strict
from app.schemas.hazards import Id


class HouseholdCreate(Strict):
    """A claim. The region is the finest one known: a building, grid, compound or community."""

    region_id: Id
    address: Annotated[ShortText, Field(repr=False, description="Within that region, down to the door.")]
    relation: Annotated[HouseholdRelation, Field(strict=False)]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                    "address": "2单元301室",
                    "relation": "owner",
                }
            ]
        }
    }


class HouseholdBrief(Read):
    """One home. `address_masked` is null once the household has ended."""

    id: UUID
    community_id: UUID
    region_id: UUID
    address_masked: str | None
    relation: HouseholdRelation
    status: HouseholdStatus


class HouseholdRead(HouseholdBrief):
    """One's own household, and where its region is."""

    region_name: str
    region_name_en: str
    created_at: AwareDatetime
    decided_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    version: int


class HouseholdClaimRead(HouseholdRead):
    """A claim as staff see it: the resident masked, too."""

    resident_id: UUID
    nickname_masked: str | None
    phone_masked: str | None
    real_name_masked: str | None
