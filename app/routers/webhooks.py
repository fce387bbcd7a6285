"""Webhooks that we send: endpoints, deliveries, retries and replays."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query

from app.deps import CurrentCaller, IfMatch, ReadSession, Repeat, Session
from app.models.webhooks import DeliveryStatus
from app.operation import Operation
from app.outside import outside
from app.pagination import CursorParameter, Limit
from app.schemas.base import Page
from app.schemas.webhooks import (
    EventType,
    WebhookDeliveryDetail,
    WebhookDeliveryRead,
    WebhookEndpointCreate,
    WebhookEndpointCreated,
    WebhookEndpointRead,
    WebhookEndpointUpdate,
    WebhookPinged,
    WebhookReplay,
    WebhookReplayed,
    WebhookSecretRotate,
)
from app.services import webhook_delivery_lists, webhook_endpoints, webhook_queues

endpoints = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"], route_class=Operation)
deliveries = APIRouter(prefix="/v1/webhook-deliveries", tags=["webhooks"], route_class=Operation)


async def _new(body: WebhookEndpointCreate) -> WebhookEndpointCreate:
    await outside.outbound.check(body.url)
    return body


async def _revised(body: WebhookEndpointUpdate) -> WebhookEndpointUpdate:
    await outside.outbound.check(body.url)
    return body


# Asked for before the session: names are resolved while no transaction is open.
NewEndpoint = Annotated[WebhookEndpointCreate, Depends(_new)]
RevisedEndpoint = Annotated[WebhookEndpointUpdate, Depends(_revised)]


@endpoints.post("", status_code=201)
async def create_webhook_endpoint(
    body: NewEndpoint, caller: CurrentCaller, session: Session
) -> WebhookEndpointCreated:
    """Have events sent to a public https URL, signed as Standard Webhooks 1.0.0. The secret is shown this once."""
    return await webhook_endpoints.create(session, caller, body)


@endpoints.get("")
async def list_webhook_endpoints(
    caller: CurrentCaller, session: ReadSession, limit: Limit = 20, cursor: CursorParameter = None
) -> Page[WebhookEndpointRead]:
    """The endpoints of your regions, newest first."""
    return await webhook_endpoints.page(session, caller, limit, cursor)


@endpoints.get("/{endpoint_id}")
async def read_webhook_endpoint(
    endpoint_id: UUID, caller: CurrentCaller, session: ReadSession
) -> WebhookEndpointRead:
    """One endpoint."""
    found = await webhook_endpoints.find(session, caller, endpoint_id, "read_webhook_endpoint")
    return WebhookEndpointRead.model_validate(found)


@endpoints.put("/{endpoint_id}")
async def update_webhook_endpoint(
    endpoint_id: UUID,
    body: RevisedEndpoint,
    caller: CurrentCaller,
    session: Session,
    if_match: IfMatch,
) -> WebhookEndpointRead:
    """Another URL or other events."""
    return await webhook_endpoints.update(session, caller, endpoint_id, body, if_match)


@endpoints.delete("/{endpoint_id}", status_code=204)
async def delete_webhook_endpoint(
    endpoint_id: UUID, caller: CurrentCaller, session: Session, if_match: IfMatch
) -> None:
    """Send nothing ever again: what waits is not sent, secrets and deliveries are gone. There is no way back."""
    await webhook_endpoints.remove(session, caller, endpoint_id, if_match)


@endpoints.post("/{endpoint_id}/rotate-secret", status_code=201)
async def rotate_webhook_secret(
    endpoint_id: UUID, body: WebhookSecretRotate, caller: CurrentCaller, session: Session
) -> WebhookEndpointCreated:
    """A new secret. Until the overlap is over every message carries both signatures."""
    return await webhook_endpoints.rotate_secret(session, caller, endpoint_id, body)


@endpoints.post("/{endpoint_id}/enable")
async def enable_webhook_endpoint(
    endpoint_id: UUID, caller: CurrentCaller, session: Session
) -> WebhookEndpointRead:
    """Send again, beginning with what waited when it was disabled. What happened since is sent by a replay."""
    return await webhook_endpoints.enable(session, caller, endpoint_id)


@endpoints.post("/{endpoint_id}/disable")
async def disable_webhook_endpoint(
    endpoint_id: UUID, caller: CurrentCaller, session: Session
) -> WebhookEndpointRead:
    """Send nothing for now. What waits is kept; what happens meanwhile is not queued: a replay sends it later."""
    return await webhook_endpoints.disable(session, caller, endpoint_id)


@endpoints.post("/{endpoint_id}/ping")
async def ping_webhook_endpoint(endpoint_id: UUID, caller: CurrentCaller, repeat: Repeat) -> WebhookPinged:
    """Send a test message now and see what comes back."""
    return await webhook_endpoints.ping(caller, endpoint_id, repeat)


@endpoints.post("/{endpoint_id}/replay", status_code=202)
async def replay_webhook_endpoint(
    endpoint_id: UUID, body: WebhookReplay, caller: CurrentCaller, session: Session
) -> WebhookReplayed:
    """Send a window of time again with the original ids, in order."""
    return await webhook_queues.replay(session, caller, endpoint_id, body)


@deliveries.get("")
async def list_webhook_deliveries(
    caller: CurrentCaller,
    session: ReadSession,
    endpoint_id: UUID | None = None,
    status: DeliveryStatus | None = None,
    event_id: UUID | None = None,
    subject_id: UUID | None = None,
    type_: Annotated[
        EventType | None, Query(alias="type", description="`hazard.filed`, or `hazard.` for all of a kind.")
    ] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Page[WebhookDeliveryRead]:
    """Deliveries to the endpoints of your regions, newest first. `dead` ones are the dead letters."""
    return await webhook_delivery_lists.page(
        session, caller, endpoint_id, status, event_id, subject_id, type_, limit, cursor
    )


@deliveries.get("/{delivery_id}")
async def read_webhook_delivery(
    delivery_id: UUID, caller: CurrentCaller, session: ReadSession
) -> WebhookDeliveryDetail:
    """One delivery with every try: when, how long, what came back."""
    return await webhook_delivery_lists.read(session, caller, delivery_id)


@deliveries.post("/{delivery_id}/retry", status_code=202)
async def retry_webhook_delivery(
    delivery_id: UUID, caller: CurrentCaller, session: Session
) -> WebhookDeliveryRead:
    """Send a finished delivery once more, with its original id."""
    return await webhook_queues.retry(session, caller, delivery_id)
