"""One good request for every operation, and who gets through with it: by the rules, not by what the service says."""

import json
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from app import clock
from app.auth import SYSTEM
from app.db import database
from app.geo import Point, wgs84_from_gcj02
from app.models.api_keys import ApiScope
from app.models.hazards import HazardStatus
from app.models.sessions import PrincipalKind
from app.models.staff import Role
from app.policy import POLICY
from app.sandbox.credentials import SANDBOX_APPID, SANDBOX_PUSH_AES_KEY, SANDBOX_PUSH_TOKEN
from app.sandbox.wechat_push import encrypt, sign
from app.services import case_documents, media
from tests.cases.papers import elsewhere
from tests.contract.routes import OPERATIONS, Json
from tests.contract.world import CLOSED_URL, DEPARTMENT, PRIVATE, PUBLIC, Principal, Token, World
from tests.factories import PASSWORD, Person, make_resident, make_staff
from tests.media.pictures import encoded, quadrants
from tests.signing_in import code_of
from tests.stories import pictures

ADDRESS = "2单元301室"
TEMPLATE = "sandbox-progress"
PHOTO = encoded(quadrants())
DEADLINES = {
    level: {"minutes": 120, "warn_minutes": 30, "clock": "clock"}
    for level in ("grid", "street", "department")
}


@dataclass(frozen=True)
class Ask:
    """One request. `caller` replaces the principal by somebody like them, when it uses its caller up.

    `signed`: by the district, as soon as the bytes are known.
    """

    ids: dict[str, object] = field(default_factory=dict)
    body: object = None
    query: dict[str, object] = field(default_factory=dict)
    form: dict[str, str] = field(default_factory=dict)
    file: bytes | None = None
    caller: Person | None = None
    signed: bool = False


Prepare = Callable[[World, Principal], Awaitable[Ask]]
Outcome = int | None
Reach = Callable[[Principal], Outcome]
"""What happens to somebody whom the policy lets in: a refusal, or None when they get through."""


@dataclass(frozen=True)
class Case:
    """One operation, asked about something in particular."""

    operation: str
    prepare: Prepare
    reach: Reach
    about: str = ""

    @property
    def name(self) -> str:
        return f"{self.operation} {self.about}".strip()

    @property
    def is_repeatable(self) -> bool:
        """Whether everybody may ask the same: nothing is changed by it, or nothing that stands in the way."""
        return OPERATIONS[self.operation].method == "GET" or POLICY[self.operation].anonymous


# --- Who reaches what -------------------------------------------------------------------------------------------


def everywhere(_: Principal) -> Outcome:
    """There is nothing that could be out of reach."""
    return None


def below(region: str, otherwise: int = 404) -> Reach:
    """Staff whose role covers the region."""
    return lambda who: None if who.covers(region) else otherwise


def not_ones_own(reach: Reach) -> Reach:
    """The reporter sees it, and counts already."""
    return lambda who: 409 if who.name == "the reporter" else reach(who)


def only(name: str) -> Reach:
    """One's own things are nobody else's."""
    return lambda who: None if who.name == name else 404


def handled(who: Principal) -> Outcome:
    """A hazard in the grid that the department is on: residents see it, too."""
    if who.resident or who.covers("grid") or who.held_at == DEPARTMENT:
        return None
    return 404


def handled_privately(who: Principal) -> Outcome:
    """The same in a category that is not for the public."""
    return handled(who) if who.resident is None or who.name == "the reporter" else 404


def by_the_reporter(who: Principal) -> Outcome:
    """Everybody sees it, one person may say so."""
    return None if who.name == "the reporter" else 403


def by_the_handler(who: Principal) -> Outcome:
    """The grid worker who took it: whoever else covers the grid sees it and may not."""
    if not who.covers("grid"):
        return 404
    return None if who.role is Role.GRID_WORKER else 403


def by_another_worker(who: Principal) -> Outcome:
    """Taken by somebody else: whoever covers the grid sees it and may not."""
    return 403 if who.covers("grid") else 404


def by_a_manager(who: Principal) -> Outcome:
    """Taken by somebody else: a grid worker leaves it alone, a manager of the place need not."""
    if not who.covers("grid"):
        return 404
    return 403 if who.role is Role.GRID_WORKER else None


