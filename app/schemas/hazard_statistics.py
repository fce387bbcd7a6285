"""Statistics of hazards on the wire."""

from uuid import UUID

from app.schemas.base import Read


class HazardStatisticsRow(Read):
    """One cell. `suppressed` cells concern fewer than 5 reporters: only their key is given to the public."""

    key: str
    name: str | None
    region_id: UUID | None
    suppressed: bool
    filed: int | None
    open: int | None
    resolved: int | None
    closed_fixed: int | None
    closed_unfixed: int | None
    rejected: int | None
    merged: int | None
    overdue: int | None
    disputed: int | None
    median_seconds_to_resolve: int | None
    satisfaction: float | None
    ratings: int | None


class LevelStatisticsRow(Read):
    """How one level kept its deadlines."""

    level: str
    started: int
    ended: int
    overdue: int
    warned: int
    median_seconds: int | None


class HazardStatistics(Read):
    """Counts by one dimension over hazards filed in a period, and how each level kept its deadlines."""

    group_by: str
    items: list[HazardStatisticsRow]
    levels: list[LevelStatisticsRow]
    next_cursor: None = None
