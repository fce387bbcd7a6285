"""From a bearer token to a caller: opaque tokens, looked up by keyed digest, cached for at most a second."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypedDict
from uuid import UUID

from sqlalchemy import Uuid, and_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, writes
from app.crypto import token_well_formed
from app.db import database
from app.errors import Forbidden, Unauthenticated
from app.hot import Hot, JsonArray, json_list, one_of
from app.keys import keyring
from app.models.base import UtcDateTime
from app.models.residents import Resident
from app.models.sessions import LoginSession, PrincipalKind
from app.models.staff import Grant, Role, Staff, StaffStatus
from app.policy import POLICY, Duty, Rule, duties
from app.signals import signals

ACCESS_PREFIX = "jcs_"
REFRESH_PREFIX = "jcr_"
STEP_UP = timedelta(minutes=5)
_CACHE_SECONDS = 1.0
_CACHE_SIZE = 10_000


class StepUpRequired(Forbidden):
    """Something sensitive: prove again that it is you (`POST /v1/sessions/current/step-up`)."""

    code = "step_up_required"
    title_en, title_zh = "Confirm with a fresh TOTP code first", "请先进行二次验证"


class PasswordChangeRequired(Forbidden):
    """The password is a temporary one (`PUT /v1/me/password`)."""

    code = "password_change_required"
    title_en, title_zh = "Change your temporary password first", "请先修改临时密码"


class TotpEnrolmentRequired(Forbidden):
    """A role of the caller asks for a second factor (`POST /v1/me/totp`)."""

    code = "totp_enrolment_required"
    title_en, title_zh = "Set up an authenticator app first", "请先绑定动态口令"


_DUTY_FIRST = {Duty.CHANGE_PASSWORD: PasswordChangeRequired, Duty.ENROL_TOTP: TotpEnrolmentRequired}


@dataclass(frozen=True, slots=True)
class Granted:
    """One grant of a caller: a role in a region, or in an organisation."""

    role: Role
    region_id: UUID | None
    organisation_id: UUID | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a caller may do one operation: these regions with all below them, and for these organisations."""

    region_ids: frozenset[UUID]
    organisation_ids: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling, with everything that decides what they may do. Whoever `owes` something has no grants."""

    kind: PrincipalKind
    id: UUID
    session_id: UUID | None = None
    grants: tuple[Granted, ...] = ()
    community_id: UUID | None = None
    stepped_up_at: datetime | None = None
    owes: tuple[Duty, ...] = ()
    api_scopes: frozenset[str] = frozenset()
    api_region_id: UUID | None = None
    rate_limit: str | None = None
    is_resident: bool = field(init=False)
    """A resident, not staff."""
    _scopes: dict[str, Scope] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_resident", self.kind is PrincipalKind.RESIDENT)

    def scope(self, operation: str) -> Scope:
        """The part of the world in which the caller holds a role that `operation` needs."""
        known = self._scopes.get(operation)
        if known is None:
            known = self._scopes[operation] = self.scope_of(POLICY[operation].roles)
        return known

    def scope_of(self, roles: Iterable[Role]) -> Scope:
        """The part of the world in which the caller holds one of `roles`."""
        if self.api_region_id is not None:
            return Scope(frozenset({self.api_region_id}), frozenset())
        wanted = frozenset(roles)
        held = [granted for granted in self.grants if granted.role in wanted]
        return Scope(
            frozenset(granted.region_id for granted in held if granted.region_id),
            frozenset(granted.organisation_id for granted in held if granted.organisation_id),
        )


class _Row(TypedDict):
    id: UUID
    principal_id: UUID
    stepped_up_at: datetime | None
    resident_id: UUID | None
    community_id: UUID | None
    staff_id: UUID | None
    must_change_password: bool
    has_totp: bool
    grants: list[tuple[str, str | None, str | None]] | None


_NOW = bindparam("now", type_=UtcDateTime())
_GRANTS = json_list(
    select(JsonArray(Grant.role, Grant.region_id, Grant.organisation_id))
    .where(Grant.staff_id == LoginSession.principal_id, Grant.in_force(_NOW))
    .correlate(LoginSession)
)
_SIGNED_IN = (
    select(
        LoginSession.id,
        LoginSession.principal_id,
        LoginSession.stepped_up_at,
        Resident.id.label("resident_id"),
        Resident.community_id,
        Staff.id.label("staff_id"),
        Staff.must_change_password,
        Staff.totp_secret_sealed.is_not(None).label("has_totp"),
        _GRANTS.label("grants"),
    )
    .select_from(LoginSession)
    .join(
        Resident,
        and_(
            LoginSession.principal_kind == PrincipalKind.RESIDENT,
            Resident.id == LoginSession.principal_id,
            Resident.deleted_at.is_(None),
        ),
        isouter=True,
    )
    .join(
        Staff,
        and_(
            LoginSession.principal_kind == PrincipalKind.STAFF,
            Staff.id == LoginSession.principal_id,
            Staff.status == StaffStatus.ACTIVE,
        ),
        isouter=True,
    )
)
_BY_TOKEN: Hot[_Row] = Hot(
    _SIGNED_IN.where(
        one_of(LoginSession.access_digest, "digests"),
        LoginSession.access_expires_at > _NOW,
        LoginSession.revoked_at.is_(None),
    ),
    planned_once=True,
)
_BY_ID: Hot[_Row] = Hot(_SIGNED_IN.where(LoginSession.id == bindparam("id", type_=Uuid())))

SYSTEM = Caller(PrincipalKind.SYSTEM, UUID(int=0))


def authorise(caller: Caller | None, rule: Rule) -> None:
    """Refuse who may not call this operation at all. Deny is the default."""
    if rule.anonymous:
        return
    if caller is None:
        raise Unauthenticated
    if caller.is_resident:
        if not rule.resident:
            raise Forbidden
        return
    if caller.kind is PrincipalKind.API_KEY:
        if caller.api_scopes.isdisjoint(rule.scopes):
            raise Forbidden
        return
    _authorise_staff(caller, rule)


def _authorise_staff(caller: Caller, rule: Rule) -> None:
    for duty in caller.owes:
        if duty not in rule.during:
            raise _DUTY_FIRST[duty]
    if not rule.ungranted and not any(granted.role in rule.roles for granted in caller.grants):
        raise Forbidden
    if rule.step_up and (caller.stepped_up_at is None or clock.now() - caller.stepped_up_at > STEP_UP):
        raise StepUpRequired


async def identify(authorization: str | None) -> Caller | None:
    """The caller behind an `Authorization` header; None without one, 401 for anything that is not a live token."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    # Tokens are random enough for a plain hash, as long as it goes nowhere.
    digest = sha256(token.encode()).digest()
    cached = _cache.get(digest)
    if cached is not None and cached[0] > clock.monotonic():
        return cached[1]
    if not token_well_formed(ACCESS_PREFIX, token):
        raise Unauthenticated
    changes, asked_at = _heard.changes, clock.monotonic()
    rows = await database.rows(_BY_TOKEN, {"digests": keyring.token_digests(token), "now": clock.now()})
    caller = _caller(rows[0]) if rows else None
    if caller is None:
        raise Unauthenticated
    # What was read before a change was heard must not be kept after it.
    if changes == _heard.changes:
        _keep(digest, caller, asked_at)
    return caller


