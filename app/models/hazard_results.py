"""How a hazard ends and why, and what refuses a reporter who answers that too late or too often."""

from enum import StrEnum

from app.errors import Conflict, InvalidInput


class HazardOutcome(StrEnum):
    """Closed is not fixed: statistics count the two apart."""

    FIXED = "fixed"
    UNFIXED = "unfixed"


class UnfixedReason(StrEnum):
    """Why a hazard is left as it is."""

    OUT_OF_SCOPE = "out_of_scope"
    NEEDS_CAPITAL_WORKS = "needs_capital_works"
    OWNER_REFUSES = "owner_refuses"
    NOT_FOUND_ON_SITE = "not_found_on_site"


class PhotoExemption(StrEnum):
    """Why there is no after-photo."""

    NOT_VISIBLE = "not_visible"
    UNSAFE = "unsafe"
    PRIVACY = "privacy"
    SITE_RESTRICTED = "site_restricted"
    TAKEN_OVER = "taken_over"


class RejectReason(StrEnum):
    """Why a report is not a hazard."""

    NOT_A_HAZARD = "not_a_hazard"
    INSUFFICIENT = "insufficient"
    ABUSE = "abuse"
    OUTSIDE_AREA = "outside_area"


class DisputeTooLate(Conflict):
    """The days to dispute a result are over."""

    code = "dispute_too_late"
    title_en, title_zh = "The time to dispute this result is over", "异议期限已过"


class TooManyDisputes(Conflict):
    """The same people would get it again; somebody else has to look."""

    code = "too_many_disputes"
    title_en, title_zh = (
        "This result has been disputed as often as possible; please turn to your community office or call 12345",
        "异议次数已达上限，请联系社区居委会或拨打 12345 政务服务热线",
    )


class AlreadyRated(Conflict):
    """One rating per hazard."""

    code = "already_rated"
    title_en, title_zh = "This hazard has been rated already", "已评价过该隐患"


def require_reason(outcome: HazardOutcome, reason: UnfixedReason | None) -> None:
    """422 unless a hazard that is left unfixed says why, and no other does."""
    if (outcome is HazardOutcome.UNFIXED) != (reason is not None):
        raise InvalidInput.of(
            ("body", "unfixed_reason"),
            "unfixed_reason_mismatch",
            "say why it is left unfixed" if reason is None else "leave this out for a fixed hazard",
            "未修复时请填写原因" if reason is None else "已修复时请勿填写未修复原因",
        )
