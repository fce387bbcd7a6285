"""The people the service is for, on the wire."""

import unicodedata
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError

from app.schemas.base import Pasted, Printable, Read, Strict
from app.schemas.hazards import Id
from app.schemas.households import HouseholdBrief


def _nobody_official(name: str) -> str:
    """The public sees nicknames beside reports: none may pass for the authority that answers them."""
    plain = "".join(char for char in unicodedata.normalize("NFKC", name).casefold() if char.isalnum())
    if any(word in plain for word in _OFFICIAL):
        raise PydanticCustomError(
            "nickname_reserved", "must not sound like an official", {"zh": "昵称不能冒充官方或工作人员"}
        )
    return name


_OFFICIAL = (
    *(
        "官方",
        "客服",
        "管理员",
        "系统通知",
        "系统消息",
        "工作人员",
        "网格员",
        "网格长",
        "社区书记",
        "党委书记",
    ),
    *("社区主任", "居委会", "街道办", "派出所", "消防队", "消防大队", "城管局", "锦彩生活"),
    *("official", "customerservice", "administrator", "jincai"),
)
Nickname = Annotated[
    str,
    StringConstraints(min_length=1, max_length=30, strip_whitespace=True),
    Pasted,
    Printable,
    AfterValidator(_nobody_official),
]
RealName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=50, strip_whitespace=True),
    Pasted,
    Printable,
    Field(repr=False),
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
