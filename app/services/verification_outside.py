"""Invariants of what is exchanged with the outside: deliveries in order, numbers of the district once, cases as they came."""

from sqlalchemy import exists, func, select
from sqlalchemy.orm import aliased

from app.models.cases import CaseImport
from app.models.events import Event
from app.models.hazards import Hazard
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Staff
from app.models.subscriptions import Subscription
from app.models.sync import InboundEvent, InboundStatus, SyncCase
from app.models.webhooks import (
    DeliveryStatus,
    EndpointStatus,
    WebhookAttempt,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from app.services import subscriptions
from app.services.verification_checks import Check, each, rows

_Mine = aliased(Subscription)
_Other = aliased(WebhookDelivery)
_same_stream = (
    (_Other.endpoint_id == WebhookDelivery.endpoint_id)
    & (_Other.subject_id == WebhookDelivery.subject_id)
    & (_Other.status == DeliveryStatus.QUEUED)
)
_earlier = exists().where(_same_stream, _Other.position < WebhookDelivery.position)
_queued = WebhookDelivery.status == DeliveryStatus.QUEUED
# To a deleted endpoint nothing is sent, and what was to be sent is swept in any order.
_waits = _queued & exists().where(
    WebhookEndpoint.id == WebhookDelivery.endpoint_id, WebhookEndpoint.deleted_at.is_(None)
)
_disabled = WebhookEndpoint.status == EndpointStatus.DISABLED
_deleted = WebhookEndpoint.deleted_at.is_not(None)


def _events() -> Check:
    query = (
        select(WebhookDelivery.id, WebhookDelivery.position, Event.position.label("event"))
        .outerjoin(Event, Event.id == WebhookDelivery.event_id)
        .where(Event.position.is_distinct_from(WebhookDelivery.position))
    )
    return Check(
        "webhooks.events",
        "every delivery is about a placed event and has its position",
        rows("webhook_deliveries", query),
    )


def _applied() -> Check:
    """Numbers up to `applied_seq` are all there and over but for the forgotten ones, those behind it wait."""
    over = func.count().filter(InboundEvent.status != InboundStatus.PARKED)
    last = func.coalesce(
        func.max(InboundEvent.seq).filter(InboundEvent.status != InboundStatus.PARKED), SyncCase.forgotten_seq
    )
    query = (
        select(SyncCase.id, SyncCase.applied_seq, over.label("over"), last.label("last"))
        .outerjoin(InboundEvent, InboundEvent.case_id == SyncCase.id)
        .group_by(SyncCase.id, SyncCase.applied_seq, SyncCase.forgotten_seq)
        .having(
            (over != SyncCase.applied_seq - SyncCase.forgotten_seq)
            | (last != SyncCase.applied_seq)
            | (func.min(InboundEvent.seq) <= SyncCase.forgotten_seq)
        )
    )
    return Check(
        "sync.applied",
        "the events of every case of the district are applied in order, without a gap",
        rows("sync_cases", query),
    )


def _imports() -> Check:
    """The history of an imported case begins with what came with it; what came with a case is there for no other."""
    came = func.count(Event.id)
    query = (
        select(Hazard.id, CaseImport.events, came.label("came"))
        .outerjoin(CaseImport, CaseImport.hazard_id == Hazard.id)
        .outerjoin(
            Event,
            (Event.subject_kind == Hazard.__tablename__)
            & (Event.subject_id == Hazard.id)
            & Event.imported_at.is_not(None),
        )
        .group_by(Hazard.id, CaseImport.events)
        .having(
            (func.coalesce(CaseImport.events, 0) != came) | (func.coalesce(func.max(Event.seq), 0) != came)
        )
    )
    return Check(
        "cases.imports",
        "every imported case has exactly the events that came with it, and they come first",
        rows("hazards", query),
    )


def _subscriptions() -> Check:
    resident = Subscription.subscriber_kind == PrincipalKind.RESIDENT
    staff = Subscription.subscriber_kind == PrincipalKind.STAFF
    here = exists().where(Resident.id == Subscription.subscriber_id, Resident.deleted_at.is_(None))
    employed = exists().where(Staff.id == Subscription.subscriber_id)
    return Check(
        "subscriptions.owners",
        "whoever follows something is here, and follows no more than is allowed",
        each(
            Subscription,
            {
                "of nobody": ~((resident & here) | (staff & employed)),
                "one too many": select(func.count())
                .where(
                    _Mine.subscriber_kind == Subscription.subscriber_kind,
                    _Mine.subscriber_id == Subscription.subscriber_id,
                )
                .correlate(Subscription)
                .scalar_subquery()
                > subscriptions.PER_CALLER,
            },
        ),
    )


CHECKS = (
    Check(
        "webhooks.endpoints",
        "a disabled endpoint knows since when, a deleted one is disabled and has neither a URL nor a secret",
        each(
            WebhookEndpoint,
            {
                "is disabled and does not know since when": _disabled & WebhookEndpoint.disabled_at.is_(None),
                "is deleted and active": _deleted & ~_disabled,
                "is deleted and has a URL": _deleted & (WebhookEndpoint.url != ""),
                "is deleted and has a secret": _deleted
                & exists().where(WebhookSecret.endpoint_id == WebhookEndpoint.id),
            },
        ),
    ),
    _events(),
    Check(
        "webhooks.order",
        "for every endpoint and subject the earliest that waits is ready, and no other",
        each(
            WebhookDelivery,
            {
                "waits, is the earliest, and is not ready": _waits & ~WebhookDelivery.ready & ~_earlier,
                "is ready before an earlier one is over": _waits & WebhookDelivery.ready & _earlier,
            },
        ),
    ),
    Check(
        "webhooks.ends",
        "a delivery is over once: with a time, without a lease, without kept words",
        each(
            WebhookDelivery,
            {
                "is over without a time": ~_queued & WebhookDelivery.finished_at.is_(None),
                "is over and held": ~_queued & WebhookDelivery.lease_token.is_not(None),
                "is over and keeps words": ~_queued & WebhookDelivery.body_sealed.is_not(None),
                "waits and has ended": _queued & WebhookDelivery.finished_at.is_not(None),
            },
        ),
    ),
    Check(
        "webhooks.tries",
        "a delivered one has a try that was answered with 2xx",
        each(
            WebhookDelivery,
            {
                "was delivered by no try": (WebhookDelivery.status == DeliveryStatus.DELIVERED)
                & ~exists().where(
                    WebhookAttempt.delivery_id == WebhookDelivery.id,
                    WebhookAttempt.status_code >= 200,
                    WebhookAttempt.status_code < 300,
                )
            },
        ),
    ),
    _applied(),
    _imports(),
    _subscriptions(),
)
