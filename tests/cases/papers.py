"""Cases with a long history, and their documents: as they are, under other ids, and spoiled."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from app.ids import new_id
from app.models.media import MediaPurpose
from app.schemas.cases import CaseDocument
from tests.factories import Person
from tests.media.pictures import encoded, quadrants
from tests.stories import Story, upload

BASIS = "区政数局数据共享协议第3条"
Json = dict[str, Any]
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


async def picture(story: Story, who: Person, purpose: MediaPurpose = MediaPurpose.HAZARD) -> str:
    """A real one, with bytes."""
    answer = await upload(story.client, who, encoded(quadrants()), purpose)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def long_case(story: Story) -> str:
    """Supported, talked about, refused, dispatched jointly, resolved, disputed, resolved again, confirmed and rated."""
    hazard_id = str(
        (await story.file(media_ids=[await picture(story, story.reporter)], address="3栋1单元"))["id"]
    )
    await story.take(story.neighbour, hazard_id, "support")
    await story.take(story.neighbour, hazard_id, "comments", {"text": "我家也走不通"})
    await story.accept(hazard_id)
    await story.take(story.worker, hazard_id, "comments", {"text": "内部备注", "visibility": "internal"})
    await story.call(hazard_id, "多次劝说无效")
    await story.dispatch(hazard_id)
    await story.refuse(hazard_id)
    await story.dispatch(hazard_id, story.second_department, story.department)
    await story.check_in(hazard_id, story.second_officer)
    after = await picture(story, story.second_officer, MediaPurpose.HAZARD_AFTER)
    await story.resolve(hazard_id, story.second_officer, media_ids=[after], note="已清理")
    await story.dispute(hazard_id)
    after = await picture(story, story.second_officer, MediaPurpose.HAZARD_AFTER)
    await story.resolve(hazard_id, story.second_officer, media_ids=[after])
    await story.confirm(hazard_id)
    await story.take(story.reporter, hazard_id, "rate", {"score": 4, "comment": "第二次处理好了"})
    return hazard_id


async def paper(story: Story, hazard_id: str, basis: str | None = BASIS) -> Json:
    """The document of a case, as a manager gets it."""
    query = {} if basis is None else {"consent_basis": basis}
    return await story.get(story.manager, f"/v1/hazards/{hazard_id}/case", **query)


def elsewhere(document: Json, *kept: str) -> Json:
    """The same case under ids that nobody here has, but for those `kept`."""
    known: dict[str, str] = {each: each for each in kept}
    text = _ID.sub(lambda found: known.setdefault(found[0], str(new_id())), json.dumps(document))
    return sealed(json.loads(text) | {"media": []})


def sealed(document: Json) -> Json:
    """With the digest that it should have."""
    parsed = CaseDocument.model_validate(document)
    return document | {"digest": parsed.computed_digest()}


def spoiled(document: Json, spoil: Callable[[Json], object]) -> Json:
    """With something changed, and a digest that does not tell."""
    copy = deepcopy(document)
    spoil(copy)
    return sealed(copy)


def lasting(document: Json) -> Json:
    """What two documents of one case have in common."""
    kept = {name: value for name, value in document.items() if name != "exported_at"}
    pictures = [
        {name: value for name, value in each.items() if name not in ("url", "url_expires_at")}
        for each in document["media"]
    ]
    return kept | {"media": pictures}
