"""What personal data is used for, and what residents agree to."""

from fastapi import APIRouter

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.consents import ConsentGrant, ConsentPurposeList, ConsentRead
from app.services import consents

router = APIRouter(prefix="/v1", tags=["me"], route_class=Operation)


@router.get("/consent-purposes")
async def list_consent_purposes() -> ConsentPurposeList:
    """What personal data is used for, on which legal basis, in the words that consent is asked with."""
    return ConsentPurposeList(items=list(consents.purposes().values()))


@router.get("/me/consents")
async def list_my_consents(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[ConsentRead]:
    """What you agreed to and when, the latest first, withdrawn consents included."""
    return await consents.page(session, caller, limit, cursor)


@router.post("/me/consents", status_code=201)
async def grant_consent(body: ConsentGrant, caller: CurrentCaller, session: Session) -> ConsentRead:
    """Agree to one purpose in its current version."""
    return await consents.grant(session, caller, body)


@router.delete("/me/consents/{purpose}", status_code=204)
async def withdraw_consent(purpose: str, caller: CurrentCaller, session: Session) -> None:
    """Take a consent back. What was collected under it is erased at once; nothing else changes for you."""
    await consents.withdraw(session, caller, purpose)
