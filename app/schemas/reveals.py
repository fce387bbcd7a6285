"""Personal data in clear, for a reason, and the record of it, on the wire."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from app.models.staff import Role
from app.schemas.base import Distinct, Pasted, Printable, Read, Strict


class RevealField(StrEnum):
    """What can be seen in clear."""

    PHONE = "phone"
    REAL_NAME = "real_name"
    ID_NUMBER = "id_number"
    ADDRESS = "address"


class ReporterField(StrEnum):
    """What whoever handles a hazard can need to reach its reporter."""

    PHONE = "phone"
    REAL_NAME = "real_name"


Reason = Annotated[
    str,
    StringConstraints(min_length=5, max_length=500, strip_whitespace=True),
    Pasted,
    Printable,
    Field(repr=False, description="Why; the resident reads this in the access log."),
]


class ResidentReveal(Strict):
    """What is needed, and why."""

    fields: Annotated[
        list[Annotated[RevealField, Field(strict=False)]], Field(min_length=1, max_length=4), Distinct()
    ]
    reason: Reason

    model_config = {
        "json_schema_extra": {"examples": [{"fields": ["phone"], "reason": "核实住户认领，需电话联系"}]}
    }


class ReporterReveal(Strict):
    """What is needed, and why."""

    fields: Annotated[
        list[Annotated[ReporterField, Field(strict=False)]], Field(min_length=1, max_length=2), Distinct()
    ]
    reason: Reason

    model_config = {
        "json_schema_extra": {
            "examples": [{"fields": ["phone"], "reason": "现场找不到隐患位置，需联系上报人"}]
        }
    }


class AddressRevealed(Read):
    """The exact address of one open household."""

    household_id: UUID
    region_id: UUID
    address: str


class Revealed(Read):
    """What was asked for; null when it was not asked for, is not known, or this is a replay."""

    resident_id: UUID
    phone: Annotated[str | None, Field(repr=False)] = None
    real_name: Annotated[str | None, Field(repr=False)] = None
    id_number: Annotated[str | None, Field(repr=False)] = None
    addresses: Annotated[list[AddressRevealed] | None, Field(repr=False)] = None


class AccessLogEntry(Read):
    """Somebody saw some of your data: in which role, for which office, and why."""

    id: UUID
    occurred_at: AwareDatetime
    role: Role
    office: str
    office_en: str
    fields: list[RevealField]
    reason: str | None
    hazard_id: UUID | None
