"""Whether the key ring is the one that the database was written with.

With other keys nothing sealed opens, and nobody is found by a blind index: residents who come back would become new ones.
"""

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock
from app.crypto import Keyring
from app.db import database, insert
from app.errors import Unavailable
from app.keys import keyring as ours
from app.models.key_checks import KeyCheck
from app.services import key_rotation


class WrongKeys(Unavailable):
    """The database was written with keys that JINCAI_SECRET_KEYS does not have."""

    code = "wrong_keys"
    title_en, title_zh = (
        "The keys are not those that the database was written with",
        "密钥与数据库所用密钥不一致",
    )


async def require(keyring: Keyring = ours, *, may_lack: bool = False) -> None:
    """WrongKeys, a sentence for each of them; a key that is current for the first time is written down.

    With `may_lack` keys may be missing that nothing needs, or whose values are lost. A ring with an unknown key in front
    that lacks one in use is wrong all the same: it is an old one.
    """
    async with database.reading() as session:
        checks = await _checks(session)
        lacking = _lacking(checks, keyring)
        if may_lack and (keyring.current in checks or not await _are_used(session, checks, keyring)):
            lacking = []
    found = _others(checks, keyring) + lacking
    if found:
        raise WrongKeys(" ".join(found))
    if keyring.current not in checks:
        await _remember(keyring)
        # Somebody with another key of this name may have been faster.
        await require(keyring, may_lack=may_lack)


async def problems(session: AsyncSession, keyring: Keyring = ours) -> list[str]:
    """What is wrong with the key ring, in English, one sentence for each key."""
    checks = await _checks(session)
    return _others(checks, keyring) + _lacking(checks, keyring)


async def forget_unused(keyring: Keyring = ours) -> None:
    """Forget keys that are not current and that no stored value needs."""
    async with database.transaction() as session:
        for kid in list(await session.scalars(select(KeyCheck.kid).where(KeyCheck.kid != keyring.current))):
            if not await key_rotation.is_used(session, kid):
                await session.execute(delete(KeyCheck).where(KeyCheck.kid == kid))


async def _checks(session: AsyncSession) -> dict[str, str]:
    rows = await session.execute(select(KeyCheck.kid, KeyCheck.fingerprint).order_by(KeyCheck.kid))
    return {row.kid: row.fingerprint for row in rows}


def _others(checks: dict[str, str], keyring: Keyring) -> list[str]:
    return [
        f"The key {kid} in JINCAI_SECRET_KEYS is not the {kid} that the database was written with."
        for kid, fingerprint in checks.items()
        if kid in keyring.kids and keyring.fingerprint(kid) != fingerprint
    ]


def _lacking(checks: dict[str, str], keyring: Keyring) -> list[str]:
    return [
        f"The database was written with the key {kid}, which JINCAI_SECRET_KEYS lacks."
        for kid in checks
        if kid not in keyring.kids
    ]


async def _are_used(session: AsyncSession, checks: dict[str, str], keyring: Keyring) -> bool:
    """Whether any stored value needs a key that the ring lacks."""
    for kid in checks:
        if kid not in keyring.kids and await key_rotation.is_used(session, kid):
            return True
    return False


async def _remember(keyring: Keyring) -> None:
    kid = keyring.current
    values = {"kid": kid, "fingerprint": keyring.fingerprint(kid), "created_at": clock.now()}
    async with database.transaction() as session:
        await session.execute(insert(KeyCheck).values(values).on_conflict_do_nothing())
