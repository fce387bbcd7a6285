"""What callers follow: taken in when they may see it, and asked again with every event whether they still may."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    union,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from app import auth, clock, pagination
from app.auth import Caller
from app.db import signal_after_commit
from app.errors import Conflict, Forbidden, NotFound
from app.geo import Point, box_around, distance_m
from app.ids import new_id
from app.models.events import Event
from app.models.hazard_assignments import AssignmentStatus, HazardAssignment
from app.models.hazards import Hazard
from app.models.regions import RegionAncestor
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.models.staff import Grant, Staff, StaffStatus
from app.models.subscriptions import Subscription, SubscriptionKind
from app.policy import POLICY
from app.schemas.base import CoordinatesRead, Page
from app.schemas.subscriptions import (
    CategorySubscription,
    HazardSubscription,
    PointSubscription,
    RegionSubscription,
    SubscriptionCreate,
    SubscriptionRead,
)
from app.services import (
    filters,
    hazard_access,
    hazard_categories,
    hazard_views,
    places,
    residents,
    scopes,
)

PER_CALLER = 30
QUIET = timedelta(hours=1)
"""A street with a burst main has many events: one message an hour, the others wait in the app."""

_CREATE, _LIST = "create_subscription", "list_subscriptions"
_METRES_PER_LAT = distance_m(Point(0, 0), Point(0, 1))

Recipient = tuple[PrincipalKind, UUID]
Followers = dict[Recipient, list[Subscription]]


class AlreadySubscribed(Conflict):
    """Following something twice would tell of it twice; `subscription_id` is the one that is there."""

    code = "already_subscribed"
    title_en, title_zh = "You follow this already", "您已关注该内容"


class TooManySubscriptions(Conflict):
    """Nobody reads about everything; end one first."""

    code = "too_many_subscriptions"
    title_en, title_zh = f"At most {PER_CALLER} subscriptions are possible", f"最多可关注 {PER_CALLER} 项"


async def create(session: AsyncSession, caller: Caller, body: SubscriptionCreate) -> SubscriptionRead:
    """Follow something that the caller may see."""
    row = Subscription(
        id=new_id(),
        created_at=clock.now(),
        subscriber_kind=caller.kind,
        subscriber_id=caller.id,
        kind=SubscriptionKind(body.kind),
    )
    await _aim(session, caller, body, row)
    await _lock_self(session, caller)
    there = await session.scalar(
        select(Subscription.id).where(_of(caller), Subscription.target == row.target)
    )
    if there is not None:
        raise AlreadySubscribed(subscription_id=str(there))
    count = await session.scalar(select(func.count()).select_from(Subscription).where(_of(caller)))
    if (count or 0) >= PER_CALLER:
        raise TooManySubscriptions
    session.add(row)
    await session.flush()
    signal_after_commit(session, auth.topic(caller.id))
    return describe(row)


async def page(
    session: AsyncSession, caller: Caller, limit: int, cursor: str | None
) -> Page[SubscriptionRead]:
    """The caller's own, newest first."""
    last = pagination.decode_id(_LIST, cursor)
    query = select(Subscription).where(_of(caller))
    if last is not None:
        query = query.where(Subscription.id < last)
    rows = list(await session.scalars(query.order_by(Subscription.id.desc()).limit(limit + 1)))
    more = pagination.encode(_LIST, str(rows[limit - 1].id)) if len(rows) > limit else None
    return Page(items=[describe(row) for row in rows[:limit]], next_cursor=more)


async def end(session: AsyncSession, caller: Caller, subscription_id: UUID) -> None:
    """Follow it no longer."""
    gone = await session.scalar(
        delete(Subscription).where(Subscription.id == subscription_id, _of(caller)).returning(Subscription.id)
    )
    if gone is None:
        raise NotFound
    signal_after_commit(session, auth.topic(caller.id))


async def every(session: AsyncSession, caller: Caller) -> list[SubscriptionRead]:
    """All of the caller's own, oldest first."""
    rows = await session.scalars(select(Subscription).where(_of(caller)).order_by(Subscription.id))
    return [describe(row) for row in rows]


async def forget(session: AsyncSession, resident_id: UUID) -> None:
    """The resident left."""
    await session.execute(
        delete(Subscription).where(
            Subscription.subscriber_kind == PrincipalKind.RESIDENT, Subscription.subscriber_id == resident_id
        )
    )


async def followers(session: AsyncSession, hazard_ids: Collection[UUID]) -> dict[UUID, Followers]:
    """Who follows each of these hazards and may see it now, with the subscriptions that say so."""
    matches = _matches(hazard_ids).subquery()
    rows = await session.execute(
        select(matches.c.hazard_id, Subscription).join(Subscription, Subscription.id == matches.c.id)
    )
    found: dict[UUID, Followers] = defaultdict(lambda: defaultdict(list))
    for hazard_id, row in rows:
        found[hazard_id][row.subscriber_kind, row.subscriber_id].append(row)
    if not found:
        return {}
    everybody = {who for each in found.values() for who in each}
    seen = await _seen_by_residents(session, found, everybody) | await _seen_by_staff(
        session, found, everybody
    )
    return {
        hazard_id: {who: rows for who, rows in each.items() if (hazard_id, who) in seen}
        for hazard_id, each in found.items()
    }


