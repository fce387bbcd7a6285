"""A load of writes whose every outcome is settled, and what must be true of them afterwards."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import select

from app.ids import new_id
from app.models.events import Event
from app.models.notifications import Notification
from tests.factories import Person
from tests.faults.deployment import Deployment
from tests.stories import CATEGORY, SAMPLES, Json, upload

BEFORE = SAMPLES / "street-lamp-before.jpg"
AFTER = SAMPLES / "street-lamp-after.jpg"
_ANSWER_SECONDS = 4.0
_AGAIN_SECONDS = 0.2
_REPLAYED_UPLOADS = 6
_STEPS = Counter(
    {
        "hazard.filed": 1,
        "hazard.supported": 1,
        "hazard.commented": 1,
        "hazard.accepted": 1,
        "hazard.noted": 1,
        "hazard.resolved": 1,
        "hazard.confirmed": 1,
    }
)


@dataclass(eq=False)
class Write:
    """One POST with its key, and the answer that settled it."""

    who: Person
    path: str
    key: str
    body: Json | None = None
    picture: tuple[Path, str] | None = None
    answer: httpx.Response | None = None


class Journal:
    """Clients that never give up: what was not answered, or answered with 503, is asked again with the same key."""

    def __init__(self, deployment: Deployment) -> None:
        self.unknown = 0
        self.writes: list[Write] = []
        self.hazards: dict[str, str] = {}
        self._deployment = deployment
        self._story = deployment.story

    async def load(self, lives: int, stop: asyncio.Event) -> None:
        """So many clients at once, until `stop`; each ends the story that it is telling."""
        async with asyncio.TaskGroup() as group:
            for _ in range(lives):
                group.create_task(self._live(stop))

    async def _live(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.tell()

    async def tell(self) -> None:
        """One hazard from the photo to the end, with every kind of write on its way."""
        story, mark = self._story, new_id().hex
        picture = await self._upload(story.reporter, BEFORE, "hazard")
        report = {"category": CATEGORY, "description": mark, "location": story.spot, "media_ids": [picture]}
        filed = await self._take(story.reporter, "/v1/hazards", report)
        path = f"/v1/hazards/{filed['id']}"
        self.hazards[filed["id"]] = mark
        handler, *_ = await asyncio.gather(
            self._accept(path),
            self._take(story.neighbour, f"{path}/support"),
            self._take(story.reporter, f"{path}/comments", {"text": f"said {mark}"}),
        )
        note = {"text": f"noted {mark}", "visibility": "internal"}
        await self._take(handler, f"{path}/comments", note)
        picture = await self._upload(handler, AFTER, "hazard_after")
        await self._take(handler, f"{path}/resolve", {"media_ids": [picture]})
        await self._take(story.reporter, f"{path}/confirm")

    async def _accept(self, path: str) -> Person:
        """Two want it at once, one gets it."""
        both = [self._story.worker, self._story.colleague]
        answers = await asyncio.gather(
            *(self._ask(Write(who, f"{path}/accept", new_id().hex)) for who in both)
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409], answers
        return both[0] if answers[0].status_code == 200 else both[1]

    async def _upload(self, who: Person, picture: Path, purpose: str) -> str:
        answer = await self._ask(Write(who, "/v1/media", new_id().hex, picture=(picture, purpose)))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def _take(self, who: Person, path: str, body: Json | None = None) -> Json:
        answer = await self._ask(Write(who, path, new_id().hex, body))
        assert answer.status_code in (200, 201), answer.text
        taken: Json = answer.json()
        return taken

    async def _ask(self, write: Write) -> httpx.Response:
        self.writes.append(write)
        while True:
            answer = await self._attempt(write)
            if answer is not None and answer.status_code != 503:
                assert answer.status_code < 500, answer.text
                write.answer = answer
                return answer
            self.unknown += 1
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _attempt(self, write: Write) -> httpx.Response | None:
        """One try; None when nobody can say what came of it."""
        try:
            return await self._send(write)
        except httpx.TransportError:
            return None

    async def _send(self, write: Write) -> httpx.Response:
        client = self._deployment.client
        if write.picture is not None:
            picture, purpose = write.picture
            data = await asyncio.to_thread(picture.read_bytes)
            return await upload(client, write.who, data, purpose, write.key)
        headers = write.who.headers | {"Idempotency-Key": write.key}
        return await client.post(write.path, json=write.body, headers=headers, timeout=_ANSWER_SECONDS)

    async def require_replays(self) -> None:
        """Every write that was acknowledged is answered again as it was."""
        uploads = 0
        for write in self.writes:
            assert write.answer is not None
            uploads += write.picture is not None
            if write.answer.is_success and (write.picture is None or uploads <= _REPLAYED_UPLOADS):
                again = await self._send(write)
                assert (again.status_code, again.content) == (write.answer.status_code, write.answer.content)
                assert again.headers["Idempotent-Replayed"] == "true"

    async def require_all_once(self) -> None:
        """What was acknowledged is there, once, and nothing else is."""
        listed = await self._listed()
        assert Counter(listed) == Counter(self.hazards.keys())
        for hazard_id, mark in self.hazards.items():
            await self._require_whole(hazard_id, mark)
        await self._require_steps()

    async def _listed(self) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            page = await self._story.get(
                self._story.manager, "/v1/hazards", scope="handled", limit=100, cursor=cursor
            )
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def _require_whole(self, hazard_id: str, mark: str) -> None:
        story = self._story
        hazard = await story.get(story.manager, f"/v1/hazards/{hazard_id}")
        assert (hazard["description"], hazard["status"], hazard["supporters"]) == (mark, "closed", 1)
        assert (len(hazard["photos"]), len(hazard["after_photos"])) == (1, 1)
        comments = await story.get(story.manager, f"/v1/hazards/{hazard_id}/comments")
        assert sorted(item["text"] for item in comments["items"]) == [f"noted {mark}", f"said {mark}"]
        for picture in hazard["photos"] + hazard["after_photos"]:
            shown = await story.client.get(picture["url"])
            assert shown.status_code == 200
            assert shown.content.startswith(b"\xff\xd8")

    async def _require_steps(self) -> None:
        """Every step is recorded once, and everybody whom it concerns was told of it once."""
        about = Event.subject_kind == "hazards"
        async with self._deployment.session() as session:
            events = list(await session.scalars(select(Event).where(about).order_by(Event.position)))
            told = list(await session.execute(select(Notification.event_id, Notification.recipient_id)))
        for hazard_id in self.hazards:
            steps = [event for event in events if event.subject_id == UUID(hazard_id)]
            assert Counter(event.type for event in steps) == _STEPS
            assert [event.seq for event in steps] == list(range(1, len(steps) + 1))
        filed = {event.id for event in events if event.type == "hazard.filed"}
        accepted = {event.id for event in events if event.type == "hazard.accepted"}
        assert Counter(told) == Counter(set(told))
        nearby = {self._story.worker.id, self._story.colleague.id, self._story.manager.id}
        assert all(who == nearby for who in _told_of(told, filed).values())
        assert all(self._story.reporter.id in who for who in _told_of(told, accepted).values())


def _told_of(told: Sequence[tuple[UUID, UUID]], events: set[UUID]) -> dict[UUID, set[UUID]]:
    found: dict[UUID, set[UUID]] = {event_id: set() for event_id in events}
    for event_id, recipient_id in told:
        if event_id in found:
            found[event_id].add(recipient_id)
    return found
