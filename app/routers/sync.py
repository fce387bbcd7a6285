"""The district platform: signed events in, comparisons, and the table of codes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app import clock, standard_webhooks
from app.deps import CurrentCaller, ReadSession, Session
from app.limits import limiter
from app.operation import Operation
from app.problems import render
from app.schemas.sync import (
    Accepted,
    Day,
    DistrictEvent,
    DriftReport,
    Mappings,
    MappingsWrite,
    OurWatermarks,
    Watermarks,
)
from app.services import code_mappings, sync, watermarks
from app.settings import settings

_MESSAGE_ID = "jincai.message_id"


class SignedOperation(Operation):
    """What is posted here is signed by the district: the raw bytes are what counts, before they are parsed."""

    async def _check_body(self, request: Request) -> None:
        if request.method != "POST":
            return
        if not settings.district_keys:
            raise sync.DistrictNotConnected
        body, now = await request.body(), clock.now()
        try:
            message_id = standard_webhooks.verify(request.headers, body, settings.district_keys, now)
        except standard_webhooks.SignatureRejected:
            await limiter.count_address(request.scope)
            raise
        request.scope[_MESSAGE_ID] = message_id


def _message_id(request: Request) -> str:
    message_id: str = request.scope[_MESSAGE_ID]
    return message_id


router = APIRouter(prefix="/v1/sync/district", tags=["district"], route_class=SignedOperation)
MessageId = Annotated[str, Depends(_message_id)]


@router.post("/events", status_code=202, response_model=Accepted)
async def receive_district_event(
    request: Request, message_id: MessageId, body: DistrictEvent, session: Session
) -> Accepted | Response:
    """An event of the district about one case, signed as Standard Webhooks 1.0.0 says.

    It is stored before this answer. Events of one case are applied in the order of `seq`; one that came too early
    waits. Repeating is harmless; the same number with another content is 409 `sync_conflict`.
    """
    accepted = await sync.receive(session, message_id, body)
    if accepted is None:
        return render(sync.SyncConflict(), request.url.path, request.headers.get("accept-language"))
    return accepted


@router.post("/watermarks")
async def compare_district_watermarks(
    message_id: MessageId, body: Watermarks, session: Session
) -> DriftReport:
    """Their counts and checksums of a day against ours, signed like events; every case that differs is named."""
    return await watermarks.compare(session, message_id, body)


@router.get("/watermarks")
async def read_watermarks(day: Day, caller: CurrentCaller, session: ReadSession) -> OurWatermarks:
    """Our counts and checksums of one business day per community."""
    return await watermarks.ours(session, caller, day)


@router.get("/mappings")
async def read_code_mappings(session: ReadSession) -> Mappings:
    """The codes of the district beside ours, and what is wrong with the table."""
    return await code_mappings.read(session)


@router.put("/mappings")
async def replace_code_mappings(body: MappingsWrite, caller: CurrentCaller, session: Session) -> Mappings:
    """Replace the table. Events that waited for a code are applied."""
    found = await code_mappings.replace(session, caller, body)
    await sync.replay(session)
    return found