def by_the_street(who: Principal) -> Outcome:
    """Called up: the street's turn."""
    if not who.covers("grid"):
        return 404
    return None if who.role is Role.STREET_DISPATCHER else 403


def by_the_department(who: Principal) -> Outcome:
    """Dispatched: the department's turn."""
    if who.held_at == DEPARTMENT:
        return None
    return 403 if who.covers("grid") else 404


def by_a_reporting_key(who: Principal) -> Outcome:
    """Open311: the key in the header counts, or, for nobody in particular, the one in the form."""
    if who.token is Token.NONE:
        return None
    return None if ApiScope.REPORTS_WRITE in who.scopes and who.covers("grid") else 403


# --- What is asked ----------------------------------------------------------------------------------------------


def asking(body: object = None, **query: object) -> Prepare:
    """The same for everybody."""

    async def prepare(_: World, __: Principal) -> Ask:
        return Ask(body=body, query=query)

    return prepare


def at_point(body: Json | None = None, **query: object) -> Prepare:
    """About a point in the grid: in the query, or in the body when there is one."""

    async def prepare(world: World, _: Principal) -> Ask:
        point = world.places.point(world.places.grid)
        return Ask(query={**query, **point}) if body is None else Ask(body={**body, "location": point})

    return prepare


def of_hazard(
    status: HazardStatus,
    body: object = None,
    *,
    category: str = PUBLIC,
    mine: bool = False,
    **query: object,
) -> Prepare:
    """About a hazard in the grid; `mine`: handled by whoever asks, if they are a grid worker there."""

    async def prepare(world: World, who: Principal) -> Ask:
        handler = world.people[who.name] if mine and by_the_handler(who) is None else None
        hazard = await world.hazard(status, handler=handler, category=category)
        filled = body(world) if callable(body) else body
        return Ask({"hazard_id": hazard}, filled, query)

    return prepare


def as_a_twin(body: Callable[[Person], object] | None = None, *, purpose: str | None = None) -> Prepare:
    """By somebody who is like the principal, and gone or changed afterwards."""

    async def prepare(world: World, who: Principal) -> Ask:
        twin = await world.twin(who)
        if purpose is not None and who.resident:
            await world.consent(twin, purpose)
        return Ask(body=body(twin) if body else None, caller=twin)

    return prepare


async def _refresh(world: World, _: Principal) -> Ask:
    resident = await make_resident(world.places.community)
    return Ask(body={"refresh_token": resident.refresh_token})


async def _staff_sign_in(world: World, _: Principal) -> Ask:
    staff = await make_staff(Role.GRID_WORKER, world.places.grid)
    return Ask(body={"username": staff.username, "password": PASSWORD})


def _proof(twin: Person) -> object:
    return {"totp": code_of(twin)} if twin.totp_secret else {"password": PASSWORD}


async def _confirm_totp(world: World, who: Principal) -> Ask:
    twin = await world.twin(who)
    return Ask(body={"totp": await world.offer_totp(twin) if who.is_staff else "123456"}, caller=twin)


async def _withdrawal(_: World, __: Principal) -> Ask:
    return Ask({"purpose": "contact_phone"})


async def _claim(world: World, who: Principal) -> Ask:
    body = {"region_id": str(world.places.building), "address": ADDRESS, "relation": "owner"}
    return Ask(body=body, caller=await world.twin(who) if who.resident else None)


async def _own_household(world: World, _: Principal) -> Ask:
    household = await world.household(resident=world.reporter)
    return Ask({"household_id": household})


async def _household(world: World, _: Principal) -> Ask:
    return Ask({"household_id": await world.household()})


async def _own_notification(world: World, _: Principal) -> Ask:
    return Ask({"notification_id": await world.notification(world.reporter)})


async def _staff_notification(world: World, _: Principal) -> Ask:
    return Ask({"notification_id": await world.notification(world.people["auditor of the grid"])})


async def _region(world: World, _: Principal) -> Ask:
    return Ask({"region_id": world.places.grid})


