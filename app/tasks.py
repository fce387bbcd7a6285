"""Every kind of task and every schedule of the service, wired in one place."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.handlers import handle_again
from app.leases import Kind, Lease
from app.schedules import Schedule
from app.sequencer import FAILED
from app.services import (
    cleanup,
    hazard_deadlines,
    hazard_exports,
    hazards,
    login_throttle,
    media,
    messages,
    personal_data,
    retention,
    reviews,
    sessions,
    sync,
    watermark_gaps,
)

Sweep = Callable[[AsyncSession], Awaitable[int]]


def _sweeping(*sweeps: Sweep) -> Kind:
    """Run each sweep until it finds nothing, every round in a transaction of its own."""

    async def run(lease: Lease) -> None:
        for sweep in sweeps:
            found = 1
            while found:
                async with lease.transaction() as session:
                    found = await sweep(session)

    return Kind(run, attempts=3)


async def _erase_objects(lease: Lease) -> None:
    keys = lease.payload["keys"]
    if isinstance(keys, list):
        await media.erase_objects([str(key) for key in keys])


async def _clear_leftovers(_: Lease) -> None:
    await media.clear_leftovers()


async def _purge_logins(lease: Lease) -> None:
    async with lease.last_transaction() as session:
        await sessions.purge(session, clock.now())
        await login_throttle.purge(session, clock.now())


KINDS: dict[str, Kind] = {
    FAILED: Kind(handle_again, attempts=3),
    hazard_exports.TASK: Kind(hazard_exports.run, attempts=hazard_exports.ATTEMPTS),
    hazard_exports.DISCARD: Kind(hazard_exports.discard_unregistered, attempts=20),
    "hazards.close_unanswered": _sweeping(hazards.close_unanswered),
    "hazards.deadlines": _sweeping(hazard_deadlines.sweep_warnings, hazard_deadlines.sweep_escalations),
    media.DISCARD: Kind(media.discard_unregistered, attempts=20),
    "media.erase": Kind(_erase_objects, attempts=20),
    "media.resubmit": _sweeping(reviews.resubmit_unanswered),
    messages.SEND: Kind(messages.send),
    personal_data.ERASE: Kind(personal_data.erase_stragglers),
    reviews.TEXT: Kind(reviews.review_text, attempts=20),
    reviews.NICKNAME: Kind(reviews.review_nickname, attempts=20),
    reviews.MEDIA: Kind(reviews.review_media, attempts=20),
    reviews.VERDICT: Kind(reviews.apply_verdict, attempts=8),
    sync.TASK: Kind(sync.apply_case, attempts=20),
    "sync.waiting": _sweeping(sync.report_waiting),
    "sync.numbers": _sweeping(watermark_gaps.report),
    "sweep.logins": Kind(_purge_logins, attempts=3),
    "sweep.rows": _sweeping(
        cleanup.sweep,
        retention.sweep_deliveries,
        retention.sweep_deleted_endpoints,
        retention.sweep_inbound,
    ),
    "sweep.storage": Kind(_clear_leftovers, attempts=3),
    "sweep.files": _sweeping(media.erase_unused, hazard_exports.erase_expired),
}

SCHEDULES: tuple[Schedule, ...] = (
    Schedule("hazards.deadlines", timedelta(seconds=5), wanted=hazard_deadlines.is_any_due),
    Schedule("hazards.close_unanswered", timedelta(minutes=1)),
    Schedule("sync.waiting", timedelta(minutes=1), wanted=sync.is_any_overdue),
    Schedule("sync.numbers", timedelta(minutes=10), wanted=watermark_gaps.is_any_untold),
    Schedule("media.resubmit", timedelta(minutes=5), wanted=reviews.is_any_unanswered),
    Schedule("sweep.logins", timedelta(hours=1)),
    Schedule("sweep.files", timedelta(hours=1)),
    Schedule("sweep.storage", timedelta(hours=1)),
    Schedule("sweep.rows", timedelta(hours=1)),
)
