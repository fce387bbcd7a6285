"""Message push: the published examples, every kind of tampering, and the odd shapes WeChat has been seen to send."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from app.clients.wechat import Suggestion
from app.clients.wechat_push import (
    MediaChecked,
    MessageOutcome,
    MessagePush,
    MessagesSent,
    PushEvent,
    PushRejected,
    Refusal,
    SubscriptionChoice,
    SubscriptionsChosen,
)
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN
from app.sandbox.wechat_push import encrypt, sign
from tests.wechat_rig import START, TEMPLATE, Rig, open_rig

VECTORS = json.loads(Path(__file__).parents[1].joinpath("data", "wechat_vectors.json").read_text())
OFFICIAL = VECTORS["official_message_push"]
MEDIA = VECTORS["message_push_media_check"]


def push_at(moment: datetime, *, aes_key: str = SANDBOX_PUSH_AES_KEY) -> MessagePush:
    return MessagePush(token=SANDBOX_PUSH_TOKEN, aes_key=aes_key, appid=SANDBOX_APPID, now=lambda: moment)


def official_push(timestamp: str, *, aes_key: str = OFFICIAL["encoding_aes_key"]) -> MessagePush:
    return MessagePush(
        token=OFFICIAL["token"],
        aes_key=aes_key,
        appid=OFFICIAL["appid"],
        now=lambda: datetime.fromtimestamp(int(timestamp), UTC),
    )


def signed(encrypted: str, *, timestamp: str | None = None) -> tuple[dict[str, str], bytes]:
    moment = timestamp if timestamp is not None else str(int(START.timestamp()))
    query = {"timestamp": moment, "nonce": "7", "encrypt_type": "aes"}
    query["msg_signature"] = sign(SANDBOX_PUSH_TOKEN, moment, "7", encrypted)
    return query, json.dumps({"ToUserName": "gh", "Encrypt": encrypted}).encode()


def sealed(event: Mapping[str, object], appid: str = SANDBOX_APPID) -> str:
    return encrypt(SANDBOX_PUSH_AES_KEY, json.dumps(event).encode(), appid, b"0123456789abcdef")


def opened(event: Mapping[str, object]) -> PushEvent:
    return push_at(START).open(*signed(sealed(event)))


def refusal(push: MessagePush, query: Mapping[str, str], body: bytes) -> Refusal:
    with pytest.raises(PushRejected) as raised:
        push.open(query, body)
    return raised.value.reason


def test_official_url_check() -> None:
    check = OFFICIAL["url_verification"]
    assert official_push(check["timestamp"]).answer_url_check(check) == check["echostr"]
    for name in ("signature", "timestamp", "nonce"):
        with pytest.raises(PushRejected):
            official_push(check["timestamp"]).answer_url_check(check | {name: "1714036505"})
    with pytest.raises(PushRejected):
        official_push(check["timestamp"]).answer_url_check({})


def test_official_secure_push() -> None:
    secure = OFFICIAL["secure_mode"]
    query = {name: secure[name] for name in ("timestamp", "nonce", "msg_signature")}
    body = json.dumps({"ToUserName": "gh_97417a04a28d", "Encrypt": secure["Encrypt"]}).encode()
    assert official_push(secure["timestamp"]).open(query, body) == PushEvent(
        name="debug_demo",
        openid="o9AgO5Kd5ggOC-bXrbNODIiE3bGY",
        created_at=datetime(2024, 4, 26, 6, 20, 45, tzinfo=UTC),
        identity="o9AgO5Kd5ggOC-bXrbNODIiE3bGY|1714112445|debug_demo|",
    )


def test_official_plain_push() -> None:
    plain = OFFICIAL["plain_mode"]
    body = OFFICIAL["secure_mode"]["msg"].encode()
    assert official_push(plain["timestamp"], aes_key="").open(plain, body).name == "debug_demo"
    wrong = plain | {"signature": "0" * 40}
    assert refusal(official_push(plain["timestamp"], aes_key=""), wrong, body) is Refusal.SIGNATURE


def test_the_sandbox_encrypts_as_the_official_examples_do() -> None:
    secure, reply = OFFICIAL["secure_mode"], OFFICIAL["secure_reply"]
    key, appid = OFFICIAL["encoding_aes_key"], OFFICIAL["appid"]
    assert encrypt(key, secure["msg"].encode(), appid, secure["random16"].encode()) == secure["Encrypt"]
    assert encrypt(key, reply["plain"].encode(), appid, reply["random16"].encode()) == reply["Encrypt"]
    signature = sign(OFFICIAL["token"], str(reply["TimeStamp"]), reply["Nonce"], reply["Encrypt"])
    assert signature == reply["MsgSignature"]


def test_media_verdict_vector() -> None:
    moment = datetime.fromtimestamp(int(MEDIA["query"]["timestamp"]), UTC)
    event = push_at(moment).open(MEDIA["query"], json.dumps(MEDIA["body"]).encode())
    assert event == MediaChecked(
        name="wxa_media_check",
        openid="o4_t144jTUSEoxydysUA2E234_tc",
        created_at=moment,
        identity="o4_t144jTUSEoxydysUA2E234_tc|1767240010|wxa_media_check|60f96f1d-3845297a-1976a3ae",
        trace_id="60f96f1d-3845297a-1976a3ae",
        suggestion=Suggestion.RISKY,
        label=20002,
    )


@pytest.mark.parametrize("name", ["msg_signature", "timestamp", "nonce"])
@pytest.mark.parametrize("value", ["", "0", "1767240011", "签名", "\ud83d"])
def test_a_changed_query_is_refused(name: str, value: str) -> None:
    moment = datetime.fromtimestamp(int(MEDIA["query"]["timestamp"]), UTC)
    query = MEDIA["query"] | {name: value}
    assert refusal(push_at(moment), query, json.dumps(MEDIA["body"]).encode()) is Refusal.SIGNATURE


def test_a_changed_body_is_refused_though_the_query_signature_is_right() -> None:
    moment = datetime.fromtimestamp(int(MEDIA["query"]["timestamp"]), UTC)
    cipher = MEDIA["body"]["Encrypt"]
    for changed in ("N" + cipher[1:], cipher[:-4], "", "\ud83d", "密文"):
        body = json.dumps({"Encrypt": changed}).encode()
        assert refusal(push_at(moment), MEDIA["query"], body) is Refusal.SIGNATURE


@pytest.mark.parametrize(
    ("seconds", "taken"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)]
)
def test_age(seconds: int, taken: bool) -> None:
    query, body = signed(sealed({"Event": "e", "CreateTime": 1}))
    push = push_at(START + timedelta(seconds=seconds))
    if taken:
        assert push.open(query, body).name == "e"
    else:
        assert refusal(push, query, body) is Refusal.STALE


@pytest.mark.parametrize("timestamp", ["", "now", "-1", "1e9", "１７", "9" * 40])
def test_a_signed_timestamp_that_is_none(timestamp: str) -> None:
    query, body = signed(sealed({"Event": "e", "CreateTime": 1}), timestamp=timestamp)
    assert refusal(push_at(START), query, body) is Refusal.MALFORMED


def test_a_push_to_another_app_is_refused() -> None:
    query, body = signed(sealed({"Event": "e", "CreateTime": 1}, appid="wx0000000000000000"))
    assert refusal(push_at(START), query, body) is Refusal.FOREIGN_APP


def test_plain_push_is_refused_in_secure_mode() -> None:
    moment = str(int(START.timestamp()))
    query = {"timestamp": moment, "nonce": "7", "signature": sign(SANDBOX_PUSH_TOKEN, moment, "7")}
    body = b'{"Event":"wxa_media_check","CreateTime":1,"FromUserName":"o"}'
    assert refusal(push_at(START), query, body) is Refusal.MALFORMED


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<xml><Encrypt>a</Encrypt></xml>", Refusal.XML),
        (b' \n<!DOCTYPE a [<!ENTITY b "c">]>', Refusal.XML),
        (b"", Refusal.MALFORMED),
        (b"[]", Refusal.MALFORMED),
        (b"\xff\xfe", Refusal.MALFORMED),
        (b'{"Encrypt":7}', Refusal.MALFORMED),
        (b"[" * 60_000, Refusal.MALFORMED),
        (b"{" + b" " * 65_536 + b"}", Refusal.TOO_LARGE),
    ],
)
def test_unreadable_bodies(body: bytes, reason: Refusal) -> None:
    assert refusal(push_at(START), {}, body) is reason


@pytest.mark.parametrize(
    "encrypted",
    [
        "",
        "a",
        "not base64!",
        "密文",
        base64.b64encode(b"x" * 15).decode(),
        base64.b64encode(b"x" * 16).decode(),
        base64.b64encode(b"x" * 64).decode(),
    ],
)
def test_signed_rubbish_cannot_be_deciphered(encrypted: str) -> None:
    assert refusal(push_at(START), *signed(encrypted)) is Refusal.UNDECIPHERABLE


@pytest.mark.parametrize("padding", [b"\x00", b"\x21" * 33, b"\x02\x03\x03", b"\xff" * 2])
def test_wrong_padding_is_refused(padding: bytes) -> None:
    message = b'{"Event":"e","CreateTime":1}'
    plain = b"r" * 16 + len(message).to_bytes(4, "big") + message + SANDBOX_APPID.encode()
    plain = (b"#" * (-(len(plain) + len(padding)) % 16)) + plain + padding
    assert refusal(push_at(START), *signed(_encipher(plain))) is Refusal.UNDECIPHERABLE


def test_a_length_that_overshoots_is_refused() -> None:
    plain = b"r" * 16 + b"\xff\xff\xff\xff" + b"{}" + SANDBOX_APPID.encode()
    missing = 32 - len(plain) % 32
    encrypted = _encipher(plain + bytes([missing]) * missing)
    assert refusal(push_at(START), *signed(encrypted)) is Refusal.UNDECIPHERABLE


@pytest.mark.parametrize("length", range(33))
def test_every_padding_from_1_to_32_is_taken(length: int) -> None:
    event = opened({"Event": "e", "CreateTime": 1, "filler": "x" * length})
    assert event.name == "e"


def test_the_spare_bits_of_the_aes_key_do_not_matter() -> None:
    query, body = signed(sealed({"Event": "e", "CreateTime": 1}))
    for last in "wxyz":
        assert push_at(START, aes_key=SANDBOX_PUSH_AES_KEY[:-1] + last).open(query, body).name == "e"


@pytest.mark.parametrize("key", ["A" * 42, "A" * 44, "!" * 43, "密" * 43])
def test_an_impossible_aes_key_is_refused_at_once(key: str) -> None:
    with pytest.raises(ValueError, match="43"):
        push_at(START, aes_key=key)


def test_media_verdict_with_a_quoted_label_and_without_errcode() -> None:
    event = opened(
        {
            "FromUserName": "o1",
            "CreateTime": "1767240000",
            "Event": "wxa_media_check",
            "trace_id": "t",
            "result": {"suggest": "pass", "label": "100"},
        }
    )
    assert isinstance(event, MediaChecked)
    assert (event.suggestion, event.label) == (Suggestion.PASS, 100)
    assert event.created_at == datetime(2026, 1, 1, 4, tzinfo=UTC)


@pytest.mark.parametrize(
    "odd",
    [
        {"errcode": -1008, "result": {"suggest": "pass", "label": 100}},
        {"errcode": "-1008", "result": {"suggest": "pass", "label": 100}},
        {"errcode": None, "result": {"suggest": "pass", "label": 100}},
        {"errcode": 0},
        {"errcode": 0, "result": "pass"},
        {"errcode": 0, "result": {"suggest": "PASS"}},
        {"errcode": 0, "result": {"suggest": ["pass"]}},
    ],
)
def test_what_is_not_a_clear_verdict_is_not_checked(odd: dict[str, object]) -> None:
    event = opened({"CreateTime": 1, "Event": "wxa_media_check", "trace_id": "t", **odd})
    assert isinstance(event, MediaChecked)
    assert event.suggestion is None


def test_one_choice_is_an_object_and_several_are_an_array() -> None:
    one = {"TemplateId": "a", "SubscribeStatusString": "accept", "PopupScene": "0"}
    two = {"TemplateId": "b", "SubscribeStatusString": "ban"}
    popup = {"FromUserName": "o1", "CreateTime": 1, "Event": "subscribe_msg_popup_event"}
    single, several = opened(popup | {"List": one}), opened(popup | {"List": [one, two]})
    assert isinstance(single, SubscriptionsChosen)
    assert isinstance(several, SubscriptionsChosen)
    assert single.choices == (SubscriptionChoice("a", accepted=True),)
    assert several.choices == (*single.choices, SubscriptionChoice("b", accepted=False))
    assert single.from_popup
    for nothing in (None, "", 7, [], ["a"]):
        empty = opened(popup | {"List": nothing})
        assert isinstance(empty, SubscriptionsChosen)
        assert empty.choices == ()


def test_sent_and_changed_events() -> None:
    row = {"TemplateId": "a", "MsgID": 12, "ErrorCode": "43101", "ErrorStatus": "refused"}
    sent = opened({"CreateTime": 1, "Event": "subscribe_msg_sent_event", "List": row})
    assert isinstance(sent, MessagesSent)
    assert sent.outcomes == (MessageOutcome("a", "12", 43101),)
    change = {"TemplateId": "a", "SubscribeStatusString": "reject"}
    changed = opened({"CreateTime": 1, "Event": "subscribe_msg_change_event", "List": [change]})
    assert isinstance(changed, SubscriptionsChosen)
    assert not changed.from_popup


@pytest.mark.parametrize("event", [{}, {"CreateTime": 1}, {"Event": "e"}, {"Event": "e", "CreateTime": "x"}])
def test_an_event_without_name_or_time_is_refused(event: dict[str, object]) -> None:
    assert refusal(push_at(START), *signed(sealed(event))) is Refusal.MALFORMED


def test_repetitions_of_an_event_share_an_identity() -> None:
    event = {"FromUserName": "o1", "CreateTime": 1, "Event": "wxa_media_check", "trace_id": "t"}
    assert opened(event).identity == opened(event | {"CreateTime": "1"}).identity
    for name in event:
        assert opened(event).identity != opened(event | {name: "2"}).identity


async def test_pushes_of_the_sandbox_open(rig: Rig) -> None:
    openid = await rig.openid()
    trace_id = await rig.wechat.media_check_async("https://example.com/sandbox-risky.jpg", openid)
    await rig.order("/subscriptions", openid=openid, template_id=TEMPLATE)
    await rig.order(f"/media-checks/{trace_id}/verdict", errcode=-1008)
    events = [await _open(rig, push_at(rig.clock.now())) for _ in range(3)]
    checked = [event for event in events if isinstance(event, MediaChecked)]
    assert [event.trace_id for event in checked] == [trace_id, trace_id]
    assert {event.suggestion for event in checked} == {Suggestion.RISKY, None}
    (chosen,) = (event for event in events if isinstance(event, SubscriptionsChosen))
    assert chosen.choices == (SubscriptionChoice(TEMPLATE, accepted=True),)
    assert chosen.openid == openid


async def test_plain_pushes_of_the_sandbox_open() -> None:
    async with open_rig(push_aes_key="") as rig:
        await rig.order("/pushes", Event="debug_demo")
        assert (await _open(rig, push_at(rig.clock.now(), aes_key=""))).name == "debug_demo"


async def _open(rig: Rig, push: MessagePush) -> PushEvent:
    """The next one, which may still be on its way."""
    async with asyncio.timeout(5):
        while not rig.mailbox.pushes:  # noqa: ASYNC110 - a mailbox tells nobody
            await asyncio.sleep(0.01)
    url, body = rig.mailbox.pushes.pop(0)
    return push.open(dict(parse_qsl(urlsplit(url).query)), body)


def _encipher(plain: bytes) -> str:
    key = base64.b64decode(SANDBOX_PUSH_AES_KEY + "=")
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain) + encryptor.finalize()).decode()
