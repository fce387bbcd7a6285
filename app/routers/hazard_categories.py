"""The maintained table of hazard categories."""

from fastapi import APIRouter, Response

from app.deps import CurrentCaller, IfMatch, ReadSession, Session
from app.etags import NOT_MODIFIED, IfNoneMatch, answer
from app.models.hazard_categories import HazardCategory
from app.operation import Operation
from app.schemas.hazard_categories import HazardCategoryList, HazardCategoryRead, HazardCategoryUpdate
from app.services import hazard_categories

router = APIRouter(prefix="/v1/hazard-categories", tags=["hazards"], route_class=Operation)


@router.get("", response_model=HazardCategoryList, responses=NOT_MODIFIED)
async def list_hazard_categories(session: ReadSession, if_none_match: IfNoneMatch = None) -> Response:
    """Every category in use: urgency, deadlines per level, and the class of GB/T 30428.2 where one fits."""
    rows = await hazard_categories.every(session)
    found = HazardCategoryList(items=[HazardCategoryRead.model_validate(row) for row in rows])
    return answer(found, if_none_match)


@router.put("/{code}", response_model=HazardCategoryRead)
async def update_hazard_category(
    code: str, body: HazardCategoryUpdate, caller: CurrentCaller, session: Session, if_match: IfMatch
) -> HazardCategory:
    """Change urgency, deadlines, radius or visibility. Hazards that run keep the due time they have."""
    return await hazard_categories.update(session, caller, code, body, if_match)
