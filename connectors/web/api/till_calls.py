"""The calls of a till: a card looked up while the order is open, and the link by which a receipt is claimed.

Owns who may look a card up (a token, or a till whose own screen signs what it asks) and how the answer looks. A look-up
answers within a till's patience, and never with an error for what 7stamp does not say in time.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, Field, ValidationError

from connector_sdk.errors import Forged, NotConfigured
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Line
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.services import Services
from connectors.services.counter import Basket
from connectors.services.shapes import iso_or_none
from connectors.sevenstamp.models import Card
from connectors.store import connections
from connectors.store.access.api_tokens import Scope
from connectors.sync.operator_settings import app_settings
from connectors.web.api.access import Gate, Reader, bearer, require_scope
from connectors.web.api.calls import ConnectionId
from connectors.web.api.problems import Problem, invalid
from connectors.web.api.routing import ApiRoute, problems
from connectors.web.console.greetings import greeting
from connectors.web.console.localization import Localizer, language_for, zone_of

router = APIRouter(route_class=ApiRoute, tags=["till"])

_MOST_ITEMS = 50
_Name = Annotated[str | None, Query(max_length=254)]
_Token = Annotated[str | None, Query(max_length=400, description="What the QR code on the card holds")]
_Amount = Annotated[str | None, Query(max_length=20, description="What the order comes to", examples=["12.50"])]
_Items = Annotated[
    list[Annotated[str, Field(max_length=160)]],
    Query(description="A product's id, a colon and how many of it: 162:2", max_length=_MOST_ITEMS),
]


class TillVoucher(BaseModel):
    """A voucher that can be used now."""

    redeem_code: str
    title: str


class TillCard(BaseModel):
    """A card as a cashier needs it."""

    ending: str = Field(description="The last digits of its number", examples=["7919"])
    name: str | None = Field(description="The customer's, where 7stamp knows it")
    stamps: int
    goal: int
    missing: int = Field(description="Stamps left to the reward")
    vouchers: list[TillVoucher]

    @classmethod
    def of(cls, card: Card) -> TillCard:
        """Return a card's body."""
        return cls(
            ending=card.hint,
            name=card.customer.name,
            stamps=card.stamps,
            goal=card.goal,
            missing=max(0, card.goal - card.stamps),
            vouchers=[
                TillVoucher(redeem_code=voucher.redeem_code, title=voucher.title) for voucher in card.good_vouchers
            ],
        )


class BasketBody(BaseModel):
    """What the open order would earn."""

    stamps: int
    why: str = Field(description="In the language that Accept-Language asks for, where we have it")
    fills_card: bool = Field(description="Whether the card reaches its goal with them")


class LookupBody(BaseModel):
    """What is known of a customer's card."""

    found: bool
    stale: bool = Field(description="7stamp did not answer in time: this is as it was, or nothing")
    as_of: str | None = Field(description="When 7stamp said it; null where it has said nothing yet")
    greeting: str = Field(description="A sentence for the customer, in the language that Accept-Language asks for")
    card: TillCard | None
    others: list[TillCard] = Field(description="Cards of other people of this name")
    basket: BasketBody | None = Field(description="null where neither amount nor items were given")


class LinkBody(BaseModel):
    """Where a customer claims a receipt."""

    url: str = Field(description="What the QR code holds", examples=["https://stamps.example/r/c5o3…"])
    svg: str = Field(description="The QR code as a picture")
    png: str = Field(description="The QR code as a picture")
    expires_at: str | None = Field(description="null while the till has not told of the receipt")


@dataclass(frozen=True, slots=True)
class TillCaller:
    """Whoever asks at a till: the connection, and the host's services in the till's name."""

    services: Services
    connection: Connection


async def _till_caller(
    request: Request,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    connection: Annotated[str, Query(max_length=128, examples=["poster-1a2b3c"])],
) -> TillCaller:
    """Return who asks: a token that may read, or a till that has signed the request. Raises `Problem`."""
    gate: Gate = request.app.state.gate
    if credentials is None and (signed := await _signed_caller(gate, request, connection)) is not None:
        return signed
    caller = await gate.identify(request, credentials.credentials if credentials is not None else "")
    require_scope(caller, Scope.read)
    return TillCaller(caller.services, await caller.connection(connection))


