"""Residents as staff may see them: masked, or in clear for a reason."""

from uuid import UUID

from fastapi import APIRouter

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.schemas.residents import ResidentRead
from app.schemas.reveals import ReporterReveal, ResidentReveal, Revealed
from app.services import residents, reveals

router = APIRouter(prefix="/v1", tags=["residents"], route_class=Operation)


@router.get("/residents/{resident_id}")
async def read_resident(resident_id: UUID, caller: CurrentCaller, session: ReadSession) -> ResidentRead:
    """A resident who lives, or reported something, where you work: masked."""
    return await residents.read(session, caller, resident_id)


@router.post("/residents/{resident_id}/reveal")
async def reveal_resident(
    resident_id: UUID, body: ResidentReveal, caller: CurrentCaller, session: Session
) -> Revealed:
    """See some fields in clear, for a reason that the resident can read. At most 30 reveals an hour."""
    return await reveals.of_resident(session, caller, resident_id, body)


@router.post("/hazards/{hazard_id}/reveal-reporter")
async def reveal_hazard_reporter(
    hazard_id: UUID, body: ReporterReveal, caller: CurrentCaller, session: Session
) -> Revealed:
    """See how to reach the reporter of a hazard you work on, for a reason that he can read. At most 30 an hour."""
    return await reveals.of_reporter(session, caller, hazard_id, body)
