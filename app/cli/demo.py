"""`jincai demo`: the whole story of a hazard, told over HTTP against a running server."""

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from importlib.resources import files
from typing import Annotated
from urllib.parse import urlsplit

import pyotp
import typer
import uvicorn
from rich.markup import escape

from app import clock
from app.cli.console import say, stop
from app.clients import http
from app.sandbox.credentials import DEV_WEBHOOK_SECRET
from app.sandbox.district import PORT, create_district
from app.services.demo_accounts import PASSWORD, TOTP_SECRET
from app.settings import settings

Json = dict[str, object]

_CATEGORY = "fire_passage_blocked"
_SAMPLES = files("app") / "data" / "samples"
_TOTP_STEP = timedelta(seconds=30)
_WAIT_SECONDS = 15.0
_SSE_DATA = "data: "
_HERE = ("127.0.0.1", "localhost", "::1")


def demo(
    url: Annotated[str, typer.Option(help="Where the server is.")] = settings.base_url,
    district: Annotated[
        str, typer.Option(help="Where `jincai sandbox district` is; one is started when none runs here.")
    ] = "",
) -> None:
    """Tell the whole story of one hazard against a running server, step by step."""
    try:
        asyncio.run(_tell(url, district))
    except http.NeverSent:
        also = f" or at {district} (jincai sandbox district)" if district else ""
        stop(
            f"No server answers at {url}{also}. Start one in another terminal: make serve."
            " One at another port: JINCAI_PORT=8001 for both"
        )


async def _tell(url: str, district: str) -> None:
    async with http.open_client(url) as client:
        tale = _Tale(client)
        await tale.prologue()
        await tale.reported()
        await tale.watched(tale.grid)
        await tale.street()
        await tale.department()
        await tale.answered()
        async with _platform(url, district) as platform:
            if platform:
                await tale.mirrored(platform)
        await tale.epilogue()


@asynccontextmanager
async def _platform(url: str, chosen: str) -> AsyncIterator[str]:
    """Where the district's sandbox is: the one that was named or runs here, else one for this story. None for a far server."""
    running = f"http://127.0.0.1:{PORT}"
    if chosen or urlsplit(url).hostname not in _HERE:
        yield chosen
    elif await _answers(running):
        yield running
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            application = create_district(f"{url}/v1/sync/district/events", DEV_WEBHOOK_SECRET)
            server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                await serving


async def _answers(url: str) -> bool:
    async with http.open_client(url) as client:
        try:
            return (await client.get("/log")).status_code == 200
        except http.NeverSent:
            return False


class _Person:
    """Somebody who signed in."""

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.headers = {"Authorization": f"Bearer {token}"}


