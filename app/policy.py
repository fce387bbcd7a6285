"""Who may do what: one row per operation, enforced by `Operation`, printed by `jincai policy`, walked by the tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from app.models.staff import Role

_R = Role
GRID = frozenset({_R.GRID_WORKER})
COMMUNITY = frozenset({_R.GRID_WORKER, _R.COMMUNITY_MANAGER})
STREET = frozenset({_R.STREET_DISPATCHER})
DEPARTMENT = frozenset({_R.DEPARTMENT_OFFICER})
MANAGERS = frozenset({_R.COMMUNITY_MANAGER, _R.STREET_DISPATCHER, _R.DISTRICT_ADMIN})
CASE_STAFF = COMMUNITY | STREET | DEPARTMENT
CASE_READERS = CASE_STAFF | {_R.DISTRICT_ADMIN, _R.AUDITOR}
OVERSEERS = MANAGERS | {_R.AUDITOR}
GRANTERS = MANAGERS | {_R.SYSTEM_ADMIN}
KEY_ADMINS = frozenset({_R.DISTRICT_ADMIN, _R.SYSTEM_ADMIN})
ALL_STAFF = frozenset(Role)

ROLES_WITH_TOTP = frozenset(
    {_R.COMMUNITY_MANAGER, _R.STREET_DISPATCHER, _R.DISTRICT_ADMIN, _R.AUDITOR, _R.SYSTEM_ADMIN}
)

GRANTABLE: dict[Role, frozenset[Role]] = {
    _R.COMMUNITY_MANAGER: GRID,
    _R.STREET_DISPATCHER: COMMUNITY,
    _R.DISTRICT_ADMIN: COMMUNITY | STREET | DEPARTMENT | {_R.AUDITOR},
    _R.SYSTEM_ADMIN: ALL_STAFF - {_R.SYSTEM_ADMIN},
}
"""Which roles the holder of a role may give and take, inside the region of their own grant."""


class Duty(StrEnum):
    """What a member of staff owes before anything else is open to them."""

    CHANGE_PASSWORD = "change_password"
    ENROL_TOTP = "enrol_totp"


def duties(must_change_password: bool, has_totp: bool, roles: Iterable[Role]) -> tuple[Duty, ...]:
    """The duties of somebody in this state with these roles, the first one first."""
    owed = (Duty.CHANGE_PASSWORD,) if must_change_password else ()
    return owed if has_totp or ROLES_WITH_TOTP.isdisjoint(roles) else (*owed, Duty.ENROL_TOTP)


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call one operation. Roles are held somewhere: services look at that scope.

    `ungranted` needs no grant at all: it is about the caller's own account. `during` lists the duties that it is
    open during.
    """

    anonymous: bool = False
    resident: bool = False
    roles: frozenset[Role] = frozenset()
    step_up: bool = False
    ungranted: bool = False
    scopes: frozenset[str] = frozenset()
    during: frozenset[Duty] = frozenset()

    @property
    def callers(self) -> str:
        """The rule in words, for people."""
        if self.anonymous:
            return "anyone"
        names = ["resident"] if self.resident else []
        names += sorted(f"API key {scope}" for scope in self.scopes)
        names += ["any staff"] if self.ungranted else sorted(role.value for role in self.roles)
        return ", ".join(names) + (" (recent TOTP)" if self.step_up else "")


def _anyone() -> Rule:
    return Rule(anonymous=True)


def _resident() -> Rule:
    return Rule(resident=True)


def _staff(roles: frozenset[Role], step_up: bool = False) -> Rule:
    return Rule(roles=roles, step_up=step_up)


def _both(roles: frozenset[Role]) -> Rule:
    return Rule(resident=True, roles=roles)


def _keys(scope: str, roles: frozenset[Role] = frozenset()) -> Rule:
    """A system with a key of this scope, and perhaps some staff."""
    return Rule(roles=roles, scopes=frozenset({scope}))


def _own(*, resident: bool = False, step_up: bool = False, during: Iterable[Duty]) -> Rule:
    """About the caller's own account."""
    return Rule(resident=resident, roles=ALL_STAFF, step_up=step_up, ungranted=True, during=frozenset(during))


