"""Every operation × everybody who could call it × everywhere they could hold their role: who gets through, and nobody else.

What is expected follows from the policy and from the tree of places as it is meant, never from an answer.
"""

from collections import defaultdict

import httpx
import pytest
from starlette.types import ASGIApp

from app.models.api_keys import ApiScope
from app.models.staff import Role
from app.policy import POLICY
from tests.contract.asking import send
from tests.contract.cases import CASES, Case
from tests.contract.routes import OPERATIONS
from tests.contract.rules import refused_behind_the_gate, stopped_at_the_gate
from tests.contract.world import OTHER_DEPARTMENT, PRINCIPALS, World
from tests.stories import row_of

_KNOWN_TO_ALL = {"read_region", "update_region", "download_media"}
"""Places are no secret; a signed link is its own permission."""


def test_every_operation_is_asked_about() -> None:
    assert {case.operation for case in CASES} == set(POLICY)
    assert len({case.name for case in CASES}) == len(CASES)


def test_everybody_is_there() -> None:
    """Each role in the region itself, above it, beside it and below it; and every way to have no good token."""
    held = defaultdict(set)
    for who in PRINCIPALS:
        held[who.role].add(who.held_at)
    assert all(len(places) >= 2 for role, places in held.items() if role is not None)
    assert len(PRINCIPALS) == len({who.name for who in PRINCIPALS}) == 74
    assert len(PRINCIPALS) * len(CASES) > 9000
    for scope in ApiScope:
        assert {who.held_at for who in PRINCIPALS if who.scopes == {scope}} == {
            "grid",
            "street",
            "far_street",
        }


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_only_who_may_gets_through(
    case: Case, application: ASGIApp, wire: httpx.AsyncClient, world: World
) -> None:
    await world.keep_stepped_up()
    shared = await case.prepare(world, PRINCIPALS[0])
    before = await _state_of(shared.ids)
    wrong = []
    for who in PRINCIPALS:
        refusal = stopped_at_the_gate(case.operation, who) or refused_behind_the_gate(case, who)
        ask = shared if refusal or case.is_repeatable else await case.prepare(world, who)
        headers = ask.caller.headers if ask.caller and not refusal else world.headers(who)
        answer = await send(application, wire, case.operation, ask, headers)
        found = (answer.status, answer.code)
        expected = refusal or (OPERATIONS[case.operation].success, None)
        if found != expected and not (found[0] == expected[0] == 403):
            wrong.append(f"{who.name}: {found} instead of {expected}: {answer.text[:300]}")
    assert wrong == []
    assert await _state_of(shared.ids) == before


def test_staff_of_one_street_find_nothing_of_another() -> None:
    """What the matrix expects of every route that takes an id, when the right role is held in the wrong place."""
    asked = set()
    for case in CASES:
        if not OPERATIONS[case.operation].ids or case.operation in _KNOWN_TO_ALL:
            continue
        asked.add(case.operation)
        for role in POLICY[case.operation].roles:
            place = OTHER_DEPARTMENT if role is Role.DEPARTMENT_OFFICER else "far_street"
            stranger = next(who for who in PRINCIPALS if (who.role, who.held_at) == (role, place))
            assert refused_behind_the_gate(case, stranger) == (404, "not_found"), (case.name, role)
    assert len(asked) > 30


async def _state_of(ids: dict[str, object]) -> tuple[object, ...]:
    """What a refusal must not change."""
    if "hazard_id" not in ids:
        return ()
    row = await row_of(str(ids["hazard_id"]))
    return row.version, row.event_seq, row.status, row.supporters
