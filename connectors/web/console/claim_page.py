"""The page behind a receipt's QR code: a customer takes the stamps of a receipt on which nobody was named.

Owns what the page shows in each state, without a script, and its way through the forms; what a link opens and who may
claim is `connectors.services.claims`'. Nothing here tells a stranger whose card is whose: the wallet link is given for
a card that was made just now, and to nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import JsonValue
from starlette.responses import Response

from connector_sdk.money import Money
from connectors.domain.receipt_links import ClaimState, ReceiptTarget, VenueTarget
from connectors.services import Refusal
from connectors.services.claims import OpenedLink, OpenedVenue, consent_digest
from connectors.sevenstamp.models import Card
from connectors.web.console.localization import zone_of
from connectors.web.console.routing import Role, Router
from connectors.web.console.sealed_token import open_token, seal_token
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.typed_amounts import parse_amount
from connectors.web.console.visit import PageNotFound, Visit
from connectors.web.qr import qr_png, qr_svg

router = Router()

_PURPOSE = "claimed"
_CARD_PATIENCE = 1.5


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What whoever has just claimed a receipt is shown: `save_url` leads to their wallet, for a card that is new."""

    stamps: int
    save_url: str | None
    card: Card | None
    """The card as it is now; `None` where 7stamp does not say so in time."""
    arrived: bool
    """Whether the stamps are on it."""

    @property
    def missing(self) -> int:
        """How many stamps are left to the reward."""
        return max(0, self.card.goal - self.card.stamps) if self.card is not None else 0


@router.get("/r/{token}", Role.anyone)
async def link_page(visit: Visit) -> Response:
    """Show what a link opens: a receipt, or the form of a venue; as `.svg` or `.png` the link's own QR code."""
    visit.console.claims.count_opening(_address(visit))
    token, dot, suffix = visit.path_params["token"].partition(".")
    target = visit.services_of_nobody.claims.read_token(token)
    # an altered link, an invented one and one of another installation look the same
    if target is None or (dot and suffix not in _IMAGES):
        return _unknown(visit)
    if dot:
        media_type, draw = _IMAGES[suffix]
        return Response(draw(f"{visit.host.public_url.rstrip('/')}/r/{token}"), media_type=media_type)
    if isinstance(target, VenueTarget):
        return await _venue_page(visit, token, await _open_venue(visit, target))
    return await _receipt_page(visit, token, await _open_receipt(visit, target))


_IMAGES = {"svg": ("image/svg+xml", qr_svg), "png": ("image/png", qr_png)}


@router.post("/r/{token}", Role.anyone)
async def claim(visit: Visit) -> Response:
    """Claim a receipt, or find it at a venue by what stands on it."""
    visit.console.claims.count_opening(_address(visit))
    token = visit.path_params["token"]
    target = visit.services_of_nobody.claims.read_token(token)
    if target is None:
        return _unknown(visit)
    if isinstance(target, VenueTarget):
        return await _find_at_venue(visit, token, await _open_venue(visit, target))
    return await _claim_receipt(visit, token, target)


def _address(visit: Visit) -> str:
    return visit.console.clients.address(visit.request)


def _unknown(visit: Visit) -> Response:
    return visit.render("claim.html", 404, venue="", state="unknown", receipt=None, claimed=None)


# --- a receipt ------------------------------------------------------------------------------------------------------


async def _open_receipt(visit: Visit, target: ReceiptTarget) -> OpenedLink:
    opened = await visit.services_of_nobody.claims.open(target)
    if opened.connection is not None:
        visit.localizer = visit.localizer.in_zone(zone_of(opened.connection.account.zone))
    return opened


async def _receipt_page(
    visit: Visit, token: str, opened: OpenedLink, errors: Mapping[str, str] | None = None, status: int = 422
) -> Response:
    connection = opened.connection
    consent = connection.claim_consent if connection is not None else None
    return visit.render(
        "claim.html",
        status if errors else 200,
        venue=connection.account.name if connection is not None else "",
        token=token,
        state=opened.state.value,
        receipt=opened.receipt,
        claimed=await _claimed(visit, opened),
        errors=errors or {},
        form=visit.form,
        consent=consent,
        consent_digest=consent_digest(consent) if consent is not None else "",
    )