async def _region_update(world: World, _: Principal) -> Ask:
    body = {"name": "测试网格", "name_en": "Test grid", "parent_id": str(world.places.community)}
    return Ask({"region_id": world.places.grid}, body)


async def _category_update(_: World, __: Principal) -> Ask:
    body = {"urgency": "low", "public": True, "nearby_radius_m": 250, "deadlines": DEADLINES}
    return Ask({"code": "stray_dogs"}, body)


async def _upload(_: World, who: Principal) -> Ask:
    return Ask(form={"purpose": "hazard"}, file=PHOTO)


async def _own_picture(world: World, _: Principal) -> Ask:
    [picture] = await pictures(world.reporter)
    return Ask({"media_id": picture})


async def _picture_file(world: World, _: Principal) -> Ask:
    link = media.signed_url(world.photo, "thumbnail")
    query = dict(pair.split("=", 1) for pair in link.partition("?")[2].split("&"))
    return Ask({"media_id": world.photo, "rendition": "thumbnail"}, query=dict(query))


async def _resident(world: World, _: Principal) -> Ask:
    return Ask({"resident_id": world.known_resident})


async def _resident_reveal(world: World, _: Principal) -> Ask:
    body = {"fields": ["phone"], "reason": "核实住户认领，需电话联系"}
    return Ask({"resident_id": world.known_resident}, body)


async def _new_staff(world: World, _: Principal) -> Ask:
    body = {
        "username": f"new{secrets.token_hex(8)}",
        "display_name": "张伟",
        "role": "grid_worker",
        "region_id": str(world.places.grid),
    }
    return Ask(body=body)


def of_colleague(body: object = None) -> Prepare:
    """About a grid worker of the grid."""

    async def prepare(world: World, _: Principal) -> Ask:
        colleague, _grant = await world.colleague()
        return Ask({"staff_id": colleague.id}, body)

    return prepare


async def _returning(world: World, _: Principal) -> Ask:
    colleague, _grant = await world.colleague()
    await world.disable(colleague)
    return Ask({"staff_id": colleague.id})


async def _grant(world: World, _: Principal) -> Ask:
    newcomer = await make_staff(home_id=world.places.grid)
    return Ask({"staff_id": newcomer.id}, {"role": "grid_worker", "region_id": str(world.places.grid)})


async def _revocation(world: World, _: Principal) -> Ask:
    colleague, grant = await world.colleague()
    return Ask({"staff_id": colleague.id, "grant_id": grant})


async def _hand_over(world: World, _: Principal) -> Ask:
    colleague, _grant = await world.colleague()
    await world.hazard(HazardStatus.ACCEPTED, handler=colleague)
    return Ask({"staff_id": colleague.id}, {"to_staff_id": str(world.spare_worker.id)})


async def _filing(world: World, who: Principal) -> Ask:
    picture = await pictures(world.people[who.name]) if who.name in world.people else [str(world.photo)]
    body = {
        "category": "fire_passage_blocked",
        "description": "3栋1单元消防通道堆满纸箱",
        "media_ids": picture,
        "location": world.places.point(world.places.grid),
    }
    return Ask(body=body)


async def _merge(world: World, _: Principal) -> Ask:
    other = await world.hazard()
    return Ask({"hazard_id": await world.hazard()}, {"into_id": str(other)})


async def _merge_into_foreign(world: World, _: Principal) -> Ask:
    elsewhere = await world.hazard(at="far_grid")
    return Ask({"hazard_id": await world.hazard()}, {"into_id": str(elsewhere)})


def _lead(world: World) -> object:
    return {"lead_organisation_id": str(world.department)}


def _worker(world: World) -> object:
    return {"staff_id": str(world.worker.id)}


def _arrival(world: World) -> object:
    return {"location": world.places.point(world.places.grid)}


async def _review(world: World, _: Principal) -> Ask:
    hazard = await world.hazard()
    await world.flag(hazard)
    return Ask({"hazard_id": hazard}, {"part_id": str(hazard), "decision": "publish", "reason": "内容无误"})


async def _export(world: World, _: Principal) -> Ask:
    return Ask({"export_id": await world.export(world.people["auditor of the grid"])})


async def _new_key(world: World, _: Principal) -> Ask:
    body = {"name": "平台", "scopes": ["events:read"], "region_id": str(world.places.grid)}
    return Ask(body=body)