async def residents_following(session: AsyncSession, hazard_ids: Collection[UUID]) -> set[UUID]:
    """Residents whose live stream these hazards may concern."""
    matches = _matches(hazard_ids).subquery()
    rows = await session.scalars(
        select(Subscription.subscriber_id)
        .join(matches, matches.c.id == Subscription.id)
        .where(Subscription.subscriber_kind == PrincipalKind.RESIDENT)
    )
    return set(rows)


class Voice:
    """Decides which followers get a message: always about a hazard that is followed by itself, else once in `QUIET`."""

    def __init__(self) -> None:
        self._now = clock.now()
        self._hushed: set[UUID] = set()

    def speaks(self, rows: Sequence[Subscription]) -> bool:
        """Whether a message goes out on account of these; then the wider ones among them keep quiet."""
        wide = [row for row in rows if row.kind is not SubscriptionKind.HAZARD]
        aloud = len(wide) < len(rows) or any(self._is_awake(row) for row in wide)
        if aloud:
            self._hushed |= {row.id for row in wide}
        return aloud

    async def keep(self, session: AsyncSession) -> None:
        """Write down who keeps quiet. Rows that their owner has just ended are not missed."""
        await session.execute(
            update(Subscription)
            .where(Subscription.id.in_(self._hushed))
            .values(quiet_until=self._now + QUIET)
            .execution_options(synchronize_session=False)
        )

    def _is_awake(self, row: Subscription) -> bool:
        return row.id not in self._hushed and (row.quiet_until is None or row.quiet_until <= self._now)


def about_followed(caller: Caller) -> ColumnElement[bool]:
    """Events about public hazards that a resident follows."""
    theirs = (
        select(Hazard.id)
        .join(Subscription, or_(*_CONCERNS))
        .where(Hazard.id == Event.subject_id, hazard_access.public(), _of(caller))
    )
    return and_(Event.subject_kind == Hazard.__tablename__, theirs.exists())


def describe(row: Subscription) -> SubscriptionRead:
    """One subscription as its owner sees it."""
    return SubscriptionRead(
        id=row.id,
        kind=row.kind,
        hazard_id=row.hazard_id,
        category=row.category,
        region_id=row.region_id,
        location=_location(row),
        radius_m=row.radius_m,
        created_at=row.created_at,
        quiet_until=row.quiet_until,
    )


# --- What is followed ------------------------------------------------------------------------------------------


def _concerns() -> tuple[ColumnElement[bool], ...]:
    """When a subscription is about a hazard, for each kind; together with its rows the database can use an index."""
    below = exists().where(
        RegionAncestor.region_id == Hazard.region_id, RegionAncestor.ancestor_id == Subscription.region_id
    )
    east = (Hazard.lng - Subscription.lng) * Subscription.metres_per_lng
    north = (Hazard.lat - Subscription.lat) * _METRES_PER_LAT
    kind = Subscription.kind
    return (
        Subscription.hazard_id == Hazard.id,
        and_(Subscription.category == Hazard.category, or_(Subscription.region_id.is_(None), below)),
        and_(kind == SubscriptionKind.REGION, below),
        and_(
            kind == SubscriptionKind.POINT,
            Hazard.lat.between(Subscription.south, Subscription.north),
            east * east + north * north <= Subscription.radius_m * Subscription.radius_m,
        ),
    )


_CONCERNS = _concerns()


def _matches(hazard_ids: Collection[UUID]) -> Select[UUID, UUID]:
    pairs = [
        select(Hazard.id.label("hazard_id"), Subscription.id.label("id"))
        .join(Subscription, condition)
        .where(Hazard.id.in_(hazard_ids))
        for condition in _CONCERNS
    ]
    every_kind = union_all(*pairs).subquery()
    return select(every_kind.c.hazard_id, every_kind.c.id)


def _of(caller: Caller) -> ColumnElement[bool]:
    return and_(Subscription.subscriber_kind == caller.kind, Subscription.subscriber_id == caller.id)


async def _lock_self(session: AsyncSession, caller: Caller) -> None:
    """Requests of one caller queue up, so that the limit holds and nothing is followed twice."""
    if caller.is_resident:
        await residents.lock_self(session, caller)
    else:
        await session.execute(select(Staff.id).where(Staff.id == caller.id).with_for_update(key_share=True))


