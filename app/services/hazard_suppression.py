"""Which cells of the public's statistics say too much about too few people, also to somebody who can subtract."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from typing import TypeVar
from uuid import UUID

MIN_PEOPLE = 5

Key = TypeVar("Key", bound=Hashable)
People = AbstractSet[UUID | None]
Path = tuple[str, ...]


def hidden(table: Mapping[Path, People]) -> set[Path]:
    """The cells of a table to suppress, where a path leads to each cell from the top: street, community.

    The total of each level may be known. A part that is hidden hides everything below it.
    """
    parts: dict[str, dict[Path, People]] = defaultdict(dict)
    for path, people in table.items():
        parts[path[0]][path[1:]] = people
    gone = too_few({head: frozenset().union(*below.values()) for head, below in parts.items()})
    found: set[Path] = set()
    for head, below in parts.items():
        if head in gone:
            found |= {(head, *rest) for rest in below}
        elif () not in below:
            found |= {(head, *rest) for rest in hidden(below)}
    return found


def too_few(cells: Mapping[Key, People]) -> set[Key]:
    """Every cell of fewer than five people, and the next smallest until they hide each other.

    What is hidden can be added up by whoever knows the total: it is two cells and five people at least.
    """
    gone: set[Key] = set()
    together: set[UUID | None] = set()
    for key in sorted(cells, key=lambda key: (len(cells[key]), str(key))):
        hides_itself = not gone or (len(gone) > 1 and len(together) >= MIN_PEOPLE)
        if len(cells[key]) >= MIN_PEOPLE and hides_itself:
            break
        gone.add(key)
        together |= cells[key]
    return gone
