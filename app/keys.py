"""The keys of this deployment, and sealing of columns with them."""

from app.crypto import Keyring, Vault
from app.models.base import Entity
from app.settings import settings

keyring = Keyring(settings.secret_keys)
vault = Vault(keyring)


def seal(row: Entity, column: str, value: str | None) -> None:
    """Encrypt `value` into `row.<column>_sealed`, bound to that row and column. None clears it."""
    name = f"{column}_sealed"
    sealed = (
        value if value is None else vault.seal(value, table=row.__tablename__, column=name, row_id=row.id)
    )
    setattr(row, name, sealed)


def unseal(row: Entity, column: str) -> str | None:
    """Decrypt `row.<column>_sealed`; None when there is nothing."""
    name = f"{column}_sealed"
    sealed = getattr(row, name)
    return sealed and vault.open(sealed, table=row.__tablename__, column=name, row_id=row.id)
