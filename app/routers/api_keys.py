"""Keys for other people's systems."""

from uuid import UUID

from fastapi import APIRouter

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.api_keys import ApiKeyCreate, ApiKeyCreated, ApiKeyRead, ApiKeyRotate
from app.schemas.base import Page
from app.services import api_keys

router = APIRouter(prefix="/v1/api-keys", tags=["api keys"], route_class=Operation)


@router.post("", status_code=201)
async def create_api_key(body: ApiKeyCreate, caller: CurrentCaller, session: Session) -> ApiKeyCreated:
    """Make a key. It is shown in this answer only; a replay of the request has null in its place."""
    return await api_keys.create(session, caller, body)


@router.get("")
async def list_api_keys(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[ApiKeyRead]:
    """The keys of your regions with their use, newest first."""
    return await api_keys.page(session, caller, limit, cursor)


@router.get("/{key_id}")
async def read_api_key(key_id: UUID, caller: CurrentCaller, session: ReadSession) -> ApiKeyRead:
    """One key with its use of the last 31 days."""
    return await api_keys.read(session, caller, key_id)


@router.post("/{key_id}/rotate", status_code=201)
async def rotate_api_key(
    key_id: UUID, body: ApiKeyRotate, caller: CurrentCaller, session: Session
) -> ApiKeyCreated:
    """A successor with the same rights. Both work during the overlap of at most 24 hours."""
    return await api_keys.rotate(session, caller, key_id, body)


@router.post("/{key_id}/revoke")
async def revoke_api_key(key_id: UUID, caller: CurrentCaller, session: Session) -> ApiKeyRead:
    """End a key now, in every process."""
    return await api_keys.revoke(session, caller, key_id)
