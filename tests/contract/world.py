"""A small world in which everybody who could possibly call meets everything that could possibly be called about."""

import itertools
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import api_key_format, clock, standard_webhooks, totp
from app.auth import Caller
from app.crypto import new_token
from app.db import database
from app.ids import new_id
from app.keys import keyring, seal
from app.models.api_keys import ApiKey, ApiScope
from app.models.events import Event
from app.models.hazard_exports import ExportFormat, ExportStatus, HazardExport
from app.models.hazard_results import HazardOutcome, UnfixedReason
from app.models.hazards import Hazard, HazardStatus, PublicState
from app.models.households import HouseholdRelation
from app.models.media import MediaPurpose
from app.models.notifications import Notification, NotificationStatus
from app.models.regions import Region
from app.models.sessions import LoginSession, PrincipalKind
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.models.subscriptions import Subscription, SubscriptionKind
from app.models.webhooks import (
    DeliveryStatus,
    DisabledReason,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from app.outside import outside
from app.policy import Duty
from app.schemas.base import Coordinates
from app.schemas.consents import ConsentGrant
from app.schemas.hazards import HazardCheckIn, HazardCreate, HazardDispatch, HazardResolve
from app.schemas.households import HouseholdCreate
from app.services import consents, hazard_assignments, hazards, households, media, personal_data, sessions
from tests.factories import Person, Places, make_organisation, make_regions, make_resident, make_staff
from tests.media.pictures import encoded, quadrants
from tests.signing_in import code_of
from tests.stories import pictures

PARENT = {
    "building": "grid",
    "grid": "community",
    "other_grid": "community",
    "community": "street",
    "neighbour_grid": "neighbour",
    "neighbour": "street",
    "street": "district",
    "far_grid": "far_community",
    "far_community": "far_street",
    "far_street": "district",
}
"""The tree of `Places`, as it is meant; the service has it in a table of its own."""

DEPARTMENT, OTHER_DEPARTMENT = "department", "other department"
PUBLIC, PRIVATE = "fire_passage_blocked", "elderly_in_danger"
_REGIONAL = [role for role in Role if role is not Role.DEPARTMENT_OFFICER]
_HELD_AT = ("grid", "community", "street", "far_street", "neighbour", "building")
CLOSED_URL = "http://127.0.0.1:9/hook"
_numbers = itertools.count(1)


class Token(StrEnum):
    """What stands in the `Authorization` header."""

    NONE = "none"
    GOOD = "good"
    BAD = "bad"
    ELSEWHERE = "elsewhere"
    """A good key that is sent from an address where it does not count."""


@dataclass(frozen=True)
class Principal:
    """Somebody who calls. `held_at` is where staff hold their role: a region of `PARENT`, or an organisation.

    A system has `scopes` and calls with a key that counts at `held_at`.
    """

    name: str
    token: Token = Token.GOOD
    role: Role | None = None
    held_at: str | None = None
    resident: str | None = None
    owes: Duty | None = None
    stepped_up: bool = True
    scopes: frozenset[ApiScope] = frozenset()

    @property
    def is_staff(self) -> bool:
        """With a token that is good."""
        return self.token is Token.GOOD and self.resident is None and not self.scopes

    def covers(self, region: str) -> bool:
        """Whether their role is held at this region or anywhere above it."""
        above: str | None = region
        while above is not None:
            if above == self.held_at:
                return True
            above = PARENT.get(above)
        return False


PRINCIPALS = (
    Principal("nobody", Token.NONE),
    Principal("garbage token", Token.BAD),
    Principal("unknown token", Token.BAD),
    Principal("refresh token", Token.BAD),
    Principal("expired token", Token.BAD),
    Principal("signed out", Token.BAD),
    Principal("disabled staff", Token.BAD),
    Principal("deleted resident", Token.BAD),
    Principal("the reporter", resident="community"),
    Principal("a neighbour", resident="community"),
    Principal("a resident of elsewhere", resident="far_community"),
    Principal("a resident of nowhere", resident="nowhere"),
    Principal("staff without a role"),
    Principal("staff whose role ended"),
    Principal(
        "staff with a temporary password", role=Role.DISTRICT_ADMIN, held_at="grid", owes=Duty.CHANGE_PASSWORD
    ),
    Principal("staff without their TOTP", role=Role.DISTRICT_ADMIN, held_at="grid", owes=Duty.ENROL_TOTP),
    Principal("staff without a fresh TOTP", role=Role.DISTRICT_ADMIN, held_at="grid", stepped_up=False),
    *(Principal(f"{role} of the {at}", role=role, held_at=at) for role in _REGIONAL for at in _HELD_AT),
    *(
        Principal(f"officer of the {at}", role=Role.DEPARTMENT_OFFICER, held_at=at)
        for at in (DEPARTMENT, OTHER_DEPARTMENT)
    ),
    *(
        Principal(f"key for {scope} of the {at}", held_at=at, scopes=frozenset({scope}))
        for scope in ApiScope
        for at in ("grid", "street", "far_street")
    ),
    Principal("key for everything", held_at="district", scopes=frozenset(ApiScope)),
    Principal("key from elsewhere", Token.ELSEWHERE, held_at="grid", scopes=frozenset(ApiScope)),
    Principal("garbage key", Token.BAD),
    Principal("unknown key", Token.BAD),
    Principal("revoked key", Token.BAD),
    Principal("expired key", Token.BAD),
    Principal("key with a token", Token.BAD),
)
NAMED = {principal.name: principal for principal in PRINCIPALS}


@dataclass(frozen=True)
class World:
    """Everybody, signed in, and whom things belong to: the reporter, the worker of the grid, its officers."""

    places: Places
    department: UUID
    other_department: UUID
    people: Mapping[str, Person]
    keys: Mapping[str, str]
    worker: Person
    manager: Person
    dispatcher: Person
    spare_worker: Person
    known_resident: UUID
    photo: UUID
    callers: Mapping[UUID, Caller]

    def region(self, name: str) -> UUID:
        """The id of a region of `PARENT`."""
        found: UUID = getattr(self.places, name)
        return found

    def headers(self, principal: Principal) -> dict[str, str]:
        """What their requests carry."""
        if principal.token is Token.NONE:
            return {}
        if principal.name in self.keys:
            with_token = self.reporter.headers if principal.name == "key with a token" else {}
            return {"X-API-Key": self.keys[principal.name], **with_token}
        return self.people[principal.name].headers

    @property
    def reporter(self) -> Person:
        return self.people["the reporter"]

    @property
    def officer(self) -> Person:
        return self.people[f"officer of the {DEPARTMENT}"]

    async def keep_stepped_up(self) -> None:
        """Five minutes of a fresh TOTP may not be enough for a long test."""
        ids = [self.people[each.name].id for each in PRINCIPALS if each.is_staff and each.stepped_up]
        async with database.transaction() as session:
            await session.execute(
                update(LoginSession)
                .where(LoginSession.principal_id.in_(ids))
                .values(stepped_up_at=clock.now())
            )

    async def community_code(self) -> str:
        """What the district calls the community."""
        async with database.reading() as session:
            return (
                await session.scalars(select(Region.code).where(Region.id == self.places.community))
            ).one()

    async def api_key(self, at: str = "grid") -> UUID:
        """A key of somebody else's system."""
        return (await _make_key(self.region(at), [ApiScope.EVENTS_READ]))[0]

    async def endpoint(self, *, disabled: bool = False) -> UUID:
        """A receiver of what happens in the grid, where nobody listens."""
        row = WebhookEndpoint(
            id=new_id(),
            name="区平台",
            url=CLOSED_URL,
            event_types=["region."],
            region_id=self.places.grid,
            event_seq=0,
        )
        secret = WebhookSecret(id=new_id(), created_at=clock.now(), endpoint_id=row.id)
        seal(secret, "secret", standard_webhooks.new_secret())
        async with database.transaction() as session:
            session.add(row)
            await session.flush()
            session.add(secret)
            if disabled:
                row.disable(DisabledReason.BY_STAFF, clock.now())
        return row.id

    async def delivery(self) -> UUID:
        """A dead letter for such a receiver."""
        hazard_id, endpoint_id = await self.hazard(), await self.endpoint(disabled=True)
        async with database.transaction() as session:
            event = (await session.scalars(select(Event).where(Event.subject_id == hazard_id).limit(1))).one()
            row = WebhookDelivery(
                id=new_id(),
                endpoint_id=endpoint_id,
                event_id=event.id,
                type=event.type,
                subject_id=hazard_id,
                position=event.position or 1,
                status=DeliveryStatus.DEAD,
                ready=False,
                next_at=clock.now(),
                finished_at=clock.now(),
            )
            session.add(row)
        return row.id

    async def twin(self, principal: Principal) -> Person:
        """Somebody just like them, for a request that uses its caller up."""
        if principal.token is not Token.GOOD:
            return self.reporter
        return await _person(self.places, (self.department, self.other_department), principal)

    async def hazard(
        self,
        status: HazardStatus = HazardStatus.FILED,
        *,
        at: str = "grid",
        category: str = PUBLIC,
        handler: Person | None = None,
        reporter: Person | None = None,
    ) -> UUID:
        """A hazard that came as far as this; departments are on it from `dispatched` on."""
        reporter = reporter or self.reporter
        # Not of today, when nobody may upload so many.
        [picture] = await pictures(reporter, created_at=clock.now() - timedelta(days=2))
        body = HazardCreate(
            category=category,
            description="3栋1单元消防通道堆满纸箱",
            media_ids=[UUID(picture)],
            location=self._coordinates(at),
            address="3栋1单元门口",
        )
        filer, worker = await self._known(reporter), await self._known(handler or self.worker)
        async with database.transaction() as session:
            hazard = (await hazards.file(session, filer, body)).hazard
            if status is not HazardStatus.FILED:
                await hazards.accept(session, worker, hazard.id)
            if status not in (HazardStatus.FILED, HazardStatus.ACCEPTED):
                await hazards.call_street(session, worker, hazard.id, None)
                await self._through_department(session, hazard, status)
            if status is HazardStatus.CLOSED:
                await hazards.confirm(session, filer, hazard.id)
        return hazard.id

    async def _through_department(self, session: AsyncSession, hazard: Hazard, status: HazardStatus) -> None:
        dispatcher, officer = self.callers[self.dispatcher.id], self.callers[self.officer.id]
        if status is HazardStatus.CALLED:
            return
        order = HazardDispatch(lead_organisation_id=self.department)
        await hazard_assignments.dispatch(session, dispatcher, hazard.id, order)
        if status is HazardStatus.DISPATCHED:
            return
        arrival = HazardCheckIn(location=Coordinates(lng=hazard.lng, lat=hazard.lat))
        await hazard_assignments.check_in(session, officer, hazard.id, arrival)
        if status is not HazardStatus.CHECKED_IN:
            result = HazardResolve(outcome=HazardOutcome.UNFIXED, unfixed_reason=UnfixedReason.OUT_OF_SCOPE)
            await hazards.resolve(session, officer, hazard.id, result)

    async def flag(self, hazard_id: UUID) -> None:
        """The content check did not like the words."""
        async with database.transaction() as session:
            await session.execute(
                update(Hazard).where(Hazard.id == hazard_id).values(public_state=PublicState.HIDDEN)
            )

    def _coordinates(self, at: str) -> Coordinates:
        lng, lat = self.places.centres[self.region(at)]
        return Coordinates(lng=lng, lat=lat)

    async def household(self, at: str = "building", resident: Person | None = None) -> UUID:
        """A claim of the reporter, or of somebody else."""
        resident = resident or await make_resident(self.region("community"))
        async with database.transaction() as session:
            body = HouseholdCreate(
                region_id=self.region(at),
                address=f"2单元{next(_numbers)}室",
                relation=HouseholdRelation.OWNER,
            )
            return (await households.claim(session, await resident.caller(), body)).id

    async def colleague(self, at: str = "grid") -> tuple[Person, UUID]:
        """A grid worker of the grid, and their grant."""
        person = await make_staff(Role.GRID_WORKER, self.region(at))
        async with database.reading() as session:
            grant = await session.scalar(select(Grant.id).where(Grant.staff_id == person.id))
        assert grant is not None
        return person, grant

    async def disable(self, person: Person) -> None:
        """Somebody is let go."""
        async with database.transaction() as session:
            (await session.get_one(Staff, person.id)).disable()

    async def subscription(self, who: Person, kind: PrincipalKind) -> UUID:
        """Something that somebody follows."""
        row = Subscription(
            id=new_id(),
            subscriber_kind=kind,
            subscriber_id=who.id,
            kind=SubscriptionKind.REGION,
            region_id=self.places.grid,
            target=f"test:{next(_numbers)}",
        )
        async with database.transaction() as session:
            session.add(row)
        return row.id

    async def notification(self, person: Person) -> UUID:
        """Something that one person was told."""
        row = Notification(
            id=new_id(),
            created_at=clock.now(),
            recipient_kind=PrincipalKind.STAFF if person.username else PrincipalKind.RESIDENT,
            recipient_id=person.id,
            event_id=new_id(),
            type="hazard.accepted",
            subject_kind="hazards",
            subject_id=new_id(),
            status=NotificationStatus.SKIPPED,
        )
        async with database.transaction() as session:
            session.add(row)
        return row.id

    async def export(self, person: Person) -> UUID:
        """A finished file that one member of staff asked for."""
        row = HazardExport(
            id=new_id(),
            staff_id=person.id,
            format=ExportFormat.CSV,
            filters={},
            status=ExportStatus.DONE,
            expires_at=clock.now() + timedelta(hours=1),
        )
        row.storage_key = f"exports/{row.id}.csv"
        seal(row, "reason", "周例会材料")
        await outside.storage.put(row.storage_key, b"id\r\n")
        async with database.transaction() as session:
            session.add(row)
        return row.id

    async def offer_totp(self, person: Person) -> str:
        """Somebody scanned a secret with their app; the code that it shows."""
        secret = totp.new_secret()
        async with database.transaction() as session:
            staff = await session.get_one(Staff, person.id)
            seal(staff, "totp_pending", secret)
        return code_of(replace(person, totp_secret=secret))

    async def consent(self, person: Person, purpose: str) -> None:
        """Somebody agrees."""
        async with database.transaction() as session:
            body = ConsentGrant(purpose=purpose, version=consents.purposes()[purpose].version)
            await consents.grant(session, await person.caller(), body)

    async def _known(self, person: Person) -> Caller:
        return self.callers.get(person.id) or await person.caller()


async def make_world() -> World:
    """A world of its own; about a second."""
    places = await make_regions()
    departments = await make_organisation(places.district), await make_organisation(places.district)
    people = {
        each.name: await _person(places, departments, each)
        for each in PRINCIPALS
        if each.token is Token.GOOD and not each.scopes
    } | await _strangers(places)
    worker = await make_staff(Role.GRID_WORKER, places.community)
    spare_worker = await make_staff(Role.GRID_WORKER, places.community)
    manager = await make_staff(Role.COMMUNITY_MANAGER, places.community)
    dispatcher = await make_staff(Role.STREET_DISPATCHER, places.street)
    known_resident = await make_resident(places.community)
    known = [people["the reporter"], people[f"officer of the {DEPARTMENT}"], worker, manager, dispatcher]
    known += [people[each.name] for each in PRINCIPALS if each.role is Role.GRID_WORKER]
    callers = {person.id: await person.caller() for person in known}
    photo = await media.upload(callers[known[0].id], encoded(quadrants()), MediaPurpose.HAZARD, None)
    world = World(
        places=places,
        department=departments[0],
        other_department=departments[1],
        people=people,
        keys=await _keys(places),
        worker=worker,
        manager=manager,
        dispatcher=dispatcher,
        spare_worker=spare_worker,
        known_resident=known_resident.id,
        photo=photo.id,
        callers=callers,
    )
    await world.household("grid", known_resident)
    await world.hazard(HazardStatus.DISPATCHED, reporter=known_resident)
    return world


async def _person(places: Places, departments: tuple[UUID, UUID], principal: Principal) -> Person:
    if principal.resident is not None:
        community = None if principal.resident == "nowhere" else getattr(places, principal.resident)
        return await make_resident(community)
    if principal.role is None:
        return await _without_a_role(places, ended="ended" in principal.name)
    if principal.role is Role.DEPARTMENT_OFFICER:
        organisation_id = departments[principal.held_at == OTHER_DEPARTMENT]
        return await make_staff(principal.role, organisation_id=organisation_id)
    return await make_staff(
        principal.role,
        getattr(places, principal.held_at or ""),
        stepped_up=principal.stepped_up,
        with_totp=False if principal.owes is Duty.ENROL_TOTP else None,
        must_change_password=principal.owes is Duty.CHANGE_PASSWORD,
    )


async def _without_a_role(places: Places, *, ended: bool) -> Person:
    person = await make_staff(Role.DISTRICT_ADMIN if ended else None, places.district, with_totp=ended)
    if ended:
        async with database.transaction() as session:
            await session.execute(
                update(Grant).where(Grant.staff_id == person.id).values(expires_at=_an_hour_ago())
            )
    return person


async def _strangers(places: Places) -> dict[str, Person]:
    """People whose token is no good, each for another reason."""
    expired, gone = await make_resident(places.community), await make_resident(places.community)
    out = await make_staff(Role.DISTRICT_ADMIN, places.district)
    disabled = await make_staff(Role.DISTRICT_ADMIN, places.district)
    async with database.transaction() as session:
        await session.execute(
            update(LoginSession)
            .where(LoginSession.access_digest == keyring.token_digest(expired.token))
            .values(access_expires_at=_an_hour_ago())
        )
        await session.execute(
            update(Staff).where(Staff.id == disabled.id).values(status=StaffStatus.DISABLED)
        )
        await sessions.end_all(session, PrincipalKind.STAFF, out.id)
        await personal_data.delete_me(session, await gone.caller())
    reporter = await make_resident(places.community)
    return {
        "garbage token": replace(reporter, token="jcs_" + secrets.token_urlsafe(30)),
        "unknown token": replace(reporter, token=new_token("jcs_")),
        "refresh token": replace(reporter, token=reporter.refresh_token),
        "expired token": expired,
        "signed out": out,
        "disabled staff": disabled,
        "deleted resident": gone,
    }


async def _keys(places: Places) -> dict[str, str]:
    """The keys of all systems that call, good and bad."""
    good = {each.name: each for each in PRINCIPALS if each.scopes}
    keys = {
        name: (
            await _make_key(
                getattr(places, each.held_at or ""),
                sorted(each.scopes),
                addresses=["203.0.113.0/28"] if each.token is Token.ELSEWHERE else [],
            )
        )[1]
        for name, each in good.items()
    }
    everything = list(ApiScope)
    revoked_id, revoked = await _make_key(places.district, everything)
    expired_id, expired = await _make_key(places.district, everything)
    async with database.transaction() as session:
        (await session.get_one(ApiKey, revoked_id)).revoke(clock.now())
        (await session.get_one(ApiKey, expired_id)).retire(_an_hour_ago())
    return keys | {
        "garbage key": "jck_test_" + secrets.token_urlsafe(40),
        "unknown key": api_key_format.new_key().text,
        "revoked key": revoked,
        "expired key": expired,
        "key with a token": keys["key for everything"],
    }


async def _make_key(
    region_id: UUID, scopes: Sequence[ApiScope], addresses: Sequence[str] = ()
) -> tuple[UUID, str]:
    made = api_key_format.new_key()
    row = ApiKey(
        id=new_id(),
        name="平台",
        name_part=made.name_part,
        digest=keyring.token_digest(made.text),
        last4=made.text[-4:],
        scopes=[scope.value for scope in scopes],
        region_id=region_id,
        addresses=list(addresses),
        event_seq=0,
    )
    async with database.transaction() as session:
        session.add(row)
    return row.id, made.text


def _an_hour_ago() -> datetime:
    return clock.now() - timedelta(hours=1)
