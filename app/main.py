"""What runs: the application, its routers one by one, and what is opened and closed with it."""

import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app import __version__, api_key_auth, clock, docs_pages, logs, problems, worker
from app.db import database, sqlite_has_wal_bug
from app.direct import Direct
from app.directory import Directory
from app.edge import BODY_SECONDS, Edge
from app.errors import Problem
from app.limits import limiter
from app.models.base import JsonObject
from app.openapi import document
from app.outside import SANDBOX_PATH, outside
from app.routers import (
    api_keys,
    cases,
    consents,
    events,
    hazard_categories,
    hazard_exports,
    hazards,
    households,
    me,
    media,
    notifications,
    open311,
    operations,
    organisations,
    regions,
    residents,
    sessions,
    staff,
    stream,
    subscriptions,
    sync,
    webhooks,
    wechat,
)
from app.sandbox.wechat import create_sandbox
from app.services import key_checks
from app.services.key_checks import WrongKeys
from app.services.operations import weak_durability
from app.settings import settings

# A request is compared with one route after another: what is asked most often comes first.
ROUTERS = (
    hazards.router,
    operations.router,
    sessions.router,
    me.router,
    consents.router,
    households.router,
    residents.router,
    staff.router,
    regions.router,
    organisations.router,
    media.router,
    hazard_categories.router,
    hazard_exports.router,
    api_keys.router,
    events.router,
    cases.router,
    sync.router,
    open311.router,
    webhooks.endpoints,
    webhooks.deliveries,
    notifications.router,
    subscriptions.router,
    stream.router,
    wechat.router,
)
_OBJECTS_PER_COLLECTION = 50_000
_log = structlog.get_logger("main")


class Application(FastAPI):
    """FastAPI with our OpenAPI document, inside our edge, and with a way past its layers for what is hot."""

    def __init__(self, directory: Directory, body_seconds: float, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.router.routes.append(directory)
        direct = Direct(directory, super().__call__)
        self._edge = Edge(direct, hsts=settings.env == "prod", cors=_cors, body_seconds=body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: to the edge, and from there to the operation itself or through the framework."""
        await self._edge(scope, receive, send)

    def openapi(self) -> JsonObject:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = document(self)
        return self.openapi_schema


def create_app(routers: Sequence[APIRouter] = ROUTERS, *, body_seconds: float = BODY_SECONDS) -> FastAPI:
    """The whole service as one ASGI application. Ends the process when production is not set up for it."""
    _refuse_unsafe_settings()
    logs.configure(settings.log_format)
    sandbox = _sandbox() if settings.sandbox_wechat else None
    app = Application(
        Directory(routers),
        body_seconds,
        title="Jincai Life",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nobody collects it, and to ask whether somebody does costs more than our own log line.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lambda _: _lifespan(sandbox),
    )
    for router in routers:
        app.include_router(router)
    app.router.routes.extend(docs_pages.routes)
    if sandbox is not None:
        app.mount(SANDBOX_PATH, sandbox)
    problems.install(app)
    return app


def _refuse_unsafe_settings() -> None:
    found = settings.problems()
    if found:
        sys.exit("\n".join(["jincai refuses to start:", *found]))


def _sandbox() -> Starlette:
    return create_sandbox(push_url=f"{settings.base_url}/v1/wechat/push", clock=clock.now)


def _cors(app: ASGIApp) -> ASGIApp:
    """Off unless configured: the mini-program is no browser."""
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "If-Match", "X-Request-Id"],
        expose_headers=[
            "ETag",
            "Idempotent-Replayed",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "X-Request-Id",
        ],
    )


@asynccontextmanager
async def _lifespan(sandbox: Starlette | None) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await database.open()
        stack.push_async_callback(database.close)
        stack.push_async_callback(limiter.close)
        if sandbox is not None:
            # A mounted application is not told of start and end.
            await stack.enter_async_context(sandbox.router.lifespan_context(sandbox))
        await stack.enter_async_context(outside.opened(sandbox))
        await _require_keys()
        await stack.enter_async_context(api_key_auth.counting())
        await _tell_what_is_odd(sandbox)
        if settings.worker == "embedded":
            await stack.enter_async_context(worker.embedded())
        # What lives now lives until the end: the collector need not look at it with every request, nor run for each,
        # for requests leave no cycles behind.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS_PER_COLLECTION)
        yield
    logs.flush()


async def _require_keys() -> None:
    """Not to start beats to write what nobody can read. A database that is away is asked again by `/readyz`."""
    try:
        await key_checks.require()
    except WrongKeys as wrong:
        _log.critical("wrong_keys", reason=wrong.detail("en"))
        raise
    except (Problem, SQLAlchemyError):
        return


async def _tell_what_is_odd(sandbox: Starlette | None) -> None:
    if sandbox is not None:
        _log.warning("sandbox_wechat", url=f"{settings.base_url}{SANDBOX_PATH}")
    if settings.is_sqlite and sqlite_has_wal_bug():
        _log.warning(
            "sqlite_wal_bug", reason="one connection writes; another process must not write to the file"
        )
    try:
        weak = await weak_durability()
    except Problem:
        _log.warning("database_unavailable")
        return
    if weak is not None:
        _log.error("database_not_durable", reason=weak)


app = create_app()
