"""The content check: nothing that a resident wrote or photographed is public before WeChat let it pass.

What WeChat finds risky, wants looked at, or cannot check stays hidden, and staff are told: they have the last word
(`hazard_reviews`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app import clock, events, outbox
from app.auth import SYSTEM
from app.clients.wechat import Suggestion
from app.clients.wechat_errors import UserInactive, UserUnknown
from app.clients.wechat_push import MediaChecked
from app.db import database
from app.keys import unseal
from app.leases import Lease, Retry
from app.models.base import JsonObject, JsonValue
from app.models.events import Audience
from app.models.hazard_comments import HazardComment
from app.models.hazards import Hazard, HazardSource, PublicState
from app.models.media import Media, MediaReview
from app.models.residents import Resident
from app.models.sessions import PrincipalKind
from app.outside import outside
from app.services import hazard_access, media, residents
from app.services.wechat_tasks import retried

TEXT = "review.text"
MEDIA = "review.media"
NICKNAME = "review.nickname"
VERDICT = "review.verdict"

_ANSWERED_WITHIN = timedelta(minutes=30)
_ASKED_FOR = timedelta(days=1)
_LINK_SECONDS = 3600
_SWEPT = 100
_UNKNOWN_TRIES = 4


@dataclass(frozen=True, slots=True)
class _Author:
    """Whose words or picture it is: trusted staff, somebody whom WeChat knows, or somebody who has left."""

    trusted: bool
    openid: str | None


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What to do with it, and what is told to staff: WeChat's advice and its number for the kind of risk."""

    advice: str
    label: int | None = None

    @property
    def passed(self) -> bool:
        return self.advice == Suggestion.PASS

    @property
    def facts(self) -> JsonObject:
        return {"advice": self.advice, "label": self.label}


_PASSED = _Verdict(Suggestion.PASS)
_UNCHECKED = _Verdict("unchecked")


async def review_text(lease: Lease) -> None:
    """Have the description of a hazard, or a comment, checked; then it is public, or hidden."""
    async with database.reading() as session:
        row = await _words(session, lease.payload)
        if row is None or row.public_state is not PublicState.PENDING:
            return
        text = unseal(row, "description" if isinstance(row, Hazard) else "text")
        if text is None:
            return
        author = await _author(session, row)
    verdict = await _judge_text(text, author)
    async with lease.last_transaction() as session:
        await _settle_text(session, row, verdict)


async def review_nickname(lease: Lease) -> None:
    """Have a nickname checked. One that does not pass is shown to nobody, and its owner may choose another."""
    resident_id = UUID(str(lease.payload["resident_id"]))
    async with database.reading() as session:
        resident = await session.get(Resident, resident_id)
        if resident is None or resident.nickname_state is not PublicState.PENDING:
            return
        nickname, openid = unseal(resident, "nickname"), unseal(resident, "openid")
    if nickname is None:
        return
    verdict = await _judge_text(nickname, _Author(trusted=False, openid=openid))
    async with lease.last_transaction() as session:
        resident = await residents.lock(session, resident_id)
        # Another nickname has a check of its own.
        if unseal(resident, "nickname") == nickname:
            resident.nickname_state = PublicState.VISIBLE if verdict.passed else PublicState.HIDDEN
            if not verdict.passed:
                residents.record(session, SYSTEM, resident, "resident.nickname_hidden", verdict.facts)


async def review_media(lease: Lease) -> None:
    """Hand a picture in for its check. The verdict is pushed to us later, under the trace id."""
    media_id = UUID(str(lease.payload["media_id"]))
    async with database.reading() as session:
        picture = await session.get(Media, media_id)
        if picture is None or picture.erased_at or picture.review is not MediaReview.PENDING:
            return
        author = await _author(session, picture)
    if author.trusted or author.openid is None:
        async with lease.last_transaction() as session:
            await _settle_media(session, picture, _PASSED if author.trusted else _UNCHECKED)
        return
    trace = await _submit(media_id, author.openid)
    async with lease.last_transaction() as session:
        if trace is None:
            await _settle_media(session, picture, _UNCHECKED)
        else:
            submitted = {"review_trace": trace, "review_submitted_at": clock.now()}
            await session.execute(update(Media).where(Media.id == media_id).values(submitted))


async def receive_verdict(session: AsyncSession, pushed: MediaChecked, key: str) -> None:
    """Keep a pushed verdict, once per `key`: the worker applies it, also when our own commit is later than the push."""
    payload: JsonObject = {"trace_id": pushed.trace_id, "advice": pushed.suggestion, "label": pushed.label}
    await outbox.enqueue(session, VERDICT, payload, key=key)


async def apply_verdict(lease: Lease) -> None:
    """Settle the picture of a trace id. One that WeChat could not check keeps waiting for the next submission.

    A trace that stays unknown was that of a worker which was killed before it wrote it down: another handed the
    picture in again.
    """
    trace, advice, label = (lease.payload.get(name) for name in ("trace_id", "advice", "label"))
    async with lease.last_transaction() as session:
        picture = await session.scalar(select(Media).where(Media.review_trace == trace))
        if picture is None and lease.attempt < _UNKNOWN_TRIES:
            raise Retry("no picture has this trace id")
        if picture is not None and isinstance(advice, str):
            await _settle_media(session, picture, _Verdict(advice, label if isinstance(label, int) else None))


