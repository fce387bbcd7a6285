"""A case with thousands of events goes out and in like any other; what one document cannot hold is refused in words."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import select

from app import clock
from app.auth import SYSTEM
from app.cli import cases as cli
from app.db import database
from app.edge import BODY_BYTES
from app.ids import new_id
from app.models.events import Event
from app.models.staff import Role
from app.schemas.cases import MOST
from app.services import case_documents, case_imports
from tests.cases.papers import Json, elsewhere, lasting, long_case, paper, sealed
from tests.factories import Person, make_staff
from tests.stories import Story, problem

_WORDS = 4_000


@pytest.fixture
async def admin(story: Story) -> Person:
    return await make_staff(Role.DISTRICT_ADMIN, story.places.district)


@pytest.fixture(scope="module")
async def document(story: Story) -> Json:
    """A case of which people talked for years after it was settled."""
    return _talked_about(elsewhere(await paper(story, await long_case(story))), _WORDS)


def _talked_about(document: Json, times: int) -> Json:
    events, comments, last = document["events"], document["comments"], document["events"][-1]
    comment = next(each for each in comments if each["visibility"] == "public")
    event = next(each for each in events if each["id"] == comment["event_id"])
    at = datetime.fromisoformat(last["occurred_at"])
    for n in range(1, times + 1):
        moment = (at + timedelta(milliseconds=n)).isoformat().replace("+00:00", "Z")
        same = {"id": str(new_id()), "occurred_at": moment, "seq": last["seq"] + n}
        events.append(event | same)
        comments.append(
            comment
            | {"id": str(new_id()), "event_id": same["id"], "created_at": moment, "text": f"第{n}次来问"}
        )
    return sealed(document | {"exported_at": (clock.now() + timedelta(minutes=1)).isoformat()})


async def test_thousands_of_events_go_round(story: Story, document: Json, tmp_path: Path) -> None:
    file = tmp_path / "long.json"
    file.write_text(json.dumps(document, ensure_ascii=False), "utf-8")
    answer = await case_imports.run(SYSTEM, cli._read(file), case_imports.fetched)
    assert (answer.result, answer.events) == ("imported", len(document["events"]))
    assert len(document["events"]) > _WORDS
    hazard_id = document["case"]["id"]
    async with database.reading() as session:
        mine = select(Event.seq).where(Event.subject_id == UUID(hazard_id))
        inserted = list(await session.scalars(mine.order_by(Event.no)))
    assert inserted == [each["seq"] for each in document["events"]]
    assert lasting(await paper(story, hazard_id)) == lasting(document)
    exported, _ = await cli._export(UUID(hazard_id), document["consent_basis"], False)
    assert lasting(exported.model_dump(mode="json")) == lasting(document)


async def test_over_http_a_document_is_no_larger_than_any_other_body(
    story: Story, admin: Person, document: Json
) -> None:
    raw = json.dumps(document).encode()
    assert len(raw) > BODY_BYTES
    problem(await story.post(admin, "/v1/cases", document), 413, "body_too_large")


async def test_more_than_a_document_may_hold_is_refused_in_words(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    hazard_id = await long_case(story)
    path = f"/v1/hazards/{hazard_id}/case"
    monkeypatch.setattr(case_documents, "MOST", {**MOST, "events": 3})
    answer = await story.client.get(path, headers=story.manager.headers)
    problem(answer, 409, "case_too_long")
