"""Who gets through, by the policy and by where things are: what the tests expect before they ask."""

from app.policy import POLICY, Duty, Rule
from tests.contract.cases import CASES, Case
from tests.contract.routes import OPERATIONS
from tests.contract.world import PRINCIPALS, Principal, Token

_OWED = {Duty.CHANGE_PASSWORD: "password_change_required", Duty.ENROL_TOTP: "totp_enrolment_required"}

_CODES = {403: "forbidden", 404: "not_found", 409: "own_hazard", 422: "invalid_input"}

Refusal = tuple[int, str]


def stopped_at_the_gate(operation: str, who: Principal) -> Refusal | None:
    """The refusal that needs no look at what was asked about."""
    rule = POLICY[operation]
    unknown = 403 if OPERATIONS[operation].is_open311 else 401, "unauthenticated"
    if who.token is Token.ELSEWHERE:
        return 403, "address_not_allowed"
    if who.token is Token.BAD:
        return unknown
    if rule.anonymous:
        return None
    if who.token is Token.NONE:
        return unknown
    if who.is_staff:
        return _stopped_staff(rule, who)
    may = rule.resident if who.resident else bool(who.scopes & rule.scopes)
    return None if may else (403, "forbidden")


def _stopped_staff(rule: Rule, who: Principal) -> Refusal | None:
    if who.owes and who.owes not in rule.during:
        return 403, _OWED[who.owes]
    if who.role not in rule.roles and not rule.ungranted:
        return 403, "forbidden"
    if rule.step_up and not who.stepped_up:
        return 403, "step_up_required"
    return None


def refused_behind_the_gate(case: Case, who: Principal) -> Refusal | None:
    """What becomes of somebody whom the policy lets in."""
    refusal = case.reach(who)
    return None if refusal is None else (refusal, _CODES[refusal])


def callers_of(case: Case) -> list[Principal]:
    """Everybody who gets through."""
    return [
        who
        for who in PRINCIPALS
        if not stopped_at_the_gate(case.operation, who) and not refused_behind_the_gate(case, who)
    ]


def first_cases() -> dict[str, Case]:
    """One case for each operation that somebody gets through with."""
    return {case.operation: case for case in reversed(CASES) if callers_of(case)}
