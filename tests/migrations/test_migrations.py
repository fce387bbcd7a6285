"""The migrations and the models say the same, and every step can be taken back."""

from tests.engines import alembic, new_database


def test_up_and_down_and_nothing_missing() -> None:
    url = new_database("migrations")
    alembic(url, "check")
    alembic(url, "downgrade", "base")
    alembic(url, "upgrade", "head")
    alembic(url, "check")
