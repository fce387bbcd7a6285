"""The people the service is for, on the wire."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from app.schemas.base import Printable, Read, Strict
from app.schemas.hazards import Id
from app.schemas.households import HouseholdBrief

Nickname = Annotated[str, StringConstraints(min_length=1, max_length=30, strip_whitespace=True), Printable]
RealName = Annotated[
    str, StringConstraints(min_length=1, max_length=50, strip_whitespace=True), Printable, Field(repr=False)
]
IdNumber = Annotated[str, StringConstraints(min_length=1, max_length=40), Field(repr=False)]
Code = Annotated[str, StringConstraints(min_length=1, max_length=100), Field(repr=False)]


class ResidentMe(Read):
    """The caller, a resident. Phone, name and number are masked even here; `GET /v1/me/export` has them in clear."""

    kind: Literal["resident"]
    id: UUID
    nickname: str | None
    phone_masked: str | None
    real_name_masked: str | None
    id_number_masked: str | None
    community_id: UUID | None
    language: str
    created_at: AwareDatetime
    version: int


class ResidentMeUpdate(Strict):
    """What is left out stays as it is; null clears the nickname or the community."""

    nickname: Nickname | None = None
    language: Literal["zh-CN", "en"] = "zh-CN"
    community_id: Id | None = None
    version: Annotated[int | None, Field(ge=1, description="Instead of `If-Match`.")] = None

    model_config = {"json_schema_extra": {"examples": [{"nickname": "老李", "language": "zh-CN"}]}}


class PhoneBind(Strict):
    """The code of WeChat's phone button, good for five minutes and once."""

    code: Code

    model_config = {"json_schema_extra": {"examples": [{"code": "demo:li"}]}}


class IdentitySet(Strict):
    """The name and the number of the resident identity card."""

    real_name: RealName
    id_number: IdNumber

    model_config = {
        "json_schema_extra": {"examples": [{"real_name": "李明", "id_number": "11010519491231002X"}]}
    }


class ResidentRead(Read):
    """A resident as staff see one: masked; `POST /v1/residents/{id}/reveal` gives the rest, with a reason."""

    id: UUID
    nickname_masked: str | None
    phone_masked: str | None
    real_name_masked: str | None
    id_number_masked: str | None
    households: Annotated[list[HouseholdBrief], Field(description="Open ones in the caller's regions.")]
    created_at: AwareDatetime
