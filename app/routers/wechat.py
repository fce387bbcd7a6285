"""The one address that WeChat pushes events to."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse

from app.operation import Operation
from app.services import wechat_pushes

router = APIRouter(prefix="/v1/wechat", tags=["wechat"], route_class=Operation)

_Signed = Annotated[str, Query(max_length=200)]
_EVENT = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {"type": "object"},
                "example": {"ToUserName": "gh_0123456789ab", "Encrypt": "bm90IGEgcmVhbCBwdXNo"},
            }
        },
        "required": True,
    }
}
_REFUSALS: dict[int | str, dict[str, object]] = {400: {}, 403: {}}


@router.get("/push", response_class=PlainTextResponse, responses=_REFUSALS)
async def verify_wechat_push(
    signature: _Signed = "",
    timestamp: _Signed = "",
    nonce: _Signed = "",
    echostr: _Signed = "",
) -> str:
    """WeChat asks whether this address is ours; the answer is `echostr`."""
    return wechat_pushes.answer_check(
        {"signature": signature, "timestamp": timestamp, "nonce": nonce, "echostr": echostr}
    )


@router.post("/push", response_class=PlainTextResponse, responses=_REFUSALS, openapi_extra=_EVENT)
async def receive_wechat_push(
    request: Request,
    signature: _Signed = "",
    timestamp: _Signed = "",
    nonce: _Signed = "",
    openid: _Signed = "",
    encrypt_type: _Signed = "",
    msg_signature: _Signed = "",
) -> str:
    """WeChat tells what became of something, encrypted JSON in secure mode; the answer is `success`."""
    query = {
        "signature": signature,
        "timestamp": timestamp,
        "nonce": nonce,
        "openid": openid,
        "encrypt_type": encrypt_type,
        "msg_signature": msg_signature,
    }
    await wechat_pushes.receive(query, await request.body())
    return "success"
