"""What an administrator may not ask of a webhook endpoint, and which field says so."""

import httpx
import pytest

from app.models.staff import Role
from tests.factories import Person, Places, make_staff
from tests.stories import complaints, problem

PATH = "/v1/webhook-endpoints"


@pytest.fixture
async def admin(places: Places) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, places.district)


async def make(client: httpx.AsyncClient, admin: Person, places: Places, **other: object) -> httpx.Response:
    body = {
        "name": "district platform",
        "url": "https://1.1.1.1/",
        "event_types": ["hazard."],
        "region_id": str(places.district),
    }
    return await client.post(PATH, headers=admin.headers, json=body | other)


async def test_who_gets_a_whole_case_needs_a_basis(
    client: httpx.AsyncClient, admin: Person, places: Places
) -> None:
    for given, code in (
        ({"payload": "full"}, "consent_basis_needed"),
        ({"payload": "full", "consent_basis": None}, "consent_basis_needed"),
        ({"consent_basis": "by law"}, "consent_basis_unused"),
    ):
        refused = problem(await make(client, admin, places, **given), 422, "invalid_input")
        assert complaints(refused) == [("body.consent_basis", code)]


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        (["zzz.yyy"], ("body.event_types.0", "unknown_event_type")),
        (["hazard.", "hazard.nope"], ("body.event_types.1", "unknown_event_type")),
        (["zzz."], ("body.event_types.0", "unknown_event_type")),
        (["staff.created"], ("body.event_types.0", "unknown_event_type")),
        (["hazard"], ("body.event_types.0", "string_pattern_mismatch")),
        (["hazard.", "hazard."], ("body.event_types", "named_twice")),
    ],
)
async def test_types_that_will_never_come(
    client: httpx.AsyncClient, admin: Person, places: Places, types: list[str], wanted: tuple[str, str]
) -> None:
    refused = problem(await make(client, admin, places, event_types=types), 422, "invalid_input")
    assert complaints(refused) == [wanted]


@pytest.mark.parametrize(
    ("since", "until", "wanted"),
    [
        ("0001-01-01T00:00:00+14:00", "2026-11-21T00:00:00Z", ("body.since", "datetime_object_invalid")),
        ("2026-11-20T00:00:00Z", "9999-12-31T23:59:59-14:00", ("body.until", "datetime_object_invalid")),
        ("2026-11-21T00:00:00Z", "2026-11-20T00:00:00Z", ("body.since", "invalid_period")),
    ],
)
async def test_windows_that_are_none(
    client: httpx.AsyncClient, admin: Person, places: Places, since: str, until: str, wanted: tuple[str, str]
) -> None:
    made = await make(client, admin, places)
    window = {"since": since, "until": until}
    path = f"{PATH}/{made.json()['id']}/replay"
    refused = problem(await client.post(path, headers=admin.headers, json=window), 422, "invalid_input")
    assert complaints(refused) == [wanted]