def of_key(body: object = None) -> Prepare:
    """About a key that counts in the grid."""

    async def prepare(world: World, _: Principal) -> Ask:
        return Ask({"key_id": await world.api_key()}, body)

    return prepare


async def _new_endpoint(world: World, _: Principal) -> Ask:
    return Ask(body={**RECEIVER, "region_id": str(world.places.grid)})


def of_endpoint(body: object = None, *, disabled: bool = False) -> Prepare:
    """About a receiver of what happens in the grid."""

    async def prepare(world: World, _: Principal) -> Ask:
        return Ask({"endpoint_id": await world.endpoint(disabled=disabled)}, body)

    return prepare


async def _delivery(world: World, _: Principal) -> Ask:
    return Ask({"delivery_id": await world.delivery()})


def in_json(**ids: str) -> Prepare:
    """Open311, in one of its two formats."""

    async def prepare(_: World, __: Principal) -> Ask:
        return Ask({**ids, "suffix": "json"})

    return prepare


async def _open311_report(world: World, _: Principal) -> Ask:
    point = wgs84_from_gcj02(Point(*world.places.centres[world.places.grid]))
    form = {
        "api_key": world.keys["key for reports:write of the street"],
        "service_code": "garbage",
        "description": "垃圾堆在路口",
        "lat": f"{point.lat:.6f}",
        "long": f"{point.lng:.6f}",
    }
    return Ask({"suffix": "json"}, form=form)


def of_open311_request(name: str) -> Prepare:
    """About a public hazard, by the name that the standard has for its id."""

    async def prepare(world: World, _: Principal) -> Ask:
        return Ask({name: await world.hazard(), "suffix": "json"})

    return prepare


async def _district_case(world: World, _: Principal) -> Ask:
    data = {"category_code": PUBLIC, "region_code": await world.community_code(), "description": "路灯不亮"}
    return Ask(body=_district("case.created", 1, data, secrets.token_hex(8)), signed=True)


def district_says(kind: str, **data: object) -> Prepare:
    """About a case that the district handed over."""

    async def prepare(world: World, who: Principal) -> Ask:
        return Ask(body=_district(kind, 1, data, str(await world.hazard())), signed=True)

    return prepare


def _district(kind: str, seq: int, data: Json, case: str) -> Json:
    at = clock.now().isoformat()
    return {"type": kind, "case": case, "seq": seq, "occurred_at": at, "data": data}


async def _watermarks(_: World, __: Principal) -> Ask:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    named = [{"region_code": "none", "count": 0, "checksum": empty}]
    return Ask(body={"day": "2026-01-01", "communities": named}, signed=True)


async def _push_check(_: World, __: Principal) -> Ask:
    stamp = str(int(time.time()))
    signature = sign(SANDBOX_PUSH_TOKEN, stamp, "7")
    return Ask(query={"signature": signature, "timestamp": stamp, "nonce": "7", "echostr": "hello"})


async def _push(_: World, __: Principal) -> Ask:
    stamp = str(int(time.time()))
    event = json.dumps({"Event": "user_enter_tempsession", "FromUserName": "o1", "CreateTime": stamp})
    sealed = encrypt(SANDBOX_PUSH_AES_KEY, event.encode(), SANDBOX_APPID, secrets.token_bytes(16))
    query = {"timestamp": stamp, "nonce": "7", "encrypt_type": "aes"}
    query["msg_signature"] = sign(SANDBOX_PUSH_TOKEN, stamp, "7", sealed)
    return Ask(body={"ToUserName": "gh", "Encrypt": sealed}, query=dict(query))


RECEIVER = {"name": "区平台", "url": CLOSED_URL, "event_types": ["region."]}
WINDOW = {"since": "2026-01-01T00:00:00Z", "until": "2026-01-02T00:00:00Z"}


async def _following_of_hazard(world: World, who: Principal) -> Ask:
    return Ask(body={"kind": "hazard", "hazard_id": str(await world.hazard(_S.DISPATCHED))})


async def _following_of_region(world: World, who: Principal) -> Ask:
    body = {"kind": "region", "region_id": str(world.places.grid)}
    return Ask(body=body, caller=await world.twin(who))