async def resubmit_unanswered(session: AsyncSession) -> int:
    """Hand pictures in again whose verdict never came; after a day a person has to look. How many there were."""
    now = clock.now()
    waiting = select(Media.id).where(_unanswered()).limit(_SWEPT).with_for_update(skip_locked=True)
    rows = await session.scalars(
        update(Media)
        .where(Media.id.in_(select(waiting.cte("waiting").c.id)))
        .values(review_submitted_at=now)
        .returning(Media)
        .execution_options(synchronize_session=False)
    )
    pictures = list(rows)
    for picture in pictures:
        if picture.created_at > now - _ASKED_FOR:
            await outbox.enqueue(session, MEDIA, {"media_id": str(picture.id)})
        else:
            verdict: JsonObject = {"trace_id": picture.review_trace, "advice": _UNCHECKED.advice}
            await outbox.enqueue(session, VERDICT, verdict)
    return len(pictures)


async def is_any_unanswered(session: AsyncSession) -> bool:
    """Whether a verdict is overdue."""
    return await session.scalar(select(Media.id).where(_unanswered()).limit(1)) is not None


def _unanswered() -> ColumnElement[bool]:
    return and_(
        Media.review == MediaReview.PENDING,
        Media.review_submitted_at < clock.now() - _ANSWERED_WITHIN,
        Media.erased_at.is_(None),
    )


async def _words(session: AsyncSession, payload: Mapping[str, JsonValue]) -> Hazard | HazardComment | None:
    if "comment_id" in payload:
        return await session.get(HazardComment, UUID(str(payload["comment_id"])))
    return await session.get(Hazard, UUID(str(payload["hazard_id"])))


async def _author(session: AsyncSession, row: Hazard | HazardComment | Media) -> _Author:
    trusted, resident_id = _origin(row)
    if trusted or resident_id is None:
        return _Author(trusted, None)
    resident = await session.get(Resident, resident_id)
    return _Author(trusted, unseal(resident, "openid") if resident else None)


def _origin(row: Hazard | HazardComment | Media) -> tuple[bool, UUID | None]:
    """Whether staff made it, and which resident otherwise did."""
    if isinstance(row, Hazard):
        return row.source is not HazardSource.MINI_PROGRAM, row.reporter_id
    if isinstance(row, HazardComment):
        return row.author_kind is not PrincipalKind.RESIDENT, row.author_id
    return row.owner_kind is not PrincipalKind.RESIDENT, row.owner_id


async def _judge_text(text: str, author: _Author) -> _Verdict:
    if author.trusted:
        return _PASSED
    if author.openid is None:
        return _UNCHECKED
    with retried():
        try:
            found = await outside.wechat.msg_sec_check(text, author.openid)
        except (UserInactive, UserUnknown):
            return _UNCHECKED
    return _Verdict(found.suggestion, found.label)


async def _submit(media_id: UUID, openid: str) -> str | None:
    """The trace id of the check; None when WeChat does not know the owner."""
    link = media.signed_url(media_id, "main", _LINK_SECONDS)
    with retried():
        try:
            return await outside.wechat.media_check_async(link, openid)
        except (UserInactive, UserUnknown):
            return None


async def _settle_text(session: AsyncSession, row: Hazard | HazardComment, verdict: _Verdict) -> None:
    table = type(row)
    hazard = await _lock(session, row.id if isinstance(row, Hazard) else row.hazard_id)
    state = PublicState.VISIBLE if verdict.passed else PublicState.HIDDEN
    settled = await session.scalar(
        update(table)
        .where(table.id == row.id, table.public_state == PublicState.PENDING)
        .values(public_state=state)
        .returning(table.id)
    )
    if settled is not None and not verdict.passed:
        _flag(session, hazard, "description" if isinstance(row, Hazard) else "comment", row.id, verdict)


async def _settle_media(session: AsyncSession, picture: Media, verdict: _Verdict) -> None:
    hazard = await _lock(session, picture.subject_id) if picture.subject_id else None
    settled = await session.scalar(
        update(Media)
        .where(Media.id == picture.id, Media.review == MediaReview.PENDING)
        .values(review=MediaReview.PASSED if verdict.passed else MediaReview.RISKY)
        .returning(Media.id)
    )
    if hazard is not None and settled is not None and not verdict.passed:
        _flag(session, hazard, "photo", picture.id, verdict)


async def _lock(session: AsyncSession, hazard_id: UUID) -> Hazard:
    return (await session.scalars(select(Hazard).where(Hazard.id == hazard_id).with_for_update())).one()


def _flag(session: AsyncSession, hazard: Hazard, part: str, part_id: UUID, verdict: _Verdict) -> None:
    facts: JsonObject = {"part": part, "id": str(part_id), **verdict.facts}
    events.record(
        session,
        SYSTEM,
        hazard,
        "hazard.review_flagged",
        audience=Audience.STAFF,
        place=hazard_access.place_of(hazard),
        payload=facts,
    )
