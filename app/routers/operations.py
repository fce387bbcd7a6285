"""What keeps the service running: is it alive, is it ready, how is it doing. No business, no personal data."""

from fastapi import APIRouter, Response

from app import __version__, metrics
from app.operation import Operation
from app.schemas.operations import Health
from app.services import operations

router = APIRouter(tags=["operations"], route_class=Operation)


@router.get("/healthz")
async def read_healthz() -> Health:
    """The process answers; whether it can do its work is what `/readyz` says."""
    return Health(status="ok", version=__version__)


@router.get("/readyz")
async def read_readyz() -> Health:
    """The database answers and is migrated, and files can be stored; otherwise 503 with what failed in `failed`."""
    await operations.readiness.require()
    return Health(status="ok", version=__version__)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus text format", "content": {"text/plain": {}}}},
)
async def read_metrics() -> Response:
    """Counters and gauges for Prometheus. Keep this path away from the public at the proxy."""
    await operations.refresh_metrics()
    return Response(metrics.exposition(), media_type=metrics.CONTENT_TYPE)
