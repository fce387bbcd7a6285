"""Those who work for the community, on the wire."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from app.models.regions import RegionLevel
from app.models.staff import Role, StaffStatus
from app.schemas.base import Moment, Read, ShortText, Strict
from app.schemas.sessions import Code, Password

Id = Annotated[UUID, Field(strict=False)]
Username = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z][a-z0-9._-]{2,31}$"),
    Field(description="3 to 32 of a-z, 0-9, `.`, `_` and `-`, a letter first."),
]
ShownOnce = Annotated[
    str | None, Field(repr=False, description="Shown once; null when the answer is a replay.")
]


class GrantCreate(Strict):
    """A role, held in a region with everything below it or, for department officers, in an organisation."""

    role: Annotated[Role, Field(strict=False)]
    region_id: Id | None = None
    organisation_id: Id | None = None
    expires_at: Moment | None = None

    model_config = {
        "json_schema_extra": {
            "examples": [{"role": "grid_worker", "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"}]
        }
    }


class StaffCreate(GrantCreate):
    """A new member of staff with their first grant."""

    username: Username
    display_name: ShortText

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "username": "zhang.wei",
                    "display_name": "张伟",
                    "role": "grid_worker",
                    "region_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                }
            ]
        }
    }


class PasswordReset(Strict):
    """Whether the authenticator app is to be forgotten too, because the phone is lost."""

    drop_totp: bool = False

    model_config = {"json_schema_extra": {"examples": [{"drop_totp": True}]}}


class HandOver(Strict):
    """The colleague who takes over."""

    to_staff_id: Id

    model_config = {
        "json_schema_extra": {"examples": [{"to_staff_id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001"}]}
    }


class PasswordChange(Strict):
    """The password in use and its successor."""

    current_password: Annotated[Password, Field(repr=False)]
    new_password: Annotated[str, StringConstraints(min_length=1, max_length=1000), Field(repr=False)]

    model_config = {
        "json_schema_extra": {
            "examples": [{"current_password": "kxwp-3hn7q-vt5ab-m2c8d", "new_password": "a long passphrase"}]
        }
    }


class TotpConfirm(Strict):
    """A first code of the authenticator app."""

    totp: Annotated[Code, Field(repr=False)]

    model_config = {"json_schema_extra": {"examples": [{"totp": "492039"}]}}


class RegionBrief(Read):
    """A place by name."""

    id: UUID
    code: str
    level: RegionLevel
    name: str
    name_en: str


class OrganisationBrief(Read):
    """An organisation by name."""

    id: UUID
    code: str
    name: str
    name_en: str


class GrantRead(Read):
    """One grant; either the region or the organisation is null."""

    id: UUID
    role: Role
    region: RegionBrief | None
    organisation: OrganisationBrief | None
    expires_at: datetime | None


class StaffRead(Read):
    """A member of staff. Auditors see the name masked."""

    id: UUID
    username: str
    display_name: str
    status: StaffStatus
    region_id: UUID | None
    must_change_password: bool
    totp_enrolled: bool
    created_at: datetime
    version: int
    grants: list[GrantRead]


class StaffCreated(StaffRead):
    """With the password that has to be changed at the first sign-in."""

    temporary_password: ShownOnce


class HandedOver(Read):
    """How many open hazards changed hands."""

    hazards: int


class TemporaryPassword(Read):
    """The password that has to be changed at the next sign-in."""

    temporary_password: ShownOnce


class TotpEnrolment(Read):
    """What the authenticator app needs; `provisioning_uri` is for a QR code."""

    secret: ShownOnce
    provisioning_uri: ShownOnce


class RecoveryCodes(Read):
    """One-time codes to print, each good instead of one TOTP code."""

    recovery_codes: Annotated[
        list[str] | None, Field(repr=False, description="Shown once; null when the answer is a replay.")
    ]


class StaffMe(Read):
    """The caller, a member of staff."""

    kind: Literal["staff"]
    id: UUID
    username: str
    display_name: str
    must_change_password: bool
    must_enrol_totp: bool
    totp_enrolled: bool
    grants: list[GrantRead]
