"""Every way to falsify a chain of events that somebody with the database in hands may try, but rewriting it to its end."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from app import clock
from app.ids import new_id
from app.models.events import Audience, Event
from app.models.sessions import PrincipalKind
from app.sequencer import GENESIS, digest

LENGTH = 20


class Chain:
    """A copy of the placed events in order, and what the head says."""

    def __init__(self, rows: Iterable[dict[str, Any]], position: int, digest: str) -> None:
        self.rows = [dict(row) for row in rows]
        self.position, self.digest = position, digest

    def shift(self, first: int, by: int) -> None:
        """Move everything from a position on."""
        for row in self.rows:
            if row["position"] >= first:
                row["position"] += by

    def copy(self, source: int, position: int) -> dict[str, Any]:
        """One more event, much like another."""
        row = self.rows[source - 1] | {"no": 10**6, "id": new_id(), "seq": 99, "position": position}
        self.rows.append(row)
        return row


Tamper = Callable[[Chain, random.Random], int]
"""Falsifies a chain; the first position that is no longer right."""


def edit(chain: Chain, dice: random.Random) -> int:
    position = dice.randint(1, LENGTH)
    row = chain.rows[position - 1]
    changes: list[dict[str, Any]] = [
        {"no": 10**9},
        {"id": new_id()},
        {"type": "test.forged"},
        {"audience": Audience.PUBLIC},
        {"region_id": None},
        {"subject_kind": "staff"},
        {"subject_id": new_id()},
        {"seq": 99},
        {"actor_kind": PrincipalKind.STAFF},
        {"actor_id": new_id()},
        {"occurred_at": clock.now()},
        {"request_id": "forged"},
        {"payload": {"x": 0.2}},
        {"digest": "0" * 64},
        {"digest": None},
    ]
    row |= dice.choice(changes)
    return position


def edit_and_recompute(chain: Chain, dice: random.Random) -> int:
    """The row fits its digest again; the next row, or the head, gives it away."""
    position = dice.randint(1, LENGTH)
    row = chain.rows[position - 1]
    row["payload"] = {"x": 0.2}
    row["digest"] = digest(chain.rows[position - 2]["digest"] if position > 1 else GENESIS, Event(**row))
    return min(position + 1, LENGTH)


def remove(chain: Chain, dice: random.Random) -> int:
    position = dice.randint(1, LENGTH)
    del chain.rows[position - 1]
    return position


def remove_and_close_the_gap(chain: Chain, dice: random.Random) -> int:
    position = remove(chain, dice)
    chain.shift(position + 1, -1)
    return position


def unplace(chain: Chain, dice: random.Random) -> int:
    position = dice.randint(1, LENGTH)
    chain.rows[position - 1]["position"] = None
    return position


def insert(chain: Chain, dice: random.Random) -> int:
    position = dice.randint(1, LENGTH)
    chain.shift(position, 1)
    chain.copy(position, position)
    return position


def append(chain: Chain, dice: random.Random) -> int:
    """An event that fits, which the head knows nothing of."""
    row = chain.copy(dice.randint(1, LENGTH), LENGTH + 1)
    row["digest"] = digest(chain.digest, Event(**row))
    return LENGTH + 1


def hide_below(chain: Chain, dice: random.Random) -> int:
    chain.copy(dice.randint(1, LENGTH), 0)
    return 0


def swap(chain: Chain, dice: random.Random) -> int:
    """Two events change places, with or without their digests."""
    first, second = sorted(dice.sample(range(1, LENGTH + 1), 2))
    one, other = chain.rows[first - 1], chain.rows[second - 1]
    one["position"], other["position"] = second, first
    if dice.random() < 0.5:
        one["digest"], other["digest"] = other["digest"], one["digest"]
    return first


def move_to_the_end(chain: Chain, dice: random.Random) -> int:
    position = dice.randint(1, LENGTH - 1)
    row = chain.rows[position - 1]
    chain.shift(position + 1, -1)
    row["position"] = LENGTH
    return position


def cut_out(chain: Chain, dice: random.Random) -> int:
    first, last = sorted(dice.sample(range(1, LENGTH + 1), 2))
    del chain.rows[first - 1 : last]
    return first


def cut_off(chain: Chain, dice: random.Random) -> int:
    first = dice.randint(1, LENGTH)
    del chain.rows[first - 1 :]
    return first


def edit_head(chain: Chain, dice: random.Random) -> int:
    if dice.random() < 0.5:
        chain.digest = GENESIS
        return LENGTH
    chain.position = dice.choice([LENGTH - 1, LENGTH + 1])
    return chain.position


TAMPERINGS: list[Tamper] = [
    edit,
    edit_and_recompute,
    remove,
    remove_and_close_the_gap,
    unplace,
    insert,
    append,
    hide_below,
    swap,
    move_to_the_end,
    cut_out,
    cut_off,
    edit_head,
]
