"""What everybody may know and do about themselves."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.schemas.residents import ResidentMe
from app.schemas.staff import PasswordChange, RecoveryCodes, StaffMe, TotpConfirm, TotpEnrolment
from app.services import credentials, residents, staff

router = APIRouter(prefix="/v1/me", tags=["me"], route_class=Operation)

Me = Annotated[ResidentMe | StaffMe, Field(discriminator="kind")]


@router.get("", response_model=Me)
async def read_me(caller: CurrentCaller, session: ReadSession) -> ResidentMe | StaffMe:
    """Who you are. Staff see their grants and what they must do before anything else."""
    if caller.is_resident:
        return await residents.read_me(session, caller)
    return await staff.read_me(session, caller)


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
