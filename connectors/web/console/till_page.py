"""The page for the counter: a card is scanned or typed, a receipt given to it, a voucher redeemed, a QR code shown.

Owns that page and its forms; what they do is `connectors.services.counter`'s, and how a card that was looked up is
carried from one form to the next is `card_search`'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.vouchers import RequestState
from connectors.services import Refusal
from connectors.store import queries
from connectors.store.errors import NotFound
from connectors.web.console.card_search import CardTokens, ChosenCard, FoundCards, make_typed_card
from connectors.web.console.routing import Role, Router
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_ID_LENGTH = 64


def _tokens(visit: Visit, connection: Connection) -> CardTokens:
    return CardTokens(visit, connection, "till card")


@router.get("/till", Role.counter)
async def tills(visit: Visit) -> Response:
    """Go to the till of whoever has one; show which there are where there are several."""
    mine = await visit.host.store.read(
        lambda tx: queries.overviews.overviews(tx, visit.principal.business_id, limit=100)
    )
    if len(mine) == 1:
        return visit.redirect(f"/till/{mine[0].connection.id}")
    return visit.render("tills.html", tills=[overview.connection for overview in mine])


@router.get("/till/{connection}", Role.counter, camera=True)
async def till_page(visit: Visit) -> Response:
    """Show the counter; with a card where the address names one, or only the receipts."""
    connection = (await visit.load_overview()).connection
    return await _till_page(visit, connection, await _from_address(visit, connection))


async def _till_page(
    visit: Visit, connection: Connection, shown: FoundCards, errors: Mapping[str, str] | None = None
) -> Response:
    is_part = visit.request.query_params.get("part") == "receipts"
    whole_day = "day" in (visit.request.query_params.get("of"), visit.form.get("of"))
    token = shown.chosen.token if shown.chosen is not None else ""
    return visit.render(
        "_till_receipts.html" if is_part else "till.html",
        422 if errors else 200,
        connection=connection,
        shown=shown,
        card_token=token,
        receipts=await visit.services.counter.receipts(connection, whole_day=whole_day),
        whole_day=whole_day,
        most=visit.services.counter.most_receipts(whole_day=whole_day),
        errors=errors or {},
        form=visit.form,
        given=visit.request.query_params.get("given", "")[:_ID_LENGTH],
        # each page's buttons redeem once: pressed twice, it is the same redemption
        nonce=secrets.token_urlsafe(12),
    )


async def _from_address(visit: Visit, connection: Connection) -> FoundCards:
    sealed = visit.request.query_params.get("card")
    if not sealed:
        return FoundCards()
    try:
        return await _tokens(visit, connection).look_up(sealed)
    except (PageNotFound, Refusal):  # an old address: the page begins anew
        return FoundCards()


@router.post("/till/{connection}/find", Role.counter, page="/till/{connection}")
async def find(visit: Visit) -> Response:
    """Look a card up by what was typed or scanned."""
    connection = (await visit.load_overview()).connection
    tokens = _tokens(visit, connection)
    try:
        shown, reference = await tokens.find(visit.form.get("who"))
    except (Refusal, TooManyAttempts) as error:
        return await _till_page(visit, connection, FoundCards(), {"who": visit.explain(error)})
    if shown.chosen is not None:
        return _back(visit, connection, shown.chosen.token)
    if shown.matches:
        return await _till_page(visit, connection, shown)
    if not shown.is_unanswered and visit.services.counter.may_get_card(reference):
        shown = replace(shown, may_get_card=visit.form.get("who").strip())
    return await _till_page(visit, connection, shown, {"who": tokens.why_none(shown, reference)})


@router.post("/till/{connection}/card", Role.counter, page="/till/{connection}")
async def make_card(visit: Visit) -> Response:
    """Make a card for a phone or an email that none has; whoever has one gets the same again."""
    connection = (await visit.load_overview()).connection
    try:
        card, reference = await make_typed_card(visit, connection)
    except (Refusal, TooManyAttempts) as error:
        return await _till_page(visit, connection, FoundCards(), {"who": visit.explain(error)})
    token = _tokens(visit, connection).seal(reference, card.id)
    return _back(visit, connection, token, Message("The card is made, and on its way to the guest."))


def _back(
    visit: Visit, connection: Connection, token: str, notice: Message | None = None, kind: str = "good", given: str = ""
) -> Response:
    """Go back to the card; `given` is the receipt that it was given just now, and can be taken back from it."""
    more = f"&given={quote(given, safe='')}" if given else ""
    more += "&of=day" if visit.form.get("of") == "day" else ""
    return visit.redirect(f"/till/{connection.id}?card={quote(token, safe='')}{more}", notice, kind)


async def _chosen_card(visit: Visit, connection: Connection) -> ChosenCard:
    """Return the card that a form names, as it was looked up last. Raises `Refusal`, `PageNotFound`."""
    chosen = (await _tokens(visit, connection).look_up(visit.form.get("card"))).chosen
    if chosen is None:
        raise Refusal("That was a while ago: find the card once more.", field="who")
    return chosen


@router.post("/till/{connection}/give", Role.counter, page="/till/{connection}")
async def give(visit: Visit) -> Response:
    """Give a receipt to the card."""
    connection = (await visit.load_overview()).connection
    try:
        chosen = await _chosen_card(visit, connection)
        count = await visit.services.counter.give(connection, visit.form.get("receipt"), chosen.card)
    except Refusal as error:
        return visit.redirect(f"/till/{connection.id}", error.message, "bad")
    await visit.services.claims.wait_for_stamps(visit.form.get("receipt"))  # so that the card is shown with them
    params = {"count": count, "card": chosen.card.hint}
    notice = Message("give.done", params) if count else Message("give.when_closed", params)
    return _back(visit, connection, chosen.token, notice, given=visit.form.get("receipt") if count else "")


@router.post("/till/{connection}/redeem", Role.counter, page="/till/{connection}")
async def redeem(visit: Visit) -> Response:
    """Redeem a voucher of the card."""
    connection = (await visit.load_overview()).connection
    code, token = visit.form.get("voucher"), visit.form.get("card")
    once = f"till:{visit.signed_in_session.id_hash}:{visit.form.get('nonce')[:40]}"
    try:
        _tokens(visit, connection).open(token)
        request = await visit.services.counter.redeem(connection, code, once)
    except Refusal as error:
        return _back(visit, connection, token, error.message, "bad")
    except NotFound:
        return _back(visit, connection, token, Message("7stamp knows no voucher of this code"), "bad")
    if request.state is RequestState.applied:
        return _back(visit, connection, token, Message("The voucher {code} is used: give the gift.", {"code": code}))
    # it may have taken effect: a second voucher must not be asked for, and the gift must not be given on hope
    unanswered = Message("7stamp has not answered yet about {code}: look at the card again before you give the gift.")
    return _back(visit, connection, token, Message(unanswered.id, {"code": code}), "bad")
