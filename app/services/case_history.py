"""Whether a case document can be true: its digest, its order, and whether its status is where its history leads."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from itertools import pairwise

from app.errors import FieldError, InvalidInput
from app.models.hazard_assignments import AssignmentStatus
from app.models.hazards import OPEN_STATUSES, HazardStatus
from app.schemas.cases import CaseDocument, CaseEvent

_S = HazardStatus
_REOPENED = (_S.ACCEPTED, _S.CALLED, _S.CHECKED_IN)
_AT_DEPARTMENT = (_S.DISPATCHED, _S.CHECKED_IN)
_CLOCKS_APART = timedelta(seconds=1)
"""Two servers of one service write one history, and their clocks differ a little."""

_TAKING = ("hazard.accepted", "hazard.assigned")
_STEPS: dict[str, tuple[tuple[HazardStatus, ...], tuple[HazardStatus, ...]]] = {
    "hazard.accepted": ((_S.FILED,), (_S.ACCEPTED,)),
    "hazard.assigned": ((_S.FILED, _S.ACCEPTED), (_S.ACCEPTED,)),
    "hazard.called": ((_S.ACCEPTED,), (_S.CALLED,)),
    "hazard.dispatched": ((_S.CALLED,), (_S.DISPATCHED,)),
    "hazard.refused": (_AT_DEPARTMENT, (_S.CALLED, *_AT_DEPARTMENT)),
    "hazard.checked_in": (_AT_DEPARTMENT, _AT_DEPARTMENT),
    "hazard.resolved": (_REOPENED, (_S.RESOLVED,)),
    "hazard.confirmed": ((_S.RESOLVED,), (_S.CLOSED,)),
    "hazard.closed": ((*OPEN_STATUSES, _S.RESOLVED), (_S.CLOSED,)),
    "hazard.disputed": ((_S.RESOLVED,), _REOPENED),
    "hazard.returned": ((_S.RESOLVED, _S.CLOSED), (_S.FILED, *_REOPENED)),
    "hazard.rejected": ((_S.FILED, _S.ACCEPTED, _S.CALLED), (_S.REJECTED,)),
    "hazard.merged": (OPEN_STATUSES, (_S.MERGED,)),
}
"""From which statuses a step leads to which; every other kind of event leaves the status alone."""


class InvalidCase(InvalidInput):
    """The document is damaged, does not fit this service, or contradicts itself; nothing of it was taken."""

    code = "invalid_case"
    title_en, title_zh = "The case document cannot be imported", "案件文档无法导入"


def require_plausible(document: CaseDocument) -> None:
    """422 that names every field that cannot be true."""
    faults = [*_damage(document), *_order(document), *_way(document), *_numbers(document)]
    faults += _references(document)
    if faults:
        raise InvalidCase(fields=faults)


def fault(loc: Sequence[str | int], code: str, english: str, chinese: str) -> FieldError:
    """What is wrong with one field of the document."""
    return FieldError(("body", *loc), code, english, chinese)


def _damage(document: CaseDocument) -> Iterator[FieldError]:
    if document.digest != document.computed_digest():
        yield fault(["digest"], "case_digest", "does not belong to this document", "与文档内容不符")


def _order(document: CaseDocument) -> Iterator[FieldError]:
    """Numbered 1, 2, 3 … and never back in time."""
    for index, event in enumerate(document.events):
        if event.seq != index + 1:
            yield fault(
                ["events", index, "seq"], "case_gap", f"should be {index + 1}", f"序号应为 {index + 1}"
            )
            return
    times = [
        document.case.created_at,
        *(event.occurred_at for event in document.events),
        document.exported_at,
    ]
    for index, (before, after) in enumerate(pairwise(times)):
        if after < before - _CLOCKS_APART:
            last = index == len(document.events)
            loc: tuple[str | int, ...] = ("exported_at",) if last else ("events", index, "occurred_at")
            yield fault(loc, "case_backwards", "lies before what happened before it", "时间早于前一事件")


def _way(document: CaseDocument) -> Iterator[FieldError]:
    """Step by step from `filed` to the status of the case."""
    first, *rest = document.events
    if first.type != "hazard.filed" or _told(first) is not _S.FILED:
        yield fault(
            ["events", 0, "type"], "case_beginning", "a case begins with hazard.filed", "应以上报开始"
        )
        return
    now = _S.FILED
    for index, event in enumerate(rest, start=1):
        told = _told(event) or now
        before, after = _STEPS.get(event.type, ((now,), (now,)))
        if event.type == "hazard.filed" or now not in before or told not in after:
            yield fault(
                ["events", index, "data", "status"],
                "case_step",
                f"{event.type} does not lead from {now} to {told}",
                f"不能由“{now}”经此步骤到“{told}”",
            )
            return
        now = told
    if now is not document.case.status:
        yield fault(["case", "status"], "case_status", f"the history ends in {now}", f"历史记录止于“{now}”")
    yield from _taking(document)
    yield from _counts(document)


def _taking(document: CaseDocument) -> Iterator[FieldError]:
    """Somebody has taken it when the history says so, and only then: the district closes untaken cases, too."""
    taken = any(event.type in _TAKING for event in document.events)
    if taken and document.case.accepted_at is None:
        yield fault(
            ["case", "accepted_at"], "case_taken", "the history says it was taken", "历史记录为已受理"
        )
    elif not taken and document.case.accepted_at is not None:
        yield fault(
            ["case", "accepted_at"], "case_taken", "the history says nobody took it", "历史记录为未受理"
        )


def _counts(document: CaseDocument) -> Iterator[FieldError]:
    """What the case counts is what happened so often."""
    supported = [
        event.data.get("supporters") for event in document.events if event.type == "hazard.supported"
    ]
    counted = {
        "disputes": sum(event.type == "hazard.disputed" for event in document.events),
        "supporters": supported[-1] if supported else 0,
    }
    for name, count in counted.items():
        if getattr(document.case, name) != count:
            yield fault(["case", name], "case_count", f"the history says {count}", f"历史记录为 {count}")


def _numbers(document: CaseDocument) -> Iterator[FieldError]:
    """Clocks follow each other without a gap, and a department refuses once."""
    for index, deadline in enumerate(document.deadlines):
        if deadline.n != index + 1:
            yield fault(
                ["deadlines", index, "n"], "case_gap", f"should be {index + 1}", f"序号应为 {index + 1}"
            )
            return
    refused = Counter(
        part.organisation_code for part in document.assignments if part.status is AssignmentStatus.REFUSED
    )
    for index, part in enumerate(document.assignments):
        if refused[part.organisation_code] > 1:
            yield fault(["assignments", index, "status"], "case_count", "refuses twice", "重复退回")


def _references(document: CaseDocument) -> Iterator[FieldError]:
    """No id twice, and comments belong to steps that are there."""
    for name in ("assignments", "deadlines", "comments", "events", "media"):
        seen = set()
        for index, part in enumerate(getattr(document, name)):
            if part.id in seen:
                yield fault([name, index, "id"], "case_repeated", "is there twice", "重复")
            seen.add(part.id)
    known = {event.id for event in document.events}
    for index, comment in enumerate(document.comments):
        if comment.event_id is not None and comment.event_id not in known:
            yield fault(
                ["comments", index, "event_id"],
                "case_unknown_event",
                "is no event of this case",
                "事件不存在",
            )


def _told(event: CaseEvent) -> HazardStatus | None:
    status = event.data.get("status")
    return HazardStatus(status) if status in set(HazardStatus) else None