async def _claim_receipt(visit: Visit, token: str, target: ReceiptTarget) -> Response:
    opened = await _open_receipt(visit, target)
    if opened.connection is None or opened.receipt is None or opened.state is not ClaimState.waiting:
        return await _receipt_page(visit, token, opened)
    try:
        visit.console.claims.count_claim(_address(visit), opened.connection.id)
        claimed = await visit.services_of_nobody.claims.claim(
            target, visit.form.get("who"), agreed=visit.form.get("agreed"), language=visit.localizer.language
        )
    except TooManyAttempts as error:
        return await _receipt_page(visit, token, opened, {"who": visit.explain(error)}, 429)
    except Refusal as error:
        again = await _open_receipt(visit, target)
        if again.state is not ClaimState.waiting:  # somebody was quicker: the page of what it is now says so
            return await _receipt_page(visit, token, again)
        return await _receipt_page(visit, token, again, {error.field or "who": visit.explain(error)})
    # only to whoever got a new card: an old one is in its owner's wallet already, and may be another's
    save_url = claimed.card.save_url if claimed.issued else None
    content: list[JsonValue] = [opened.receipt.sale_id, claimed.stamps, save_url]
    # to another page, so that it can be loaded again, and Back asks nothing
    sealed = quote(seal_token(visit, _PURPOSE, opened.connection, content), safe="")
    return visit.redirect(f"/r/{token}?done={sealed}")


async def _claimed(visit: Visit, opened: OpenedLink) -> _Claimed | None:
    """Return what whoever claimed the receipt is shown; `None` for everybody else, also for an altered address."""
    sealed = visit.request.query_params.get("done")
    if not sealed or opened.connection is None or opened.receipt is None:
        return None
    try:
        opened_token = open_token(visit, _PURPOSE, opened.connection, sealed)
    except PageNotFound:
        return None
    match opened_token.content:
        case [str(sale_id), int(stamps), (str() | None) as save_url] if (
            sale_id == opened.receipt.sale_id and not opened_token.expired
        ):
            arrived = await visit.services_of_nobody.claims.wait_for_stamps(sale_id)
            # each is a call with the cafe's key: whoever loads the page again and again is shown no card in the end
            is_asked = visit.console.claims.may_read_card(opened.connection.id)
            card = await visit.services_of_nobody.claims.card_of_receipt(opened, _CARD_PATIENCE) if is_asked else None
            return _Claimed(stamps, save_url, card, arrived)
    return None


# --- a venue --------------------------------------------------------------------------------------------------------


async def _open_venue(visit: Visit, target: VenueTarget) -> OpenedVenue | None:
    opened = await visit.services_of_nobody.claims.open_venue(target)
    if opened is not None:
        visit.localizer = visit.localizer.in_zone(zone_of(opened.connection.zone_of(target.location_id)))
    return opened


async def _venue_page(
    visit: Visit,
    token: str,
    opened: OpenedVenue | None,
    errors: Mapping[str, str] | None = None,
    status: int = 422,
) -> Response:
    if opened is None:
        return _unknown(visit)
    return visit.render(
        "claim_venue.html",
        status if errors else 200,
        venue=_venue_name(opened),
        token=token,
        is_on=opened.state is ClaimState.waiting,
        currency=opened.connection.account.currency,
        errors=errors or {},
        form=visit.form,
    )


def _venue_name(opened: OpenedVenue) -> str:
    account = opened.connection.account
    names = {location.id: location.name for location in account.locations}
    place = names.get(opened.venue.location_id or "", "")
    return f"{account.name} · {place}" if place and place != account.name else account.name


async def _find_at_venue(visit: Visit, token: str, opened: OpenedVenue | None) -> Response:
    if opened is None or opened.state is not ClaimState.waiting:
        return await _venue_page(visit, token, opened)
    address, connection = _address(visit), opened.connection
    try:
        visit.console.claims.count_number(address, connection.id)
    except TooManyAttempts as error:
        return await _venue_page(visit, token, opened, {"receipt": visit.explain(error)}, 429)
    minor = parse_amount(visit.form.get("amount"), connection.account.currency)
    if minor is None:
        text = visit.localizer.text("Write the amount as it stands on the receipt, as in 12.50.")
        return await _venue_page(visit, token, opened, {"amount": text})
    paid = Money(minor, connection.account.currency)
    claims = visit.services_of_nobody.claims
    found = await claims.find_at_venue(opened, visit.form.get("receipt").strip(), paid)
    if found is None:
        # which of the two is wrong is not said: a number alone must not be found by trying
        text = visit.localizer.text(
            "No receipt here has this number and this amount. A new one takes a minute to arrive."
        )
        return await _venue_page(visit, token, opened, {"receipt": text})
    visit.console.claims.forgive_number(address, connection.id)
    return visit.redirect(f"/r/{found}")