POLICY: dict[str, Rule] = {
    # operations
    "read_healthz": _anyone(),
    "read_readyz": _anyone(),
    "read_metrics": _anyone(),
    # sessions
    "create_wechat_session": _anyone(),
    "create_staff_session": _anyone(),
    "refresh_session": _anyone(),
    "delete_current_session": _own(resident=True, during=Duty),
    "step_up_session": _own(during=[Duty.ENROL_TOTP]),
    # me
    "read_me": _own(resident=True, during=Duty),
    "update_me": _resident(),
    "bind_my_phone": _resident(),
    "set_my_identity": _resident(),
    "claim_household": _resident(),
    "list_my_households": _resident(),
    "end_my_household": _resident(),
    "export_me": _resident(),
    "delete_me": _resident(),
    "list_consent_purposes": _anyone(),
    "list_my_consents": _resident(),
    "grant_consent": _resident(),
    "withdraw_consent": _resident(),
    "add_message_quota": _resident(),
    "list_my_notifications": _both(ALL_STAFF),
    "read_my_notification": _both(ALL_STAFF),
    "list_my_access_log": _resident(),
    "change_my_password": _own(during=Duty),
    "enrol_my_totp": _own(step_up=True, during=[Duty.ENROL_TOTP]),
    "confirm_my_totp": _own(during=[Duty.ENROL_TOTP]),
    # places
    "list_regions": _anyone(),
    "locate_region": _anyone(),
    "read_region": _anyone(),
    "update_region": _staff(frozenset({_R.DISTRICT_ADMIN}), step_up=True),
    "list_organisations": _staff(ALL_STAFF),
    # pictures
    "upload_media": _both(CASE_STAFF),
    "read_media": _both(CASE_READERS),
    "download_media": _anyone(),
    # people
    "list_households": _staff(COMMUNITY),
    "confirm_household": _staff(COMMUNITY),
    "reject_household": _staff(COMMUNITY),
    "read_resident": _staff(CASE_READERS),
    "reveal_resident": _staff(COMMUNITY | STREET),
    "list_staff": _staff(GRANTERS | {_R.AUDITOR}),
    "create_staff": _staff(GRANTERS, step_up=True),
    "read_staff": _staff(GRANTERS | {_R.AUDITOR}),
    "disable_staff": _staff(GRANTERS, step_up=True),
    "enable_staff": _staff(GRANTERS, step_up=True),
    "reset_staff_password": _staff(GRANTERS, step_up=True),
    "grant_role": _staff(GRANTERS, step_up=True),
    "revoke_grant": _staff(GRANTERS, step_up=True),
    "hand_over_staff_hazards": _staff(MANAGERS),
    # hazards
    "list_hazard_categories": _anyone(),
    "update_hazard_category": _staff(frozenset({_R.DISTRICT_ADMIN}), step_up=True),
    "file_hazard": _both(COMMUNITY),
    "list_hazards": _both(CASE_READERS),
    "list_nearby_hazards": _both(CASE_READERS),
    "read_hazard_map": _anyone(),
    "read_hazard_feed": _anyone(),
    "read_hazard": _both(CASE_READERS),
    "read_hazard_timeline": _both(CASE_READERS),
    "support_hazard": _resident(),
    "accept_hazard": _staff(GRID),
    "assign_hazard": _staff(frozenset({_R.COMMUNITY_MANAGER})),
    "call_street": _staff(GRID),
    "dispatch_hazard": _staff(STREET),
    "refuse_hazard": _staff(DEPARTMENT),
    "check_in_hazard": _staff(DEPARTMENT),
    "resolve_hazard": _staff(GRID | STREET | DEPARTMENT),
    "confirm_hazard": _resident(),
    "dispute_hazard": _resident(),
    "rate_hazard": _resident(),
    "merge_hazard": _staff(COMMUNITY | STREET),
    "reject_hazard": _staff(COMMUNITY | STREET),
    "list_hazard_comments": _both(CASE_READERS),
    "add_hazard_comment": _both(CASE_STAFF),
    "redact_hazard": _staff(MANAGERS),
    "review_hazard": _staff(MANAGERS),
    "reveal_hazard_reporter": _staff(CASE_STAFF),
    "read_hazard_statistics": _both(OVERSEERS | CASE_STAFF),
    "create_hazard_export": _staff(OVERSEERS, step_up=True),
    "read_hazard_export": _staff(OVERSEERS),
    "download_hazard_export": _staff(OVERSEERS),
    # what somebody follows
    "create_subscription": _both(CASE_READERS),
    "list_subscriptions": _both(CASE_READERS),
    "delete_subscription": _both(CASE_READERS),
    # keys of other systems
    "create_api_key": _staff(KEY_ADMINS, step_up=True),
    "list_api_keys": _staff(KEY_ADMINS),
    "read_api_key": _staff(KEY_ADMINS),
    "rotate_api_key": _staff(KEY_ADMINS, step_up=True),
    "revoke_api_key": _staff(KEY_ADMINS),
    # webhooks that we send
    "create_webhook_endpoint": _staff(KEY_ADMINS, step_up=True),
    "list_webhook_endpoints": _staff(KEY_ADMINS),
    "read_webhook_endpoint": _staff(KEY_ADMINS),
    "update_webhook_endpoint": _staff(KEY_ADMINS, step_up=True),
    "delete_webhook_endpoint": _staff(KEY_ADMINS, step_up=True),
    "rotate_webhook_secret": _staff(KEY_ADMINS, step_up=True),
    "enable_webhook_endpoint": _staff(KEY_ADMINS),
    "disable_webhook_endpoint": _staff(KEY_ADMINS),
    "ping_webhook_endpoint": _staff(KEY_ADMINS),
    "replay_webhook_endpoint": _staff(KEY_ADMINS),
    "list_webhook_deliveries": _staff(KEY_ADMINS),
    "read_webhook_delivery": _staff(KEY_ADMINS),
    "retry_webhook_delivery": _staff(KEY_ADMINS),
    # the open reporting standard
    "read_open311_discovery": _anyone(),
    "list_open311_services": _anyone(),
    "read_open311_service": _anyone(),
    "create_open311_request": Rule(anonymous=True, scopes=frozenset({"reports:write"})),
    "read_open311_token": _anyone(),
    "list_open311_requests": _anyone(),
    "read_open311_request": _anyone(),
    # the district platform
    "list_events": _keys("events:read", KEY_ADMINS | {_R.AUDITOR}),
    "receive_district_event": _anyone(),
    "compare_district_watermarks": _anyone(),
    "read_watermarks": _keys("events:read", KEY_ADMINS | {_R.AUDITOR}),
    "read_code_mappings": _staff(KEY_ADMINS | {_R.AUDITOR}),
    "replace_code_mappings": _staff(KEY_ADMINS, step_up=True),
    # whole cases, from one service to another
    "read_hazard_case": _keys("cases:read", OVERSEERS),
    "import_case": Rule(roles=KEY_ADMINS, step_up=True, scopes=frozenset({"cases:write"})),
    # live and outside
    "stream_events": _both(CASE_READERS),
    "verify_wechat_push": _anyone(),
    "receive_wechat_push": _anyone(),
}
