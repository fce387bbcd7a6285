"""No URL that somebody else wrote down leads inside: at creation, at a change, at a ping and at every send."""

import asyncio
from ipaddress import ip_address, ip_network

import httpx
import pytest

from app.clients import outbound
from app.clients.outbound import Outbound, UrlRefused
from app.models.staff import Role
from app.outside import outside
from tests.factories import Places, make_staff
from tests.stories import problem
from tests.webhooks import resolver
from tests.webhooks.receiver import Receiver
from tests.webhooks.resolver import Resolver

PATH = "/v1/webhook-endpoints"
PUBLIC = "93.184.215.14"
LOOPBACK = ip_network("127.0.0.0/8")

OURSELVES = [
    "127.0.0.1",
    "127.1",
    "0",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "localhost",
    "LOCALHOST.",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[fe80::1%25eth0]",
    "[fe80::1%eth0]",
]
SPECIAL = [
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "100.64.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "198.51.100.1",
    "203.0.113.1",
    "192.88.99.1",
    "0.1.2.3",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
]
SPECIAL_V6 = [
    "[64:ff9b::7f00:1]",
    "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001:0:53aa:64c::1]",
    "[2001:db8::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fec0::1]",
    "[fe80::1]",
    "[ff02::1]",
    "[100::1]",
    "[5f00::1]",
    "[3fff::1]",
]
UNREADABLE = [
    "http://hooks.example.org/",
    "file:///etc/passwd",
    "gopher://hooks.example.org/_x",
    "ftp://hooks.example.org/",
    "//hooks.example.org/",
    "hooks.example.org/path",
    "https://",
    "https:///path",
    "https://user@hooks.example.org/",
    "https://user:password@hooks.example.org/",
    "https://hooks.example.org@127.0.0.1/",
    "https://hooks.example.org#@127.0.0.1/",
    "https://hooks.example.org\\@127.0.0.1/",
    "https://hooks.example.org/\\..",
    "https://hooks.example.org/a b",
    "https://hooks.example.org/\t",
    "https://hooks.example.org/\r\nX-Evil: 1",
    "https://hooks.example\u2028.org/",
    "https://hooks.example.org:22/",
    "https://hooks.example.org:6379/",
    "https://hooks.example.org:5432/",
    "https://hooks.example.org:80/",
    "https://hooks.example.org:99999/",
    "https://hooks.example.org:x/",
    "https://[::1/",
    "https://-.example.org/",
    "https://nowhere.example.org/",
    "https://hooks.example.org/报送",
    "https://hooks.example.org/?q=é",
    "https://hooks.example.org/#fragment",
    "https://hooks.example.org/" + "x" * 2_000,
]
INSIDE = [f"https://{host}/hook" for host in OURSELVES + SPECIAL + SPECIAL_V6]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """A name service that knows one public receiver."""
    made = resolver.install(monkeypatch)
    made.tell("hooks.example.org", [PUBLIC])
    return made


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Outbound:
    """The sender as production has it: nothing private is allowed."""
    strict = Outbound()
    monkeypatch.setattr(outside, "outbound", strict, raising=False)
    return strict


@pytest.mark.parametrize("url", INSIDE + UNREADABLE)
async def test_is_refused_when_checked_and_when_sent(url: str, names: Resolver, guard: Outbound) -> None:
    dialled = resolver.dialled()
    with pytest.raises(UrlRefused):
        await guard.check(url)
    outcome = await guard.post(url, {}, b"{}")
    assert (outcome.status, outcome.error) == (None, "url_refused")
    assert dialled == []


async def test_an_ordinary_address_is_accepted(names: Resolver, guard: Outbound) -> None:
    names.tell("xn--fiqs8s.example", [PUBLIC, "2a00:1450:4001::1"])
    target = await guard.check("https://中国.example:8443/hook?x=1")
    assert (target.host, target.port, target.path) == ("xn--fiqs8s.example", 8443, "/hook?x=1")
    assert (await guard.check("https://HOOKS.example.org")).authority == "hooks.example.org"


