"""What everybody may know and do about themselves."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from pydantic import Field

from app import idempotency
from app.deps import CurrentCaller, IfMatch, ReadSession, Session
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.households import HouseholdCreate, HouseholdRead
from app.schemas.personal_exports import PersonalDataExport
from app.schemas.residents import IdentitySet, PhoneBind, ResidentMe, ResidentMeUpdate
from app.schemas.reveals import AccessLogEntry
from app.schemas.staff import PasswordChange, RecoveryCodes, StaffMe, TotpConfirm, TotpEnrolment
from app.services import credentials, households, personal_data, personal_exports, residents, reveals, staff

router = APIRouter(prefix="/v1/me", tags=["me"], route_class=Operation)

Me = Annotated[ResidentMe | StaffMe, Field(discriminator="kind")]


@router.get("", response_model=Me)
async def read_me(caller: CurrentCaller, session: ReadSession) -> ResidentMe | StaffMe:
    """Who you are. Staff see their grants and what they must do before anything else."""
    if caller.is_resident:
        return await residents.read_me(session, caller)
    return await staff.read_me(session, caller)


@router.put("")
async def update_me(
    body: ResidentMeUpdate, caller: CurrentCaller, session: Session, version: IfMatch
) -> ResidentMe:
    """Change your nickname, language or community."""
    return await residents.update_me(session, caller, body, version)


@router.delete("", status_code=204)
async def delete_me(caller: CurrentCaller, session: Session) -> None:
    """Delete your account: you are signed out everywhere, and what is personal is erased at once.

    What you reported stays with those who handle it, without any link to you. Signing in again makes a new account.
    """
    await personal_data.delete_me(session, caller)


@router.get("/export")
async def export_me(caller: CurrentCaller, session: ReadSession, response: Response) -> PersonalDataExport:
    """Everything stored about you, in clear."""
    response.headers["Content-Disposition"] = 'attachment; filename="jincai-personal-data.json"'
    return await personal_exports.export(session, caller)


@router.post("/phone")
async def bind_my_phone(
    body: PhoneBind,
    request: Request,
    caller: CurrentCaller,
    idempotency_key: Annotated[str | None, Header()] = None,
) -> ResidentMe:
    """Give your phone number through WeChat's phone button. Needs consent to `contact_phone`."""
    repeat = None
    if idempotency_key is not None:
        repeat = idempotency.Request(
            caller=caller,
            method="POST",
            path=request.url.path,
            key=idempotency.checked_key(idempotency_key),
            fingerprint=idempotency.fingerprint(await request.body(), "application/json"),
        )
    return await personal_data.bind_phone(caller, body.code, repeat)


@router.put("/identity")
async def set_my_identity(body: IdentitySet, caller: CurrentCaller, session: Session) -> ResidentMe:
    """Give your real name and identity number. Needs consent to `identity`."""
    return await personal_data.set_identity(session, caller, body)


@router.post("/households", status_code=201)
async def claim_household(body: HouseholdCreate, caller: CurrentCaller, session: Session) -> HouseholdRead:
    """Say where you live. Staff of the community confirm it."""
    return await households.claim(session, caller, body)


@router.get("/households")
async def list_my_households(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[HouseholdRead]:
    """Your households, the latest first, ended ones included."""
    return await households.page_mine(session, caller, limit, cursor)


@router.delete("/households/{household_id}", status_code=204)
async def end_my_household(household_id: UUID, caller: CurrentCaller, session: Session) -> None:
    """Move out, or take a claim back. Its address is erased."""
    await households.end(session, caller, household_id)


@router.get("/access-log")
async def list_my_access_log(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[AccessLogEntry]:
    """Who saw your phone number, name, identity number or address in clear: in which role, when and why."""
    return await reveals.page(session, caller, limit, cursor)


@router.put("/password", status_code=204)
async def change_my_password(body: PasswordChange, caller: CurrentCaller) -> None:
    """Change your password. Your other sessions end."""
    await credentials.change_password(caller, body)


@router.post("/totp", status_code=201)
async def enrol_my_totp(caller: CurrentCaller, session: Session) -> TotpEnrolment:
    """Get a secret for an authenticator app. It counts once a code of it was confirmed."""
    return await credentials.enrol_totp(session, caller)


@router.post("/totp/confirm")
async def confirm_my_totp(body: TotpConfirm, caller: CurrentCaller, session: Session) -> RecoveryCodes:
    """Confirm the authenticator app with a first code. Print the recovery codes; your other sessions end."""
    return await credentials.confirm_totp(session, caller, body)
