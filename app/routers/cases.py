"""Whole cases, from one service to another."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from app.deps import CurrentCaller, Repeat, Session
from app.operation import Operation
from app.schemas.base import LongText
from app.schemas.cases import CaseDocument, CaseImported
from app.services import case_documents, case_imports

router = APIRouter(tags=["district"], route_class=Operation)


@router.get("/v1/hazards/{hazard_id}/case", response_model=CaseDocument)
async def read_hazard_case(
    hazard_id: UUID,
    caller: CurrentCaller,
    session: Session,
    consent_basis: Annotated[
        LongText | None,
        Query(
            description="On which legal basis words and pictures are handed over; without one they are left out."
        ),
    ] = None,
) -> Response:
    """A whole case as `jincai-case/1`, as `POST /v1/cases` takes it: codes instead of ids, nobody's name.

    Staff also get notes among staff. Every export is on record, one with words also with its basis.
    """
    document = await case_documents.export(session, caller, hazard_id, consent_basis)
    # Not checked once more: of a long history that would hold up everybody else.
    return Response(document.model_dump_json(), media_type="application/json")


@router.post("/v1/cases", status_code=201, responses={200: {"model": CaseImported}})
async def import_case(
    body: CaseDocument, caller: CurrentCaller, repeat: Repeat, response: Response
) -> CaseImported:
    """Take a case of another service in: the same ids, times and history; nobody is told of it again.

    A document that was imported before changes nothing (200, `unchanged`); one that contradicts itself or names what is
    not here is refused whole, with every wrong field. Pictures are fetched from the links in it.
    """
    answer = await case_imports.run(caller, body, case_imports.fetched, repeat)
    if answer.result == "unchanged":
        response.status_code = 200
    return answer
