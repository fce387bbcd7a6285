"""What the caller follows."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body
from fastapi.openapi.models import Example

from app.deps import CurrentCaller, ReadSession, Session
from app.operation import Operation
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.subscriptions import SubscriptionCreate, SubscriptionRead
from app.services import subscriptions

router = APIRouter(prefix="/v1/subscriptions", tags=["notifications"], route_class=Operation)

_EXAMPLES: dict[str, Example] = {
    "point": {"value": {"kind": "point", "location": {"lng": 104.1281, "lat": 30.6062}, "radius_m": 300}},
    "category": {"value": {"kind": "category", "category": "fire_passage_blocked"}},
}


@router.post("", status_code=201, responses={404: {"description": "The hazard is not there for you"}})
async def create_subscription(
    body: Annotated[SubscriptionCreate, Body(openapi_examples=_EXAMPLES)],
    caller: CurrentCaller,
    session: Session,
) -> SubscriptionRead:
    """Follow a hazard, a category, a region or what lies around a point, as far as you may see it.

    You are told in the app and in `GET /v1/stream`, residents through WeChat too: at once of a hazard that is followed
    by itself, otherwise at most once an hour for each subscription.
    """
    return await subscriptions.create(session, caller, body)


@router.get("")
async def list_subscriptions(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[SubscriptionRead]:
    """What you follow, newest first."""
    return await subscriptions.page(session, caller, limit, cursor)


@router.delete("/{subscription_id}", status_code=204)
async def delete_subscription(subscription_id: UUID, caller: CurrentCaller, session: Session) -> None:
    """Follow it no longer."""
    await subscriptions.end(session, caller, subscription_id)
