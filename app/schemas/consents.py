"""What personal data is used for, and what a resident agreed to, on the wire."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from app.schemas.base import Read, ShortText, Strict


class LegalBasis(StrEnum):
    """Why data may be used (PIPL article 13); only `consent` has to be asked for."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_DUTY = "legal_duty"


class ConsentPurposeRead(Read):
    """One purpose in its current version. `text_sha256` covers both texts, the Chinese one first."""

    code: str
    version: str
    legal_basis: LegalBasis
    sensitive: bool
    data: list[str]
    title: str
    title_en: str
    text: str
    text_en: str
    text_sha256: str


class ConsentPurposeList(Read):
    """All purposes."""

    items: list[ConsentPurposeRead]
    next_cursor: None = None


class ConsentGrant(Strict):
    """The purpose agreed to, in the version that was shown."""

    purpose: ShortText
    version: Annotated[ShortText, Field(description="`version` of the purpose as it was shown.")]

    model_config = {"json_schema_extra": {"examples": [{"purpose": "contact_phone", "version": "1"}]}}


class ConsentRead(Read):
    """One answer. It counts while it is not withdrawn and `version` is the current one of the purpose."""

    id: UUID
    purpose: str
    version: str
    in_force: bool
    text_sha256: str
    channel: str
    granted_at: AwareDatetime
    withdrawn_at: AwareDatetime | None