def _follows_region(who: Principal) -> Outcome:
    """Residents follow any place, staff where they work, departments wherever they may be sent."""
    if who.resident or who.covers("grid") or who.role is Role.DEPARTMENT_OFFICER:
        return None
    return 403


async def _own_subscription(world: World, _: Principal) -> Ask:
    return Ask({"subscription_id": await world.subscription(world.reporter, PrincipalKind.RESIDENT)})


async def _staff_subscription(world: World, _: Principal) -> Ask:
    auditor = world.people["auditor of the grid"]
    return Ask({"subscription_id": await world.subscription(auditor, PrincipalKind.STAFF)})


async def _case_document(world: World, _: Principal) -> Ask:
    """Of a case that nobody here has: only its ids are new."""
    hazard_id = await world.hazard(_S.DISPATCHED)
    async with database.transaction() as session:
        document = await case_documents.export(session, SYSTEM, hazard_id, None)
    return Ask(body=elsewhere(document.model_dump(mode="json")))


UNFIXED = {"outcome": "unfixed", "unfixed_reason": "out_of_scope"}
REASON = {"reason": "不属于我单位职责"}
LOOK = {"fields": ["phone"], "reason": "现场找不到隐患位置，需联系"}
_S = HazardStatus

CASES = (
    Case("read_healthz", asking(), everywhere),
    Case("read_readyz", asking(), everywhere),
    Case("read_metrics", asking(), everywhere),
    Case("create_wechat_session", asking({"code": "demo:matrix"}), everywhere),
    Case("create_staff_session", _staff_sign_in, everywhere),
    Case("refresh_session", _refresh, everywhere),
    Case("delete_current_session", as_a_twin(), everywhere),
    Case("step_up_session", as_a_twin(_proof), everywhere),
    Case("read_me", asking(), everywhere),
    Case("update_me", asking({"nickname": "老李"}), everywhere),
    Case("bind_my_phone", as_a_twin(lambda _: {"code": "demo:matrix"}, purpose="contact_phone"), everywhere),
    Case(
        "set_my_identity",
        as_a_twin(lambda _: {"real_name": "李明", "id_number": "11010519491231002X"}, purpose="identity"),
        everywhere,
    ),
    Case("claim_household", _claim, everywhere),
    Case("list_my_households", asking(), everywhere),
    Case("end_my_household", _own_household, only("the reporter")),
    Case("export_me", asking(), everywhere),
    Case("delete_me", as_a_twin(), everywhere),
    Case("list_consent_purposes", asking(), everywhere),
    Case("list_my_consents", asking(), everywhere),
    Case("grant_consent", asking({"purpose": "contact_phone", "version": "1"}), everywhere),
    Case("withdraw_consent", _withdrawal, everywhere),
    Case("add_message_quota", asking({"template_id": TEMPLATE, "count": 1}), everywhere),
    Case("list_my_notifications", asking(), everywhere),
    Case("read_my_notification", _own_notification, only("the reporter"), "of the reporter"),
    Case("read_my_notification", _staff_notification, only("auditor of the grid"), "of an auditor"),
    Case("list_my_access_log", asking(), everywhere),
    Case(
        "change_my_password",
        as_a_twin(lambda _: {"current_password": PASSWORD, "new_password": "quiet river 93 teapots"}),
        everywhere,
    ),
    Case("enrol_my_totp", as_a_twin(), everywhere),
    Case("confirm_my_totp", _confirm_totp, everywhere),
    Case("list_regions", asking(), everywhere),
    Case("locate_region", at_point(), everywhere),
    Case("read_region", _region, everywhere),
    # Regions are no secret: whoever may not change one is told so.
    Case("update_region", _region_update, below("grid", otherwise=403)),
    Case("list_organisations", asking(), everywhere),
    Case("upload_media", _upload, everywhere),
    Case("read_media", _own_picture, only("the reporter")),
    Case("download_media", _picture_file, everywhere),
    Case("list_households", asking(), everywhere),
    Case("confirm_household", _household, below("building")),
    Case("reject_household", _household, below("building")),
    Case("read_resident", _resident, handled),
    Case("reveal_resident", _resident_reveal, below("grid")),
    Case("list_staff", asking(), everywhere),
    Case("create_staff", _new_staff, below("grid", otherwise=403)),
    Case("read_staff", of_colleague(), below("grid")),
    Case("disable_staff", of_colleague(), below("grid")),
    Case("enable_staff", _returning, below("grid")),
    Case("reset_staff_password", of_colleague({"drop_totp": False}), below("grid")),
    Case("grant_role", _grant, below("grid")),
    Case("revoke_grant", _revocation, below("grid")),
    Case("hand_over_staff_hazards", _hand_over, below("grid")),
    Case("list_hazard_categories", asking(), everywhere),
    Case("update_hazard_category", _category_update, everywhere),
    Case("file_hazard", _filing, lambda who: None if who.resident or who.covers("grid") else 403),
    Case("list_hazards", asking(), everywhere),
    Case("list_nearby_hazards", at_point(category="garbage"), everywhere),
    Case("read_hazard_map", asking(bbox="104.0,30.5,104.3,30.8"), everywhere),
    Case("read_hazard_statistics", asking(), everywhere),
    Case("read_hazard", of_hazard(_S.DISPATCHED), handled),
    Case("read_hazard", of_hazard(_S.DISPATCHED, category=PRIVATE), handled_privately, "in private"),
    Case("read_hazard_timeline", of_hazard(_S.DISPATCHED), handled),
    Case("read_hazard_timeline", of_hazard(_S.DISPATCHED, category=PRIVATE), handled_privately, "in private"),
    Case("list_hazard_comments", of_hazard(_S.DISPATCHED), handled),
    Case("list_hazard_comments", of_hazard(_S.DISPATCHED, category=PRIVATE), handled_privately, "in private"),
    Case("add_hazard_comment", of_hazard(_S.DISPATCHED, {"text": "已通知物业"}), handled),
    Case(
        "add_hazard_comment",
        of_hazard(_S.DISPATCHED, {"text": "已通知物业"}, category=PRIVATE),
        handled_privately,
        "in private",
    ),
    Case(
        "add_hazard_comment",
        of_hazard(_S.DISPATCHED, {"text": "内部", "visibility": "internal"}),
        lambda who: 403 if who.resident else handled(who),
        "among staff",
    ),
    Case("support_hazard", of_hazard(_S.FILED), not_ones_own(everywhere)),
    Case(
        "support_hazard",
        of_hazard(_S.FILED, category=PRIVATE),
        not_ones_own(handled_privately),
        "in private",
    ),
    Case("accept_hazard", of_hazard(_S.FILED), below("grid")),
    Case("assign_hazard", of_hazard(_S.FILED, _worker), below("grid")),
    Case("call_street", of_hazard(_S.ACCEPTED, REASON, mine=True), by_the_handler),
    Case("call_street", of_hazard(_S.ACCEPTED, REASON), by_another_worker, "of another worker"),
    Case("dispatch_hazard", of_hazard(_S.CALLED, _lead), below("grid")),
    Case("refuse_hazard", of_hazard(_S.DISPATCHED, REASON), by_the_department),
    Case("check_in_hazard", of_hazard(_S.DISPATCHED, _arrival), by_the_department),
    Case("resolve_hazard", of_hazard(_S.ACCEPTED, UNFIXED, mine=True), by_the_handler, "in the grid"),
    Case("resolve_hazard", of_hazard(_S.CALLED, UNFIXED), by_the_street, "at the street"),
    Case("resolve_hazard", of_hazard(_S.CHECKED_IN, UNFIXED), by_the_department, "by the department"),
    Case("confirm_hazard", of_hazard(_S.RESOLVED), by_the_reporter),
    Case("dispute_hazard", of_hazard(_S.RESOLVED, {"reason": "第二天又堆满了"}), by_the_reporter),
    Case("rate_hazard", of_hazard(_S.RESOLVED, {"score": 5}), by_the_reporter),
    Case("merge_hazard", _merge, below("grid")),
    Case("merge_hazard", _merge_into_foreign, lambda _: 404, "into another street"),
    Case("reject_hazard", of_hazard(_S.FILED, {"reason": "not_a_hazard"}), below("grid")),
    Case("redact_hazard", of_hazard(_S.FILED, {"description": True, "reason": "abuse"}), below("grid")),
    Case(
        "reject_hazard", of_hazard(_S.ACCEPTED, {"reason": "not_a_hazard"}, mine=True), below("grid"), "taken"
    ),
    Case(
        "reject_hazard",
        of_hazard(_S.ACCEPTED, {"reason": "not_a_hazard"}),
        by_a_manager,
        "of another worker",
    ),
    Case("review_hazard", _review, below("grid")),
    Case("reveal_hazard_reporter", of_hazard(_S.DISPATCHED, LOOK), handled),
    Case("create_hazard_export", asking({"format": "csv", "reason": "周例会材料"}), everywhere),
    Case("read_hazard_export", _export, only("auditor of the grid")),
    Case("download_hazard_export", _export, only("auditor of the grid")),
    Case("create_api_key", _new_key, below("grid", otherwise=422)),
    Case("list_api_keys", asking(), everywhere),
    Case("read_api_key", of_key(), below("grid")),
    Case("rotate_api_key", of_key({"overlap_hours": 1}), below("grid")),
    Case("revoke_api_key", of_key(), below("grid")),
    Case("create_webhook_endpoint", _new_endpoint, below("grid", otherwise=422)),
    Case("list_webhook_endpoints", asking(), everywhere),
    Case("read_webhook_endpoint", of_endpoint(), below("grid")),
    Case("update_webhook_endpoint", of_endpoint(RECEIVER), below("grid")),
    Case("delete_webhook_endpoint", of_endpoint(), below("grid")),
    Case("rotate_webhook_secret", of_endpoint({"overlap_hours": 1}), below("grid")),
    Case("enable_webhook_endpoint", of_endpoint(disabled=True), below("grid")),
    Case("disable_webhook_endpoint", of_endpoint(), below("grid")),
    Case("ping_webhook_endpoint", of_endpoint(), below("grid")),
    Case("replay_webhook_endpoint", of_endpoint(WINDOW), below("grid")),
    Case("list_webhook_deliveries", asking(), everywhere),
    Case("read_webhook_delivery", _delivery, below("grid")),
    Case("retry_webhook_delivery", _delivery, below("grid")),
    Case("read_open311_discovery", in_json(), everywhere),
    Case("list_open311_services", in_json(), everywhere),
    Case("read_open311_service", in_json(service_code="street_lighting"), everywhere),
    Case("create_open311_request", _open311_report, by_a_reporting_key),
    Case("read_open311_token", of_open311_request("token"), everywhere),
    Case("list_open311_requests", in_json(), everywhere),
    Case("read_open311_request", of_open311_request("service_request_id"), everywhere),
    Case("list_events", asking(), everywhere),
    Case("receive_district_event", _district_case, everywhere, "a case"),
    Case("receive_district_event", district_says("case.replied", text="请尽快办理"), everywhere, "a reply"),
    Case(
        "receive_district_event",
        district_says("case.status_changed", status="received", note="已派发"),
        everywhere,
        "a status",
    ),
    Case("compare_district_watermarks", _watermarks, everywhere),
    Case("read_watermarks", asking(day="2026-11-20"), everywhere),
    Case("read_code_mappings", asking(), everywhere),
    Case("replace_code_mappings", asking({"mappings": []}), everywhere),
    Case("stream_events", asking(), everywhere),
    Case("verify_wechat_push", _push_check, everywhere),
    Case("receive_wechat_push", _push, everywhere),
    Case("read_hazard_feed", asking(), everywhere),
    Case("create_subscription", _following_of_hazard, handled),
    Case("create_subscription", _following_of_region, _follows_region, "in a region"),
    Case("list_subscriptions", asking(), everywhere),
    Case("delete_subscription", _own_subscription, only("the reporter"), "of the reporter"),
    Case("delete_subscription", _staff_subscription, only("auditor of the grid"), "of an auditor"),
    Case("read_hazard_case", of_hazard(_S.DISPATCHED), below("grid")),
    Case("import_case", _case_document, below("grid", otherwise=403)),
)