async def _aim(session: AsyncSession, caller: Caller, body: SubscriptionCreate, row: Subscription) -> None:
    """Fill in the target, when the caller may see it."""
    if isinstance(body, HazardSubscription):
        row.hazard_id = (await hazard_views.find(session, caller, body.hazard_id)).id
        row.target = f"hazard:{row.hazard_id}"
    elif isinstance(body, CategorySubscription):
        await _require_category(session, caller, body.category)
        row.category, row.region_id = body.category, await _region(session, caller, body.region_id)
        row.target = f"category:{row.category}:{row.region_id or ''}"
    elif isinstance(body, RegionSubscription):
        row.region_id = await _region(session, caller, body.region_id)
        row.target = f"region:{row.region_id}"
    else:
        await _aim_at_point(session, caller, body, row)


async def _aim_at_point(
    session: AsyncSession, caller: Caller, body: PointSubscription, row: Subscription
) -> None:
    point = body.location.gcj02()
    place = await places.locate(session, point, ("body", "location"))
    await _require_at_work(session, caller, place.region_id)
    # A metre is more than anybody means, and the same place tapped twice is the same place.
    centre = Point(round(point.lng, 5), round(point.lat, 5))
    box = box_around(centre, body.radius_m)
    row.lng, row.lat, row.radius_m = centre.lng, centre.lat, body.radius_m
    row.south, row.north = box.min_lat, box.max_lat
    row.metres_per_lng = distance_m(centre, Point(centre.lng + 0.01, centre.lat)) * 100
    row.target = f"point:{centre.lng}:{centre.lat}:{body.radius_m}"


async def _require_category(session: AsyncSession, caller: Caller, code: str) -> None:
    category = await hazard_categories.usable(session, code, ("body", "category"))
    if caller.is_resident and not category.public:
        raise hazard_categories.UnknownCategory.of(
            ("body", "category"),
            hazard_categories.UnknownCategory.code,
            "is not a known category",
            "不是有效的隐患类别",
        )


async def _region(session: AsyncSession, caller: Caller, region_id: UUID | None) -> UUID | None:
    await filters.require_region(session, region_id, ("body", "region_id"))
    await _require_at_work(session, caller, region_id)
    return region_id


async def _require_at_work(session: AsyncSession, caller: Caller, region_id: UUID | None) -> None:
    """Residents may follow any place; staff where they work, departments wherever they may be sent."""
    scope = caller.scope(_CREATE)
    if caller.is_resident or region_id is None or scope.organisation_ids:
        return
    if not await scopes.covers(session, scope, region_id):
        raise Forbidden


def _location(row: Subscription) -> CoordinatesRead | None:
    if row.lng is None or row.lat is None:
        return None
    return CoordinatesRead(lng=row.lng, lat=row.lat, datum="gcj02")


# --- Who may still see it --------------------------------------------------------------------------------------

Seen = set[tuple[UUID, Recipient]]


async def _seen_by_residents(
    session: AsyncSession, hazard_ids: Iterable[UUID], everybody: Iterable[Recipient]
) -> Seen:
    ids = [who for kind, who in everybody if kind is PrincipalKind.RESIDENT]
    if not ids:
        return set()
    here = await session.scalars(
        select(Resident.id).where(Resident.id.in_(ids), Resident.deleted_at.is_(None))
    )
    public = list(
        await session.scalars(select(Hazard.id).where(Hazard.id.in_(hazard_ids), hazard_access.public()))
    )
    return {(hazard_id, (PrincipalKind.RESIDENT, who)) for who in here for hazard_id in public}


async def _seen_by_staff(
    session: AsyncSession, hazard_ids: Iterable[UUID], everybody: Iterable[Recipient]
) -> Seen:
    ids = [who for kind, who in everybody if kind is PrincipalKind.STAFF]
    if not ids:
        return set()
    held = (
        Staff.status == StaffStatus.ACTIVE,
        Grant.in_force(clock.now()),
        Grant.staff_id.in_(ids),
        Grant.role.in_(POLICY[hazard_access.READ].roles),
    )
    chosen = Hazard.id.in_(hazard_ids)
    at_place = (
        select(Hazard.id, Grant.staff_id)
        .join(RegionAncestor, RegionAncestor.region_id == Hazard.region_id)
        .join(Grant, Grant.region_id == RegionAncestor.ancestor_id)
        .join(Staff, Staff.id == Grant.staff_id)
        .where(chosen, *held)
    )
    dispatched = (
        select(HazardAssignment.hazard_id, Grant.staff_id)
        .join(Hazard, Hazard.id == HazardAssignment.hazard_id)
        .join(Grant, Grant.organisation_id == HazardAssignment.organisation_id)
        .join(Staff, Staff.id == Grant.staff_id)
        .where(chosen, HazardAssignment.status != AssignmentStatus.RELEASED, *held)
    )
    rows = await session.execute(union(at_place, dispatched))
    return {(hazard_id, (PrincipalKind.STAFF, who)) for hazard_id, who in rows}
