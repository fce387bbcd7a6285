"""Signing in on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from app.schemas.base import Read, ShortText, Strict

Password = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Code = Annotated[str, StringConstraints(min_length=6, max_length=40)]

_HIDDEN = Field(repr=False)
_CODE = Field(repr=False, description="Six digits of the authenticator app, or a recovery code.")


class WeChatSessionCreate(Strict):
    """The code of `wx.login`; the community is kept when the resident has none yet."""

    code: Annotated[ShortText, _HIDDEN]
    community_id: Annotated[UUID | None, Field(strict=False)] = None

    model_config = {"json_schema_extra": {"examples": [{"code": "demo:li"}]}}


class StaffSessionCreate(Strict):
    """User name and password, and the second factor of those who have one."""

    username: ShortText
    password: Annotated[Password, _HIDDEN]
    totp: Annotated[Code | None, _CODE] = None

    model_config = {
        "json_schema_extra": {
            "examples": [{"username": "zhang.wei", "password": "a long passphrase", "totp": "492039"}]
        }
    }


class SessionRefresh(Strict):
    """The refresh token; it is spent by this."""

    refresh_token: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,100}$"), _HIDDEN]

    model_config = {"json_schema_extra": {"examples": [{"refresh_token": "jcr_9aK..."}]}}


class StepUp(Strict):
    """The second factor; the password for those who have none."""

    totp: Annotated[Code | None, _CODE] = None
    password: Annotated[Password | None, _HIDDEN] = None

    model_config = {"json_schema_extra": {"examples": [{"totp": "492039"}]}}


class ResidentPrincipal(Read):
    """A resident who signed in."""

    kind: Literal["resident"]
    id: UUID
    community_id: UUID | None


class StaffPrincipal(Read):
    """A member of staff who signed in, and what they must do before anything else."""

    kind: Literal["staff"]
    id: UUID
    must_change_password: bool
    must_enrol_totp: bool


class SessionRead(Read):
    """The tokens of one sign-in. `expires_in` is of the access token, in seconds."""

    access_token: Annotated[str, _HIDDEN]
    refresh_token: Annotated[str, _HIDDEN]
    token_type: Literal["Bearer"]
    expires_in: int
    principal: Annotated[ResidentPrincipal | StaffPrincipal, Field(discriminator="kind")]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "access_token": "jcs_3vQ...",
                    "refresh_token": "jcr_9aK...",
                    "token_type": "Bearer",
                    "expires_in": 1800,
                    "principal": {
                        "kind": "resident",
                        "id": "01938b5e-7c1a-7d2e-9f00-3a51f0c2b001",
                        "community_id": None,
                    },
                }
            ]
        }
    }
