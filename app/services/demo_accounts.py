"""The staff of the demo community: invented people whose published passwords let a newcomer walk the whole story."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.errors import Conflict
from app.ids import new_id
from app.keys import seal
from app.models.organisations import Organisation
from app.models.regions import Region
from app.models.staff import Grant, Role, Staff
from app.passwords import hashing
from app.policy import ROLES_WITH_TOTP
from app.settings import settings

PASSWORD = "feng-ye-2026-demo"
TOTP_SECRET = "JINCAILIFEDEMOONLYNOTASECRET2345"

_DISTRICT, _CHENGLONG, _LIUJIANG = "510104", "510104909", "510104910"
_MAPLE, _LIUJIANG_FIRST = "510104909901", "510104910901"
_GRID_WORKERS = (
    ("5101049099010101", "陈晓枫"),
    ("5101049099010102", "李文静"),
    ("5101049099010103", "王建国"),
    ("5101049099010201", "刘思远"),
    ("5101049099010202", "杨秀兰"),
    ("5101049099010301", "赵志强"),
    ("5101049099010302", "黄雨晴"),
    ("5101049099010401", "周海涛"),
    ("5101049099010402", "吴桂芳"),
    ("5101049099010501", "徐子昂"),
    ("5101049099010601", "孙丽华"),
    ("5101049099010602", "马俊杰"),
    ("5101049099010701", "朱永康"),
)
_OFFICERS = (
    ("officer.fire", "fire_rescue", "何卫东"),
    ("officer.urban", "urban_enforcement", "高明亮"),
    ("officer.housing", "housing_transport", "林国栋"),
    ("officer.civil", "civil_affairs", "罗淑珍"),
    ("officer.police", "public_security", "郑凯"),
    ("officer.emergency", "emergency_management", "梁勇"),
    ("officer.sanitation", "sanitation", "谢玉梅"),
    ("officer.parks", "park_city", "宋青松"),
    ("officer.rivers", "water_affairs", "唐清泉"),
    ("officer.ecology", "ecology", "许蓝天"),
    ("officer.market", "market_regulation", "韩诚"),
    ("officer.gas", "gas_company", "冯安"),
    ("officer.power", "power_company", "邓辉"),
    ("officer.water", "water_company", "曹润"),
    ("officer.sihai", "sihai_property", "彭乐"),
)


class DemoRefused(Conflict):
    """Passwords that anybody can read do not belong into production."""

    code = "demo_refused"
    title_en, title_zh = (
        "Demo accounts are for development only (JINCAI_ENV=dev)",
        "演示账号仅可用于开发环境（JINCAI_ENV=dev）",
    )


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in to the demo: one role, at one region or in one organisation, by code."""

    username: str
    display_name: str
    role: Role
    code: str

    @property
    def needs_totp(self) -> bool:
        """Whether the role asks for a second factor."""
        return self.role in ROLES_WITH_TOTP

    @property
    def is_officer(self) -> bool:
        """Whether `code` names an organisation."""
        return self.role is Role.DEPARTMENT_OFFICER


ACCOUNTS = (
    *(
        Account(f"grid{number:02}", name, Role.GRID_WORKER, code)
        for number, (code, name) in enumerate(_GRID_WORKERS, start=1)
    ),
    Account("manager.maple", "沈慧", Role.COMMUNITY_MANAGER, _MAPLE),
    Account("dispatcher.chenglong", "蒋志明", Role.STREET_DISPATCHER, _CHENGLONG),
    *(Account(username, name, Role.DEPARTMENT_OFFICER, code) for username, code, name in _OFFICERS),
    Account("grid.liujiang", "尹春燕", Role.GRID_WORKER, _LIUJIANG_FIRST),
    Account("manager.liujiang", "范立新", Role.COMMUNITY_MANAGER, _LIUJIANG_FIRST),
    Account("dispatcher.liujiang", "石磊", Role.STREET_DISPATCHER, _LIUJIANG),
    Account("admin.jinjiang", "苏瑾", Role.DISTRICT_ADMIN, _DISTRICT),
    Account("auditor.jinjiang", "顾清", Role.AUDITOR, _DISTRICT),
    Account("system.admin", "江帆", Role.SYSTEM_ADMIN, _DISTRICT),
)


async def missing(session: AsyncSession) -> list[Account]:
    """The accounts that are not there yet."""
    known = set(await session.scalars(select(Staff.username)))
    return [account for account in ACCOUNTS if account.username not in known]


async def hash_password() -> str:
    """What is stored of the one password; it takes a while, so it is made once and outside any transaction."""
    return await hashing.hash(PASSWORD)


async def add(session: AsyncSession, password_hash: str) -> int:
    """Add the accounts that are missing; the reference data must be there. Raises DemoRefused in production."""
    if settings.env != "dev":
        raise DemoRefused
    regions = {row.code: row.id for row in await session.execute(select(Region.code, Region.id))}
    organisations = {row.code: row for row in await session.scalars(select(Organisation))}
    accounts = await missing(session)
    for account in accounts:
        organisation = organisations[account.code] if account.is_officer else None
        region_id = organisation.region_id if organisation else regions[account.code]
        staff = _staff(account, region_id, password_hash)
        session.add(staff)
        await session.flush()
        session.add(_grant(account, staff.id, region_id, organisation))
    await session.flush()
    return len(accounts)


def _staff(account: Account, region_id: UUID, password_hash: str) -> Staff:
    staff = Staff(
        id=new_id(),
        username=account.username,
        region_id=region_id,
        password_hash=password_hash,
        must_change_password=False,
    )
    seal(staff, "display_name", account.display_name)
    seal(staff, "totp_secret", TOTP_SECRET if account.needs_totp else None)
    return staff


def _grant(account: Account, staff_id: UUID, region_id: UUID, organisation: Organisation | None) -> Grant:
    return Grant(
        staff_id=staff_id,
        role=account.role,
        region_id=None if organisation else region_id,
        organisation_id=organisation.id if organisation else None,
    )