class _Tale:
    """The steps, in the order in which they happen."""

    def __init__(self, client: http.Client) -> None:
        self._client = client
        self._hazard_id = ""
        self._step = 0
        self._began = clock.now()

    async def prologue(self) -> None:
        """Who takes part."""
        self._chapter("Everybody signs in")
        await self._ask("GET", "/healthz")
        self._xiaofeng = await self._resident("小枫")
        self._neighbour = await self._resident("邻居老周")
        self._dispatcher = await self._staff("dispatcher.chenglong", totp=True)
        self._fire = await self._staff("officer.fire")
        self._urban = await self._staff("officer.urban")
        self._note("A resident with a WeChat code, staff with a password, the dispatcher with TOTP as well")

    async def reported(self) -> None:
        """From a photo to a filed hazard."""
        self._chapter("A resident photographs a blocked fire passage")
        photo = await self._upload(self._xiaofeng, "fire-passage-before.jpg", "hazard")
        place = photo["location_hint"]
        self._note(
            f"Metadata is gone from the picture; its GPS is a suggestion to the uploader: {_text(place)}"
        )
        located = await self._ask("GET", "/v1/regions/locate", params=_query(place))
        self._note(f"That is {_text(located['community'], 'name')}, {_text(located['grid'], 'name')}")
        near = await self._ask(
            "GET", "/v1/hazards/nearby", self._xiaofeng, params=_query(place) | {"category": _CATEGORY}
        )
        self._note(f"Open reports of the same kind within 250 m: {len(_items(near))}")
        body: Json = {
            "category": _CATEGORY,
            "description": "3 栋 1 单元消防通道堆满纸箱，电动车也停在里面，老人出门都困难。",
            "media_ids": [photo["id"]],
            "location": place,
            "address": "枫林苑 3 栋 1 单元门口",
        }
        key = {"Idempotency-Key": f"demo-{secrets.token_hex(8)}"}
        hazard = await self._ask("POST", "/v1/hazards", self._xiaofeng, json=body, headers=key)
        again = await self._ask("POST", "/v1/hazards", self._xiaofeng, json=body, headers=key)
        self._hazard_id = str(hazard["id"])
        self._note(
            f"Sent twice on a bad network, filed once: {hazard['id'] == again['id']}; due {hazard['due_at']}"
        )
        await self._do("support", self._neighbour)
        self._note("A neighbour saw it too: one more supporter, no second report")

    async def grid(self) -> None:
        """The grid worker who covers the place."""
        self._chapter("网格吹哨: the grid worker accepts, and calls the street")
        self._worker = await self._worker_of(self._hazard_id)
        await self._do("accept", self._worker)
        await self._do(
            "comments", self._worker, {"text": "物业称纸箱属商户，需街道协调。", "visibility": "internal"}
        )
        await self._do("accept", self._worker)
        self._note("Tapped twice, taken once; a colleague would be told 409 hazard_already_taken")
        await self._do("call", self._worker, {"reason": "商户拒绝清理，请街道协调。"})

    async def street(self) -> None:
        """The street dispatches; one department refuses, another takes it."""
        self._chapter("街道处置: the street dispatches")
        await self._refused("dispatch", self._worker, 403, {"lead_organisation_id": self._hazard_id})
        self._note("A grid worker may not dispatch (403)")
        organisations = await self._organisations()
        urban, fire = organisations["urban_enforcement"], organisations["fire_rescue"]
        await self._do("dispatch", self._dispatcher, {"lead_organisation_id": urban})
        await self._do("refuse", self._urban, {"reason": "消防通道由消防救援大队牵头。"})
        self._note("The first department refuses, once, with a reason")
        await self._do(
            "dispatch",
            self._dispatcher,
            {"lead_organisation_id": fire, "joint_organisation_ids": [urban]},
        )

    async def department(self) -> None:
        """On site, and done."""
        self._chapter("部门报到: the department checks in and settles it")
        here = {"lng": 104.12716, "lat": 30.60655}
        await self._do("check-in", self._fire, {"location": here})
        after = await self._upload(self._fire, "fire-passage-after.jpg", "hazard_after")
        await self._do(
            "resolve", self._fire, {"media_ids": [after["id"]], "note": "通道已清空，已约谈商户。"}
        )

    async def answered(self) -> None:
        """The reporter has the last word."""
        self._chapter("The reporter disputes once, then confirms and rates")
        await self._do("dispute", self._xiaofeng, {"reason": "又堆上了两箱，请复查。"})
        after = await self._upload(self._fire, "fire-passage-after.jpg", "hazard_after")
        await self._do("resolve", self._fire, {"media_ids": [after["id"]], "note": "已复查清理并贴条。"})
        await self._do("confirm", self._xiaofeng)
        await self._do("rate", self._xiaofeng, {"score": 5, "comment": "处理及时"})

    async def mirrored(self, district: str) -> None:
        """The district platform gets the case by webhook, and hands over one of its own."""
        self._chapter("区平台: the district mirrors the case, and sends one")
        admin = await self._staff("admin.jinjiang", totp=True)
        hazard = await self._ask("GET", f"/v1/hazards/{self._hazard_id}", admin)
        endpoint: Json = {
            "name": "district sandbox",
            "url": f"{district}/hook",
            "event_types": ["hazard."],
            "region_id": hazard["community_id"],
        }
        made = await self._ask("POST", "/v1/webhook-endpoints", admin, json=endpoint)
        path = f"/v1/webhook-endpoints/{made['id']}"
        await self._client.post(f"{district}/secrets", json={"secret": made["secret"]})
        pinged = await self._ask("POST", f"{path}/ping", admin)
        window = {"since": self._began.isoformat(), "until": clock.now().isoformat()}
        replayed = await self._ask("POST", f"{path}/replay", admin, json=window)
        self._note(f"A ping was answered {pinged['status_code']}; {replayed['queued']} events are sent again")
        arrived = await self._arrived(district)
        self._note(f"Signed, and in order: {', '.join(str(row['type']) for row in arrived)}")
        last = arrived[-1]
        self._note(f"In its log: {last['type']} {last['verdict']} {last['message_id']}")
        await self._ask("DELETE", path, admin)
        await self._handed_over(district, str(hazard["community_id"]))

    async def _arrived(self, district: str) -> list[Json]:
        """What the district got about the hazard, in its order, once it is complete."""
        for _ in range(int(_WAIT_SECONDS * 5)):
            log = json.loads((await self._client.get(f"{district}/log")).content)
            rows = [row for row in reversed(_items(log)) if self._hazard_id in str(row["body"])]
            if any(row["type"] == "hazard.rated" for row in rows):
                return rows
            await asyncio.sleep(0.2)
        return stop(f"Not everything arrived at {district}. Is a worker running?")

    async def _handed_over(self, district: str, community_id: str) -> None:
        region = await self._ask("GET", f"/v1/regions/{community_id}", self._dispatcher)
        case: Json = {
            "type": "case.created",
            "case": f"DEMO-{secrets.token_hex(4)}",
            "seq": 1,
            "occurred_at": clock.now().isoformat(),
            "data": {
                "category_code": _CATEGORY,
                "region_code": region["code"],
                "description": "市民热线转办：枫林苑消防通道再次被占用。",
            },
        }
        answer = json.loads((await self._client.post(f"{district}/send", json=case)).content)
        if answer["status"] != 202:
            stop(f"The district's case was refused: {answer}")
        self._note(f"The district hands over case {case['case']}: 202, it is a hazard of the community now")

    async def epilogue(self) -> None:
        """What is left of it."""
        self._chapter("What everybody can see now")
        timeline = await self._ask("GET", f"/v1/hazards/{self._hazard_id}/timeline", self._xiaofeng)
        for entry in _items(timeline):
            words = f" — {entry['text']}" if entry["text"] else ""
            say(
                f"     {str(entry['occurred_at'])[11:19]}  {entry['type']:<20} {entry['actor']}{escape(words)}"
            )
        public = await self._ask("GET", f"/v1/hazards/{self._hazard_id}", self._neighbour)
        self._note(f"The neighbour sees status {public['status']}, and no address: {public['address']}")
        numbers = await self._ask(
            "GET", "/v1/hazards/statistics", self._dispatcher, params={"scope": "handled"}
        )
        for row in _items(numbers):
            if row["key"] == _CATEGORY:
                self._note(
                    f"Statistics: filed {row['filed']}, fixed {row['closed_fixed']}, rated {row['satisfaction']}"
                )
        say(f"\n[green]✔[/] The hazard {self._hazard_id} is closed.")

    async def watched(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step while the reporter follows the live stream, and show what arrives."""
        called = asyncio.Event()
        async with self._listening("hazard.called", called) as heard:
            await step()
            with suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await called.wait()
        if not called.is_set():
            stop(f"the live stream did not tell of the call; it told of: {', '.join(heard) or 'nothing'}")
        self._note(f"Live, on the reporter's phone: {', '.join(heard)}")

    @asynccontextmanager
    async def _listening(self, awaited: str, arrived: asyncio.Event) -> AsyncIterator[list[str]]:
        heard: list[str] = []
        opened = asyncio.Event()

        async def follow() -> None:
            async with self._client.stream(
                "GET", "/v1/stream", headers=self._xiaofeng.headers, timeout=60
            ) as answer:
                async for line in answer.aiter_lines():
                    opened.set()
                    if line.startswith(_SSE_DATA):
                        heard.append(json.loads(line.removeprefix(_SSE_DATA))["type"])
                        if heard[-1] == awaited:
                            arrived.set()

        following = asyncio.create_task(follow())
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_SECONDS):
                    await opened.wait()
            yield heard
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _resident(self, name: str) -> _Person:
        answer = await self._ask("POST", "/v1/sessions/wechat", json={"code": f"demo:{name}"})
        return _Person(name, str(answer["access_token"]))

    async def _staff(self, username: str, *, totp: bool = False) -> _Person:
        """A code works once, so a second run within half a minute waits for the next one."""
        credentials: Json = {"username": username, "password": PASSWORD}
        at, refused = clock.now(), ""
        for _ in range(3):
            if totp:
                credentials["totp"] = pyotp.TOTP(TOTP_SECRET).at(at)
            answer = await self._client.post("/v1/sessions/staff", json=credentials)
            if answer.status_code == 201:
                return _Person(username, answer.json()["access_token"])
            refused = answer.text
            at = max(at, clock.now()) + _TOTP_STEP
            await asyncio.sleep(int(answer.headers.get("retry-after", "1")))
        return stop(f"{username} cannot sign in", refused)

    async def _worker_of(self, hazard_id: str) -> _Person:
        """The one of the grid workers who sees the hazard; the others get 404."""
        for number in range(1, 14):
            worker = await self._staff(f"grid{number:02}")
            answer = await self._client.get(f"/v1/hazards/{hazard_id}", headers=worker.headers)
            if answer.status_code == 200:
                self._note(f"{worker.name} covers the place; the workers of other grids get {404}")
                return worker
        return stop("no grid worker covers the place")

    async def _organisations(self) -> Mapping[str, str]:
        rows = await self._ask("GET", "/v1/organisations", self._dispatcher, params={"limit": 100})
        return {str(row["code"]): str(row["id"]) for row in _items(rows)}

    async def _upload(self, who: _Person, name: str, purpose: str) -> Json:
        picture = (_SAMPLES / name).read_bytes()
        return await self._ask(
            "POST",
            "/v1/media",
            who,
            data={"purpose": purpose},
            files={"file": (name, picture, "image/jpeg")},
        )

    async def _do(self, action: str, who: _Person, body: Json | None = None) -> Json:
        path = f"/v1/hazards/{self._hazard_id}/{action}"
        answer = await self._ask("POST", path, who, json=body) if body else await self._ask("POST", path, who)
        if "status" in answer:
            self._note(f"{who.name}: {action} → {answer['status']}")
        return answer

    async def _refused(self, action: str, who: _Person, status: int, body: Json | None = None) -> None:
        answer = await self._client.post(
            f"/v1/hazards/{self._hazard_id}/{action}", headers=who.headers, json=body
        )
        if answer.status_code != status:
            stop(
                f"{action} by {who.name} should have been {status}, it was {answer.status_code}: {answer.text}"
            )

    async def _ask(
        self,
        method: str,
        path: str,
        who: _Person | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        **request: object,
    ) -> Json:
        sent = {**(who.headers if who else {}), **(headers or {})}
        answer = await self._client.request(method, path, headers=sent, **request)  # type: ignore[arg-type]
        if answer.status_code >= 300:
            stop(f"{method} {path} → {answer.status_code}", answer.text)
        found: Json = json.loads(answer.content or b"{}")
        return found

    def _chapter(self, title: str) -> None:
        self._step += 1
        say(f"\n[bold]{self._step}. {escape(title)}[/]")

    def _note(self, text: str) -> None:
        say(f"   {escape(text)}")


def _items(answer: Json) -> list[Json]:
    items = answer["items"]
    return items if isinstance(items, list) else []


def _query(place: object) -> dict[str, str]:
    return (
        {name: str(value) for name, value in place.items() if name != "datum"}
        if isinstance(place, dict)
        else {}
    )


def _text(value: object, name: str | None = None) -> str:
    if isinstance(value, dict):
        return str(value.get(name)) if name else f"{value['lng']}, {value['lat']}"
    return "—"
