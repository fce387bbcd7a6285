"""Consent by purpose and version: asked for, recorded, withdrawn, and demanded by what needs it."""

import hashlib
import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from uuid import UUID

from sqlalchemy import ColumnElement, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, pagination
from app.auth import Caller
from app.errors import Conflict, Forbidden, InvalidInput, NotFound
from app.ids import new_id
from app.models.base import JsonObject
from app.models.residents import Consent
from app.schemas.base import Page
from app.schemas.consents import ConsentGrant, ConsentPurposeRead, ConsentRead, LegalBasis
from app.services import residents

CONTACT_PHONE = "contact_phone"
IDENTITY = "identity"
CHANNEL = "mini_program"
_LIST = "list_my_consents"


class ConsentRequired(Forbidden):
    """This uses data for a `purpose` that the resident has not agreed to in its current `version`."""

    code = "consent_required"
    title_en, title_zh = "Your consent is needed first", "需要先征得您的同意"


class NotWithdrawable(Conflict):
    """The service cannot be given without this; nobody was asked."""

    code = "consent_not_withdrawable"
    title_en, title_zh = (
        "This needs no consent, so there is none to withdraw; deleting your account (DELETE /v1/me) ends it",
        "此项无需同意，无法撤回；注销账号（DELETE /v1/me）即可终止",
    )


@cache
def purposes() -> dict[str, ConsentPurposeRead]:
    """The register of all purposes, by code."""
    rows = json.loads(files("app").joinpath("data", "consents.json").read_bytes())["purposes"]
    return {row["code"]: ConsentPurposeRead(text_sha256=_digest(row), **row) for row in rows}


async def require(session: AsyncSession, resident_id: UUID, purpose: str) -> None:
    """403 unless the resident has agreed to this purpose as it is published now."""
    version = purposes()[purpose].version
    found = await session.scalar(
        select(Consent.id).where(*_open(resident_id, purpose), Consent.policy_version == version)
    )
    if found is None:
        raise ConsentRequired(purpose=purpose, version=version)


async def grant(session: AsyncSession, caller: Caller, body: ConsentGrant) -> ConsentRead:
    """Record a consent to the current version; saying it twice is saying it once."""
    purpose = _to_agree_to(body)
    resident = await residents.lock_self(session, caller)
    consent: Consent | None = await session.scalar(
        select(Consent).where(*_open(resident.id, purpose.code), Consent.policy_version == purpose.version)
    )
    if consent is None:
        consent = _consent(resident.id, purpose)
        session.add(consent)
        facts: JsonObject = {"purpose": purpose.code, "version": purpose.version}
        residents.record(session, caller, resident, "resident.consent_granted", facts)
    return _read(consent)


async def withdraw(session: AsyncSession, caller: Caller, purpose: str) -> None:
    """Take a consent back, in whichever version; what was collected under it goes at once."""
    if purpose not in purposes():
        raise NotFound
    if purposes()[purpose].legal_basis is not LegalBasis.CONSENT:
        raise NotWithdrawable
    resident = await residents.lock_self(session, caller)
    closed = await session.scalars(
        update(Consent)
        .where(*_open(resident.id, purpose))
        .values(withdrawn_at=clock.now())
        .returning(Consent.id)
    )
    if not list(closed):
        return
    if purpose == CONTACT_PHONE:
        resident.forget_phone()
    elif purpose == IDENTITY:
        resident.forget_identity()
    residents.record(session, caller, resident, "resident.consent_withdrawn", {"purpose": purpose})


async def withdraw_all(session: AsyncSession, resident_id: UUID, at: datetime) -> None:
    """The resident left."""
    await session.execute(update(Consent).where(*_open(resident_id)).values(withdrawn_at=at))


async def page(session: AsyncSession, caller: Caller, limit: int, cursor: str | None) -> Page[ConsentRead]:
    """The caller's answers, the latest first, withdrawn ones included."""
    before = pagination.decode_id(_LIST, cursor)
    rows = await session.scalars(
        select(Consent)
        .where(Consent.resident_id == caller.id, Consent.id < before if before else true())
        .order_by(Consent.id.desc())
        .limit(limit + 1)
    )
    found = list(rows)
    more = pagination.encode(_LIST, str(found[limit - 1].id)) if len(found) > limit else None
    return Page(items=[_read(row) for row in found[:limit]], next_cursor=more)


async def every(session: AsyncSession, resident_id: UUID) -> list[ConsentRead]:
    """All answers of one resident, oldest first."""
    rows = await session.scalars(
        select(Consent).where(Consent.resident_id == resident_id).order_by(Consent.id)
    )
    return [_read(row) for row in rows]


def _open(resident_id: UUID, purpose: str | None = None) -> list[ColumnElement[bool]]:
    conditions = [Consent.resident_id == resident_id, Consent.withdrawn_at.is_(None)]
    return conditions if purpose is None else [*conditions, Consent.purpose == purpose]


def _to_agree_to(body: ConsentGrant) -> ConsentPurposeRead:
    purpose = purposes().get(body.purpose)
    if purpose is None or purpose.legal_basis is not LegalBasis.CONSENT:
        raise InvalidInput.of(
            ("body", "purpose"),
            "unknown_purpose",
            "is not a purpose that needs consent",
            "不是需要同意的事项",
        )
    if body.version != purpose.version:
        raise InvalidInput.of(
            ("body", "version"),
            "outdated_version",
            f"the current version is {purpose.version}; show its text first",
            f"当前版本为 {purpose.version}，请先展示最新内容",
        )
    return purpose


def _consent(resident_id: UUID, purpose: ConsentPurposeRead) -> Consent:
    now = clock.now()
    return Consent(
        id=new_id(),
        created_at=now,
        resident_id=resident_id,
        purpose=purpose.code,
        policy_version=purpose.version,
        text_sha256=purpose.text_sha256,
        channel=CHANNEL,
        granted_at=now,
    )


def _digest(row: dict[str, str]) -> str:
    return hashlib.sha256(f"{row['text']}\n{row['text_en']}".encode()).hexdigest()


def _read(consent: Consent) -> ConsentRead:
    current = purposes().get(consent.purpose)
    return ConsentRead(
        id=consent.id,
        purpose=consent.purpose,
        version=consent.policy_version,
        in_force=consent.withdrawn_at is None
        and current is not None
        and current.version == consent.policy_version,
        text_sha256=consent.text_sha256,
        channel=consent.channel,
        granted_at=consent.granted_at,
        withdrawn_at=consent.withdrawn_at,
    )
