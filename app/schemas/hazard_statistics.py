"""Statistics of hazards on the wire."""

from uuid import UUID

from pydantic import AwareDatetime

from app.schemas.base import Read


class HazardStatisticsRow(Read):
    """One cell. Of a `suppressed` one the public gets only the key: it concerns fewer than 5 reporters, or hides one."""

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
    filed_from: AwareDatetime | None
    filed_until: AwareDatetime | None
    items: list[HazardStatisticsRow]
    levels: list[LevelStatisticsRow]
    next_cursor: None = None
