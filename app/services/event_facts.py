"""Which facts of an event each audience is told. What is not listed here is for staff."""

from app.models.base import JsonObject
from app.models.events import Event

_PUBLIC = frozenset(
    {"status", "version", "category", "supporters", "outcome", "by", "disputes", "merged_into", "reason"}
    | {"comment_id", "district_status"}
)
_DEPARTMENTS = frozenset(
    {"organisation_id", "lead_organisation_id", "joint_organisations", "role", "binding", "hops", "refusals"}
    | {"decision_forced", "distance_m"}
)
_PARTIES = _PUBLIC | _DEPARTMENTS | {"score", "fields", "comments", "pictures", "hidden"}


def for_public(event: Event) -> JsonObject:
    """For residents who have nothing to do with it or only support it: no departments, as in the hazard itself."""
    return {name: value for name, value in event.payload.items() if name in _PUBLIC}


def for_party(event: Event) -> JsonObject:
    """For the resident it is about: the reporter of a hazard, the holder of a household."""
    return {name: value for name, value in event.payload.items() if name in _PARTIES}


def for_staff(event: Event) -> JsonObject:
    """For those who handle it: everything; payloads hold no personal data."""
    return event.payload