@pytest.mark.parametrize("inside", ["10.0.0.1", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"])
async def test_one_inner_address_among_public_ones_is_enough(
    names: Resolver, guard: Outbound, inside: str
) -> None:
    for answers in ([PUBLIC, inside], [inside, PUBLIC]):
        names.tell("mixed.example.org", answers)
        with pytest.raises(UrlRefused):
            await guard.check("https://mixed.example.org/")


async def test_a_name_that_turns_inwards_after_the_check_is_never_dialled(
    names: Resolver, guard: Outbound
) -> None:
    names.tell("rebinding.example.org", [PUBLIC], ["127.0.0.1"])
    await guard.check("https://rebinding.example.org/")
    dialled = resolver.dialled()
    outcomes = [await guard.post("https://rebinding.example.org/", {}, b"{}") for _ in range(1_000)]
    assert {outcome.error for outcome in outcomes} == {"url_refused"}
    assert dialled == []


async def test_the_address_that_was_judged_is_the_one_dialled(names: Resolver) -> None:
    """Whoever asked a second time would be told another one."""
    trusting = Outbound([LOOPBACK])
    async with Receiver() as receiver:
        names.tell("receiver.example.org", ["127.0.0.1"], ["127.0.0.9"])
        dialled = resolver.dialled()
        url = f"http://receiver.example.org:{receiver.port}/hook"
        outcome = await trusting.post(url, {"webhook-id": "a", "webhook-timestamp": "1"}, b"{}")
        assert outcome.status == 204
        assert dialled == [f"127.0.0.1:{receiver.port}"]
        assert names.asked == ["receiver.example.org"]
        assert receiver.received[0].headers["host"] == f"receiver.example.org:{receiver.port}"


async def test_an_allowed_network_opens_nothing_else(names: Resolver) -> None:
    trusting = Outbound([LOOPBACK])
    for url in ("https://10.0.0.1/", "http://hooks.example.org/", "https://hooks.example.org:22/"):
        with pytest.raises(UrlRefused):
            await trusting.check(url)
    assert (await trusting.check("http://127.0.0.1:9000/")).port == 9000


async def test_redirects_and_proxies_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as inner, Receiver() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for status in (301, 302, 303, 307, 308):
            async with Receiver(answers=[(status, {"Location": inner.url}, b"")]) as outer:
                outcome = await Outbound([LOOPBACK]).post(outer.url, _headers(), b"{}")
                assert (outcome.status, outcome.succeeded) == (status, False)
        assert (inner.connections, proxy.connections) == (0, 0)


@pytest.mark.parametrize("misbehaviour", ["hang", "drip"])
async def test_time_is_limited_in_total(monkeypatch: pytest.MonkeyPatch, misbehaviour: str) -> None:
    monkeypatch.setattr(outbound, "DEADLINE_SECONDS", 0.4)
    async with Receiver(drip=misbehaviour == "drip", hang_seconds=5 * (misbehaviour == "hang")) as receiver:
        outcome = await Outbound([LOOPBACK]).post(receiver.url, _headers(), b"{}")
    assert (outcome.status, outcome.error) == (None, "timeout")
    assert outcome.duration_ms < 1_500


async def test_what_does_not_speak_our_protocol_is_a_failure() -> None:
    async def chatter(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000)
        writer.close()

    server = await asyncio.start_server(chatter, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        flood = await Outbound([LOOPBACK]).post(f"http://127.0.0.1:{port}/", _headers(), b"{}")
        no_tls = await Outbound([LOOPBACK]).post(f"https://127.0.0.1:{port}/", _headers(), b"{}")
    assert (flood.status, no_tls.status) == (None, None)
    assert flood.error
    assert no_tls.error == "tls_error"


async def test_the_interface_refuses_at_creation_change_and_ping(
    client: httpx.AsyncClient, places: Places, names: Resolver, guard: Outbound
) -> None:
    admin = await make_staff(Role.DISTRICT_ADMIN, places.district)
    names.tell("later.example.org", [PUBLIC], [PUBLIC], ["169.254.169.254"])
    dialled = resolver.dialled()
    for url in ("https://127.0.0.1/", "https://100.100.100.200/", "https://user@hooks.example.org/"):
        refused = await client.post(PATH, headers=admin.headers, json=_endpoint(places, url))
        problem(refused, 422, "url_refused")
    made = await client.post(
        PATH, headers=admin.headers, json=_endpoint(places, "https://later.example.org/")
    )
    assert made.status_code == 201, made.text
    path = f"{PATH}/{made.json()['id']}"
    change = {"name": "other", "url": "https://[::ffff:10.0.0.1]/", "event_types": ["hazard."]}
    problem(await client.put(path, headers=admin.headers, json=change), 422, "url_refused")
    assert (await client.get(path, headers=admin.headers)).json()["name"] == "test"
    names.tell("later.example.org", ["169.254.169.254"])
    pinged = (await client.post(f"{path}/ping", headers=admin.headers)).json()
    assert (pinged["status_code"], pinged["error"], pinged["excerpt"]) == (None, "url_refused", None)
    assert [each for each in dialled if each.endswith((":443", ":8443", ":80"))] == []


async def test_names_that_hang_delay_no_other(names: Resolver, guard: Outbound) -> None:
    """Whatever the pool of the event loop is busy with, and however often they are asked for."""
    names.hanging = {f"{number}.hanging.example.org" for number in range(12)}
    waiting = [
        asyncio.create_task(guard.post(f"https://{name}/", {}, b"{}"))
        for name in sorted(names.hanging)
        for _ in range(8)
    ]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        await guard.check("https://hooks.example.org/")
        await asyncio.to_thread(int)
    assert not any(task.done() for task in waiting)
    names.released.set()
    assert {outcome.error for outcome in await asyncio.gather(*waiting)} == {"url_refused"}
    assert len(names.asked) == 13


def test_an_address_of_this_machine_is_recognised() -> None:
    assert outbound._is_own(ip_address("127.0.0.1"))
    assert not outbound._is_own(ip_address(PUBLIC))


def _endpoint(places: Places, url: str) -> dict[str, object]:
    return {"name": "test", "url": url, "event_types": ["hazard."], "region_id": str(places.street)}


def _headers() -> dict[str, str]:
    return {"webhook-id": "msg_1", "webhook-timestamp": "1"}
