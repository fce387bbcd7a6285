"""The database knows with which keys it was written, and nobody goes on with others."""

import base64

import pytest
from sqlalchemy import select

from app.crypto import Keyring
from app.db import Database
from app.models.key_checks import KeyCheck
from app.models.residents import Resident
from app.services import key_checks
from app.services.key_checks import WrongKeys
from app.settings import settings
from tests.factories import Places, make_resident

_N = base64.urlsafe_b64encode(b"n" * 32).decode().rstrip("=")
OURS = Keyring(settings.secret_keys)
OTHER_BYTES = Keyring(f"{OURS.current}:{_N}")
LACKING = Keyring(f"new:{_N}")
BOTH = Keyring(f"new:{_N},{settings.secret_keys}")


async def test_the_key_that_was_first_is_the_key(db: Database) -> None:
    await key_checks.require(OURS)
    await key_checks.require(OURS)
    assert (await _known(db))[OURS.current] == OURS.fingerprint(OURS.current)


async def test_other_bytes_under_the_same_name_are_noticed(db: Database) -> None:
    with pytest.raises(WrongKeys, match=f"The key {OURS.current} in JINCAI_SECRET_KEYS is not the"):
        await key_checks.require(OTHER_BYTES)
    with pytest.raises(WrongKeys):
        await key_checks.require(OTHER_BYTES, may_lack=True)
    async with db.reading() as session:
        assert len(await key_checks.problems(session, OTHER_BYTES)) == 1


async def test_a_key_that_is_gone_is_noticed_before_another_is_noted(db: Database) -> None:
    with pytest.raises(WrongKeys, match="which JINCAI_SECRET_KEYS lacks"):
        await key_checks.require(LACKING)
    assert "new" not in await _known(db)


async def test_an_old_ring_seals_nothing(db: Database, places: Places) -> None:
    """Typed in a shell of yesterday it would shut out every server of today."""
    await make_resident(places.community)
    with pytest.raises(WrongKeys, match="which JINCAI_SECRET_KEYS lacks"):
        await key_checks.require(LACKING, may_lack=True)
    assert "new" not in await _known(db)


async def test_a_key_is_forgotten_once_nothing_needs_it(db: Database, places: Places) -> None:
    await make_resident(places.community)
    await key_checks.require(BOTH)
    assert {"new", OURS.current} <= (await _known(db)).keys()
    await key_checks.forget_unused(BOTH)
    async with db.reading() as session:
        assert await session.scalar(select(Resident.id).limit(1)) is not None
    assert {"new", OURS.current} <= (await _known(db)).keys()
    await key_checks.forget_unused(OURS)
    assert "new" not in await _known(db)


def test_a_fingerprint_tells_keys_apart_and_is_none_of_them() -> None:
    assert OURS.fingerprint(OURS.current) != OTHER_BYTES.fingerprint(OURS.current)
    assert OURS.fingerprint(OURS.current) == BOTH.fingerprint(OURS.current)
    assert OURS.fingerprint(OURS.current) != OURS.derive("seal", OURS.current).hex()


async def _known(db: Database) -> dict[str, str]:
    async with db.reading() as session:
        rows = await session.execute(select(KeyCheck.kid, KeyCheck.fingerprint))
        return {row.kid: row.fingerprint for row in rows}
