"""An emulated district platform: receives our webhooks, shows them, and sends signed events. Shares no code with the product.

Signatures follow Standard Webhooks 1.0.0, written here a second time on purpose: two readings of one text check each
other.
"""

import base64
import hashlib
import hmac
import html
import json
import time
import urllib.error
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

PORT = 8200
_KEPT = 500
_TOLERANCE_SECONDS = 300
_TIMEOUT_SECONDS = 10

Send = Callable[[str, dict[str, str], bytes], tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that came or went, and what came of it."""

    direction: str
    at: float
    message_id: str
    type: str
    verdict: str
    body: str


class District:
    """What the platform has seen. It remembers message ids, as every receiver must."""

    def __init__(self, events_url: str, secret: str, send: Send) -> None:
        self._events_url, self._secret, self._send = events_url, secret, send
        self._endpoint_secrets: list[str] = []
        self._seen: set[str] = set()
        self._log: deque[Entry] = deque(maxlen=_KEPT)

    async def trust(self, request: Request) -> Response:
        """`{"secret": "whsec_…"}`: what we sign with, as creating an endpoint answers it."""
        order = await request.json()
        self._endpoint_secrets.append(str(order["secret"]))
        return Response(status_code=204)

    async def receive(self, request: Request) -> Response:
        """A webhook. A signature that nobody trusted made is 401; a message that came before is acknowledged again."""
        body = await request.body()
        message_id = request.headers.get("webhook-id", "")
        stamp = request.headers.get("webhook-timestamp", "")
        offered = request.headers.get("webhook-signature", "").split()
        if not self._is_genuine(message_id, stamp, offered, body):
            self._note("in", message_id, "", "signature refused", body)
            return Response(status_code=401)
        kind = str(json.loads(body).get("type", ""))
        self._note("in", message_id, kind, "again" if message_id in self._seen else "accepted", body)
        self._seen.add(message_id)
        return Response(status_code=204)

    async def send(self, request: Request) -> Response:
        """Sign what is posted and hand it over; the answer tells what was said to it."""
        body = await request.body()
        message_id = f"msg_{uuid.uuid4().hex}"
        stamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": stamp,
            "webhook-signature": "v1," + _mac(self._secret, message_id, stamp, body),
        }
        status, answer = await run_in_threadpool(self._send, self._events_url, headers, body)
        self._note("out", message_id, _type_of(body), str(status), body)
        return JSONResponse({"message_id": message_id, "status": status, "answer": answer})

    async def log(self, _: Request) -> Response:
        """Everything kept, the newest first."""
        return JSONResponse({"items": [asdict(entry) for entry in self._log]})

    async def page(self, _: Request) -> Response:
        """The same to look at; it renews itself."""
        return HTMLResponse(_PAGE.replace("{rows}", "".join(map(_row, self._log))))

    def _is_genuine(self, message_id: str, stamp: str, offered: Sequence[str], body: bytes) -> bool:
        if not stamp.isdecimal() or abs(time.time() - int(stamp)) > _TOLERANCE_SECONDS:
            return False
        expected = ["v1," + _mac(secret, message_id, stamp, body) for secret in self._endpoint_secrets]
        return any(hmac.compare_digest(one.encode(), other.encode()) for one in offered for other in expected)

    def _note(self, direction: str, message_id: str, kind: str, verdict: str, body: bytes) -> None:
        text = body.decode("utf-8", "replace")[:4000]
        self._log.appendleft(Entry(direction, time.time(), message_id, kind, verdict, text))


def create_district(events_url: str, secret: str, send: Send | None = None) -> Starlette:
    """The platform as an ASGI application. `secret` signs what goes to `events_url`."""
    district = District(events_url, secret, send or _post)
    return Starlette(
        routes=[
            Route("/", district.page),
            Route("/log", district.log),
            Route("/hook", district.receive, methods=["POST"]),
            Route("/secrets", district.trust, methods=["POST"]),
            Route("/send", district.send, methods=["POST"]),
        ]
    )


def _mac(secret: str, message_id: str, stamp: str, body: bytes) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _post(url: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - the operator's
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - the operator's
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode("utf-8", "replace")
    except OSError as failure:
        return 502, str(failure)


def _type_of(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("type", "")) if isinstance(found, dict) else ""


def _row(entry: Entry) -> str:
    moment = time.strftime("%H:%M:%S", time.localtime(entry.at))
    arrow = "→ 我方收到 in" if entry.direction == "in" else "← 我方发出 out"
    cells = (moment, arrow, entry.type, entry.verdict, entry.message_id, entry.body)
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>区平台沙箱 · District sandbox</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #1c2733; background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #d9dfe5 }
td:last-child { font: 12px/1.4 ui-monospace, monospace; word-break: break-all }
</style></head><body>
<h1>区平台沙箱 <small>District sandbox</small></h1>
<table><thead><tr><th>时间 Time</th><th>方向 Way</th><th>类型 Type</th><th>结果 Result</th><th>编号 Id</th>
<th>内容 Body</th></tr></thead><tbody>{rows}</tbody></table></body></html>
"""
