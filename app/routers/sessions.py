"""Signing in, staying signed in, signing out."""

from fastapi import APIRouter, Request

from app.deps import CurrentCaller, Repeat, Session
from app.limits import client_address
from app.operation import Operation
from app.schemas.sessions import (
    SessionRead,
    SessionRefresh,
    StaffSessionCreate,
    StepUp,
    WeChatSessionCreate,
)
from app.services import credentials, logins, sessions
from app.settings import settings

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], route_class=Operation)


@router.post("/wechat", status_code=201, responses={403: {}})
async def create_wechat_session(body: WeChatSessionCreate) -> SessionRead:
    """Sign in with the code of `wx.login`. Whoever comes for the first time becomes a resident.

    401 `wechat_code_invalid`: call `wx.login` again. In the sandbox any code `demo:<name>` works, any number of times.
    """
    return await logins.sign_in_resident(body)


@router.post("/staff", status_code=201)
async def create_staff_session(request: Request, body: StaffSessionCreate) -> SessionRead:
    """Sign in with user name and password.

    401 `totp_required`: the password was right, send it again together with a code. `must_change_password` and
    `must_enrol_totp` say what has to be done before anything else is open.
    """
    return await logins.sign_in_staff(body, client_address(request.scope, settings.trusted_proxies))


@router.post("/refresh")
async def refresh_session(body: SessionRefresh) -> SessionRead:
    """Get the next pair of tokens. The refresh token is spent by it.

    A repeat within 30 seconds gets the same pair again, in case the answer was lost. Later uses end the whole session:
    somebody else may have the token.
    """
    return await sessions.refresh(body.refresh_token)


@router.delete("/current", status_code=204)
async def delete_current_session(caller: CurrentCaller, session: Session) -> None:
    """Sign out: no token of this session works any more."""
    await sessions.end_current(session, caller)


@router.post("/current/step-up", status_code=204)
async def step_up_session(body: StepUp, caller: CurrentCaller, repeat: Repeat) -> None:
    """Prove again that it is you, for five minutes of sensitive operations: by a code, or, without TOTP, by password.

    A sign-in counts as such a proof.
    """
    await credentials.prove_again(caller, body, repeat)
