"""The page of vouchers apart from receipts: one is issued, looked at, and redeemed.

Owns the page and its forms; what is sent to 7stamp, and sent once, is `connectors.services.cards`'.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.vouchers import RequestState
from connectors.services import Refusal
from connectors.services.cards import ShownVoucher
from connectors.store.errors import NotFound
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.sync.vouchers import WantedVoucher
from connectors.web.console.routing import Role, Router
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_PURPOSE = "voucher"
_PAGE = "/connections/{connection}/vouchers"
_LONGEST_TITLE = 120
_UNKNOWN = Message("7stamp knows no voucher of this code")


@router.get(_PAGE, Role.manager)
async def vouchers(visit: Visit) -> Response:
    """Show the forms, and the voucher that the address names."""
    connection = (await visit.load_overview()).connection
    return await _page(visit, connection, {}, await _from_address(visit, connection))


async def _page(
    visit: Visit, connection: Connection, errors: Mapping[str, str], shown: ShownVoucher | None = None
) -> Response:
    return visit.render(
        "vouchers.html",
        422 if errors else 200,
        connection=connection,
        shown=shown,
        token=_token(visit, connection, shown.voucher.redeem_code) if shown is not None else "",
        errors=errors,
        form=visit.form,
        # each page's form issues once: sent twice, it is the same voucher
        nonce=secrets.token_urlsafe(12),
    )


async def _from_address(visit: Visit, connection: Connection) -> ShownVoucher | None:
    sealed = visit.request.query_params.get("voucher")
    if not sealed:
        return None
    try:
        return await visit.services.cards.show_voucher(connection.business_id, _code(visit, connection, sealed))
    except (PageNotFound, Refusal, NotFound):  # an old address: the page begins anew
        return None


def _token(visit: Visit, connection: Connection, code: str) -> str:
    # who has a code can use it: it stands in no address
    return seal_token(visit, _PURPOSE, connection, [code])


def _code(visit: Visit, connection: Connection, token: str) -> str:
    """Return the code that a token holds. Raises `PageNotFound`, `Refusal` where it is too old."""
    opened = open_token(visit, _PURPOSE, connection, token)
    if opened.expired:
        raise Refusal("That was a while ago: look at the voucher once more.", field="code")
    match opened.content:
        case [str(code)]:
            return code
    raise PageNotFound


@router.post(f"{_PAGE}/issue", Role.manager, page=_PAGE)
async def issue(visit: Visit) -> Response:
    """Issue a voucher, for a card or for whoever has its code."""
    connection, form = (await visit.load_overview()).connection, visit.form
    try:
        card = None
        if who := form.get("who").strip():
            visit.limit_card_search()
            card = (await visit.services.review.find_card(connection, who)).card
        wanted = WantedVoucher(
            title=form.get("title").strip()[:_LONGEST_TITLE] or None,
            card_id=card.id if card is not None else None,
            redeem_code=form.get("redeem_code").strip() or None,
            validity=form.get("validity").strip()[:_LONGEST_TITLE] or None,
        )
        once = f"console:{visit.signed_in_session.id_hash}:{form.get('nonce')[:40]}"
        request = await visit.services.cards.issue_voucher(connection.business_id, wanted, once, at=connection.id)
    except (Refusal, TooManyAttempts) as error:
        name = (error.field if isinstance(error, Refusal) else "who") or "title"
        return await _page(visit, connection, {name: visit.explain(error)})
    notice = Message("Voucher {code} is issued.", {"code": request.redeem_code})
    if card is not None:
        params = {"code": request.redeem_code, "card": card.hint}
        notice = Message("Voucher {code} is issued, on the card ending {card}.", params)
    return _done(visit, connection, request, notice)


@router.post(f"{_PAGE}/show", Role.manager, page=_PAGE)
async def show(visit: Visit) -> Response:
    """Look a voucher up by its code."""
    connection, code = (await visit.load_overview()).connection, visit.form.get("code").strip()
    try:
        visit.limit_card_search()
        shown = await visit.services.cards.show_voucher(connection.business_id, code)
    except (Refusal, TooManyAttempts) as error:
        return await _page(visit, connection, {"code": visit.explain(error)})
    except NotFound:
        return await _page(visit, connection, {"code": visit.localizer.sentence(_UNKNOWN)})
    return _back(visit, connection, shown.voucher.redeem_code)


@router.post(f"{_PAGE}/redeem", Role.manager, page=_PAGE)
async def redeem(visit: Visit) -> Response:
    """Redeem the voucher that is shown."""
    connection = (await visit.load_overview()).connection
    try:
        code = _code(visit, connection, visit.form.get("voucher"))
        request = await visit.services.cards.redeem_voucher(connection.business_id, code, at=connection.id)
    except Refusal as error:
        return await _page(visit, connection, {error.field or "code": visit.localizer.sentence(error.message)})
    except NotFound:
        return await _page(visit, connection, {"code": visit.localizer.sentence(_UNKNOWN)})
    return _done(visit, connection, request, Message("Voucher {code} is used.", {"code": request.redeem_code}))


def _done(visit: Visit, connection: Connection, request: VoucherRequest, notice: Message) -> Response:
    if request.state is RequestState.applied:
        return _back(visit, connection, request.redeem_code, notice)
    # on disk, and settled by itself: asked for once more it would be another one
    params = {"code": request.redeem_code}
    waiting = Message("7stamp has not answered yet about {code}. It is looked up by itself: do nothing again.", params)
    return _back(visit, connection, request.redeem_code, waiting, "bad")


def _back(
    visit: Visit, connection: Connection, code: str, notice: Message | None = None, kind: str = "good"
) -> Response:
    sealed = quote(_token(visit, connection, code), safe="")
    return visit.redirect(f"/connections/{connection.id}/vouchers?voucher={sealed}", notice, kind)
