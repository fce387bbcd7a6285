"""Spreadsheets of hazards for staff."""

from uuid import UUID

from fastapi import APIRouter, Response

from app.deps import CurrentCaller, ReadSession, Session
from app.models.hazard_exports import HazardExport
from app.operation import Operation
from app.schemas.hazard_exports import HazardExportCreate, HazardExportRead
from app.services import hazard_exports

router = APIRouter(prefix="/v1/hazard-exports", tags=["hazards"], route_class=Operation)

_FILES: dict[int | str, dict[str, object]] = {
    200: {"content": {kind: {} for kind in hazard_exports.CONTENT_TYPES.values()}},
    409: {},
}


@router.post("", status_code=202, response_model=HazardExportRead)
async def create_hazard_export(
    body: HazardExportCreate, caller: CurrentCaller, session: Session
) -> HazardExport:
    """Ask for a file of the hazards in your regions. It is written in the background; poll its progress."""
    return await hazard_exports.create(session, caller, body)


@router.get("/{export_id}", response_model=HazardExportRead)
async def read_hazard_export(export_id: UUID, caller: CurrentCaller, session: ReadSession) -> HazardExport:
    """How far one of your files is."""
    return await hazard_exports.read(session, caller, export_id)


@router.get("/{export_id}/file", response_class=Response, responses=_FILES)
async def download_hazard_export(export_id: UUID, caller: CurrentCaller) -> Response:
    """The finished file, for a day."""
    export, data = await hazard_exports.download(caller, export_id)
    name = f"hazards-{export.created_at:%Y%m%d}.{export.format}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=hazard_exports.CONTENT_TYPES[export.format], headers=headers)