async def caller_of(session: AsyncSession, login: LoginSession) -> Caller | None:
    """Who signed in, with what they may do as of now; None when they were disabled or deleted."""
    rows = await writes.run(session, _BY_ID, {"id": login.id, "now": clock.now()})
    return _caller(rows[0])


def topic(principal_id: UUID) -> str:
    """The signal that makes every process forget what it cached of this principal."""
    return f"caller:{principal_id}"


@dataclass(slots=True)
class _Heard:
    changes: int = 0


_cache: dict[bytes, tuple[float, Caller]] = {}
_heard = _Heard()


def _keep(digest: bytes, caller: Caller, asked_at: float) -> None:
    if len(_cache) >= _CACHE_SIZE:
        _cache.clear()
    _cache[digest] = (asked_at + _CACHE_SECONDS, caller)


def _forget(heard: str) -> None:
    name, _, principal_id = heard.partition(":")
    if name == "caller":
        _heard.changes += 1
        changed = UUID(principal_id)
        for digest in [key for key, (_, caller) in _cache.items() if caller.id == changed]:
            _cache.pop(digest, None)


signals.listen(_forget)


def _caller(row: _Row) -> Caller | None:
    """None when the principal is gone."""
    if row["resident_id"] is not None:
        return Caller(
            PrincipalKind.RESIDENT, row["principal_id"], row["id"], community_id=row["community_id"]
        )
    if row["staff_id"] is None:
        return None
    grants = tuple(
        Granted(Role(role), _id(region_id), _id(organisation_id))
        for role, region_id, organisation_id in row["grants"] or ()
    )
    owes = duties(row["must_change_password"], row["has_totp"], [granted.role for granted in grants])
    return Caller(
        PrincipalKind.STAFF,
        row["principal_id"],
        row["id"],
        () if owes else grants,
        stepped_up_at=row["stepped_up_at"],
        owes=owes,
    )


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
