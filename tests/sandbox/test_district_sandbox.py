"""The emulated district platform takes what we sign, refuses what others sign, and signs what we take."""

import json

import httpx
from sqlalchemy import select

from app import clock, standard_webhooks
from app.db import Database
from app.models.sync import SyncCase
from app.sandbox.credentials import DEV_WEBHOOK_SECRET
from app.sandbox.district import create_district

SECRET = "whsec_" + "QUJD" * 8


def platform() -> httpx.AsyncClient:
    """A district that trusts nobody yet, with the request that it sent last in its answer."""

    def send(url: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        return 202, json.dumps({"url": url, "headers": headers, "body": body.decode()})

    application = create_district("http://testserver/v1/sync/district/events", DEV_WEBHOOK_SECRET, send)
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://district")


async def test_it_takes_what_we_sign_and_nothing_else() -> None:
    body = b'{"type":"hazard.filed"}'
    headers = standard_webhooks.headers("msg_1", clock.now(), body, [standard_webhooks.key_of(SECRET)])
    async with platform() as district:
        assert (await district.post("/hook", content=body, headers=headers)).status_code == 401
        await district.post("/secrets", json={"secret": SECRET})
        assert (await district.post("/hook", content=body, headers=headers)).status_code == 204
        assert (await district.post("/hook", content=body, headers=headers)).status_code == 204
        assert (await district.post("/hook", content=body + b" ", headers=headers)).status_code == 401
        log = (await district.get("/log")).json()["items"]
        assert [row["verdict"] for row in reversed(log)] == [
            "signature refused",
            "accepted",
            "again",
            "signature refused",
        ]
        page = (await district.get("/")).text
        assert "{&quot;type&quot;:&quot;hazard.filed&quot;}" in page


async def test_we_take_what_it_signs(client: httpx.AsyncClient, db: Database) -> None:
    event = {
        "type": "case.created",
        "case": "SANDBOX-1",
        "seq": 1,
        "occurred_at": clock.now().isoformat(),
        "data": {"category_code": "none", "region_code": "none", "description": "路灯不亮"},
    }
    async with platform() as district:
        sent = json.loads((await district.post("/send", json=event)).json()["answer"])
    answer = await client.post(
        "/v1/sync/district/events", content=sent["body"].encode(), headers=sent["headers"]
    )
    assert (answer.status_code, answer.json()["message_id"]) == (202, sent["headers"]["webhook-id"])
    async with db.reading() as session:
        assert await session.scalar(select(SyncCase.id).where(SyncCase.case_key == "SANDBOX-1"))