async def _signed_caller(gate: Gate, request: Request, connection_id: str) -> TillCaller | None:
    """Return the till that has signed a request; `None` for a request that no till has signed. Raises `Problem`."""
    host: Host = gate.host
    connection = await host.store.read(lambda tx: connections.registry.find(tx, connection_id))
    if connection is None:
        return None
    connector_class = host.plugins.classes.get(connection.connector)
    if connector_class is None or not connector_class.can("caller"):
        return None
    url = f"{host.public_url}{request.url.path}" + (f"?{request.url.query}" if request.url.query else "")
    headers = {name.lower(): value for name, value in request.headers.items()}
    signed = HookRequest(request.method, headers, dict(request.query_params), b"", url)
    try:
        account = connector_class.caller(app_settings(connector_class), signed)
    except (Forged, NotConfigured):
        gate.count_stranger(request)
        raise Problem("unauthorised", "the till's signature does not hold: is the application's secret set?") from None
    if account is None:
        return None
    # the account of the signature and the connection of the address must be one: each alone would open another's
    if account.id not in ("", connection.account.id) or account.hook_name != connection.account.hook_name:
        gate.count_stranger(request)
        raise Problem("unauthorised", "this till's account is not the connection's")
    gate.count_till(request, connection.id)
    return TillCaller(host.services.by("till"), connection)


AtTill = Annotated[TillCaller, Depends(_till_caller)]


@router.get("/till/card", operation_id="tillCard", summary="A card, while the order is open", responses=problems())
async def till_card(
    caller: AtTill,
    request: Request,
    token: _Token = None,
    number: _Name = None,
    phone: _Name = None,
    email: _Name = None,
    name: _Name = None,
    amount: _Amount = None,
    item: _Items = [],  # noqa: B006 - FastAPI reads it as the default
) -> LookupBody:
    """Show progress, the vouchers that are good now, and what the open order would earn; by one name of the customer.

    It answers in about a second at most. Where 7stamp is slower, the answer is what was known last and says so.
    """
    given = {
        kind: text
        for kind, text in (("token", token), ("number", number), ("phone", phone), ("email", email), ("name", name))
        if text
    }
    if len(given) != 1:
        raise invalid("token, number, phone, email, name", "give exactly one")
    connection, counter = caller.connection, caller.services.counter
    (kind, text), *_ = given.items()
    reference = counter.reference(connection, kind, text)
    lookup = await counter.find(connection, reference)
    words = _words(request, caller)
    basket = _basket(connection, amount, item)
    card = lookup.cards[0] if lookup.cards else None
    return LookupBody(
        found=card is not None,
        stale=lookup.stale,
        as_of=iso_or_none(lookup.as_of),
        greeting=greeting(words, lookup),
        card=TillCard.of(card) if card is not None else None,
        others=[TillCard.of(other) for other in lookup.cards[1:]] if kind == "name" else [],
        basket=await _basket_body(caller, words, basket, card) if basket is not None else None,
    )


def _words(request: Request, caller: TillCaller) -> Localizer:
    host: Host = request.app.state.gate.host
    accepted = request.headers.get("accept-language", "")
    language = language_for(host.words, "", accepted)
    return Localizer(host.words, language, zone_of(caller.connection.account.zone), host.store.clock.now())


def _basket(connection: Connection, amount: str | None, items: list[str]) -> Basket | None:
    """Read what stands on the open receipt. Raises `Problem`."""
    if amount is None and not items:
        return None
    currency = connection.account.currency
    try:
        paid = Money.from_decimal(amount or "0", currency)
    except ValueError:
        raise invalid("amount", f"no amount of {currency}") from None
    return Basket(paid, tuple(_line(item) for item in items))


def _line(text: str) -> Line:
    product, _, quantity = text.rpartition(":") if ":" in text else (text, "", "1")
    try:
        return Line(product_id=product, quantity=Decimal(quantity))
    except (ValidationError, InvalidOperation):
        raise invalid("item", "write a product's id, a colon and how many, as in 162:2") from None


async def _basket_body(caller: TillCaller, words: Localizer, basket: Basket, card: Card | None) -> BasketBody:
    earned = await caller.services.counter.earned(caller.connection, basket)
    return BasketBody(
        stamps=earned.stamps,
        why=words.message(earned.why),
        fills_card=card is not None and 0 < card.goal <= card.stamps + earned.stamps,
    )


@router.get(
    "/connections/{connection}/receipt-link",
    operation_id="receiptLink",
    summary="The link by which a receipt is claimed",
    responses=problems(409),
)
async def receipt_link(
    caller: Reader,
    connection_id: ConnectionId,
    receipt: Annotated[str, Query(min_length=1, max_length=128, description="The till's own id", examples=["330661"])],
) -> LinkBody:
    """Show where a customer who was not named at the till claims a receipt: to print on it, also while it is open."""
    link = await caller.services.claims.receipt_link(await caller.connection(connection_id), receipt)
    return LinkBody(url=link.url, svg=f"{link.url}.svg", png=f"{link.url}.png", expires_at=iso_or_none(link.expires_at))
