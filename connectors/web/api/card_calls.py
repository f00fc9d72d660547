"""The calls about cards and vouchers apart from receipts: what a scenario in Zapier or Make does.

Owns how each answer looks; what is sent to 7stamp when, and sent once, is `connectors.services.cards`'.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from connectors.services.shapes import CardShape, VoucherDoneShape, VoucherShape
from connectors.sync.vouchers import WantedVoucher
from connectors.web.api.access import Actor, Caller, IdempotencyKey, Reader, once
from connectors.web.api.bodies import IssueCardRequest, IssueVoucherRequest
from connectors.web.api.routing import ApiRoute, problems

router = APIRouter(route_class=ApiRoute, tags=["cards"])

RedeemCode = Annotated[str, Path(alias="redeem_code", max_length=64, examples=["F7KQ4-WM9XP"])]
_Name = Annotated[str | None, Query(max_length=254)]


@router.get("/cards", operation_id="card", summary="A customer's card", responses=problems(409))
async def card(caller: Reader, phone: _Name = None, email: _Name = None, number: _Name = None) -> CardShape:
    """Find the card of a customer by one name: a phone, an email, or the six digits on the card."""
    return CardShape.of(
        await caller.services.cards.find_card(caller.business_id, phone=phone, email=email, number=number)
    )


@router.post(
    "/cards", operation_id="issueCard", summary="Issue a card", response_model=CardShape, responses=problems(409)
)
async def issue_card(caller: Actor, body: IssueCardRequest, request: Request, key: IdempotencyKey = None) -> Response:
    """Issue a card to a phone or an email; the same customer again gets the same card."""

    async def work() -> CardShape:
        issued = await caller.services.cards.issue_card(caller.business_id, phone=body.phone, email=body.email)
        return CardShape.of(issued)

    return await once(caller, request, key, 200, work)


@router.post(
    "/vouchers",
    operation_id="issueVoucher",
    summary="Issue a voucher",
    status_code=201,
    response_model=VoucherDoneShape,
    responses=problems(409),
)
async def issue_voucher(
    caller: Actor, body: IssueVoucherRequest, request: Request, key: IdempotencyKey = None
) -> Response:
    """Issue a voucher, for a card or for whoever has its redeem code."""

    async def work() -> VoucherDoneShape:
        wanted = WantedVoucher(**body.model_dump())
        return VoucherDoneShape.of(
            await caller.services.cards.issue_voucher(caller.business_id, wanted, _once_for(caller, key))
        )

    return await once(caller, request, key, 201, work)


@router.get("/vouchers/{redeem_code}", operation_id="voucher", summary="A voucher", responses=problems(409))
async def voucher(caller: Reader, redeem_code: RedeemCode) -> VoucherShape:
    """Show a voucher as 7stamp knows it now."""
    return VoucherShape.of(await caller.services.cards.show_voucher(caller.business_id, redeem_code))


@router.post(
    "/vouchers/{redeem_code}/redeem",
    operation_id="redeemVoucher",
    summary="Redeem a voucher",
    response_model=VoucherDoneShape,
    responses=problems(409),
)
async def redeem_voucher(
    caller: Actor, redeem_code: RedeemCode, request: Request, key: IdempotencyKey = None
) -> Response:
    """Use a voucher up, once: a second time is refused, and says when it was redeemed and by which receipt."""

    async def work() -> VoucherDoneShape:
        return VoucherDoneShape.of(
            await caller.services.cards.redeem_voucher(caller.business_id, redeem_code, _once_for(caller, key))
        )

    return await once(caller, request, key, 200, work)


def _once_for(caller: Caller, key: str | None) -> str | None:
    """Return what a request is done once for: the key outlives the answer, which a host that dies never gives."""
    return f"{caller.token.id}:{key}" if key is not None else None
