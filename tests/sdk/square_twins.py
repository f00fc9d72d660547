"""Deliberately broken twins of the Square and the any-till connector, for what Serve cannot show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime
from unittest.mock import patch

import httpx
from pydantic import SecretStr

from connector_sdk import (
    Account,
    Answer,
    BadPayload,
    Consent,
    Customer,
    Forged,
    Grant,
    Hint,
    Hints,
    HookRequest,
    Location,
    MenuItem,
    Money,
    NotAuthorised,
    NotConfigured,
    OAuth,
    RateLimited,
    Received,
    Returned,
    Sale,
    SalePage,
    Sales,
    TillAccount,
    TillUnavailable,
    Token,
)
from square_connector import SquareConnector, mapping, oauth
from square_connector.reading import OrderRecords, RecordReader, RefundList
from square_connector.settings import SquareApp
from square_connector.wire import JsonObject
from webhook_connector import WebhookConnector


class _Twin(SquareConnector):
    """A good connector, but for what a subclass does to every sale in `spoiled`."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale

    async def _page(self, gathered: Sequence[OrderRecords]) -> SalePage:
        page = await super()._page(gathered)
        return page.model_copy(update={"sales": tuple(self.spoiled(sale) for sale in page.sales)})

    async def fetch(self, receipt_id: str) -> Sale | None:
        sale = await super().fetch(receipt_id)
        return self.spoiled(sale) if sale is not None else None


# --- the account and its venues -----------------------------------------------------------------------------------


class ForgetsTheZonesOfVenues(_Twin):
    """Lists venues as if all went by the account's clock."""

    async def check(self) -> TillAccount:
        account = await super().check()
        venues = tuple(Location(id=venue.id, name=venue.name) for venue in account.locations)
        return account.model_copy(update={"locations": venues})


class FreezesItsVenues(_Twin):
    """Lists for ever the venues that there were when it first asked."""

    _first: TillAccount | None = None

    async def check(self) -> TillAccount:
        self._first = self._first or await super().check()
        return self._first


# --- consent ------------------------------------------------------------------------------------------------------


def _by(**functions: object) -> tuple[Token | OAuth, ...]:
    """Square's ways in, with some of its OAuth functions replaced."""
    usual = OAuth(oauth.authorise_url, oauth.exchange, oauth.refresh, oauth.revoke)
    return (replace(usual, **functions), *SquareConnector.authorisation[1:])  # type: ignore[arg-type]


async def _exchange_for_the_wrong_token(
    app: SquareApp, returned: Returned, transport: httpx.AsyncBaseTransport
) -> Grant:
    grant = await oauth.exchange(app, returned, transport)
    return replace(grant, secrets={**grant.secrets, "access_token": grant.secrets["refresh_token"]})


class StoresTheWrongToken(_Twin):
    """Takes the refresh token for the access token."""

    authorisation = _by(exchange=_exchange_for_the_wrong_token)


def _with_the_state_in_the_address(app: SquareApp, consent: Consent) -> str:
    return oauth.authorise_url(app, replace(consent, redirect_uri=f"{consent.redirect_uri}/{consent.state}"))


class PutsTheStateIntoTheAddress(_Twin):
    """Makes the redirect address another one each time."""

    authorisation = _by(authorise_url=_with_the_state_in_the_address)


async def _exchange_whatever_comes(app: SquareApp, returned: Returned, transport: httpx.AsyncBaseTransport) -> Grant:
    try:
        return await oauth.exchange(app, returned, transport)
    except NotAuthorised:
        return Grant({"access_token": SecretStr("x")})


class AcceptsARefusedCode(_Twin):
    """Makes a grant of whatever the till answers."""

    authorisation = _by(exchange=_exchange_whatever_comes)


class NeverRenews(_Twin):
    """Has no refresh, although its grants end."""

    authorisation = _by(refresh=None)


async def _refresh_to_the_same(_app: SquareApp, grant: Grant, _transport: httpx.AsyncBaseTransport) -> Grant:
    return replace(grant)


class RenewsToTheSame(_Twin):
    """Returns the grant that it was given."""

    authorisation = _by(refresh=_refresh_to_the_same)


async def _refresh_without_the_next(app: SquareApp, grant: Grant, transport: httpx.AsyncBaseTransport) -> Grant:
    newer = await oauth.refresh(app, grant, transport)
    return replace(newer, secrets={**newer.secrets, "refresh_token": grant.secrets["refresh_token"]})


class KeepsTheUsedRefreshToken(_Twin):
    """Renews once, and then shows a refresh token that was good once; only where Square's are (PKCE)."""

    authorisation = _by(refresh=_refresh_without_the_next)


async def _refresh_and_hope(app: SquareApp, grant: Grant, transport: httpx.AsyncBaseTransport) -> Grant:
    try:
        return await oauth.refresh(app, grant, transport)
    except NotAuthorised:
        raise TillUnavailable("perhaps later") from None


class HopesAfterARevocation(_Twin):
    """Takes a refusal for good as one that may pass."""

    authorisation = _by(refresh=_refresh_and_hope)


# --- reading ------------------------------------------------------------------------------------------------------


class PagesByTime(_Twin):
    """Leaves out what has the same time as the last of the page before."""

    async def _without_the_last_time(self, pages: AsyncIterator[SalePage]) -> AsyncIterator[SalePage]:
        last: datetime | None = None
        async for page in pages:
            sales = tuple(sale for sale in page.sales if sale.closed_at is None or sale.closed_at != last)
            last = page.sales[-1].closed_at if page.sales else last
            yield page.model_copy(update={"sales": sales})

    def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        return self._without_the_last_time(super().poll(since))

    def history(self, since: datetime) -> AsyncIterator[SalePage]:
        return self._without_the_last_time(super().history(since))


class TakesALimitForAnOutage(_Twin):
    """Says that the till is away when it asks to slow down."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        try:
            async for page in super().poll(since):
                yield page
        except RateLimited:
            raise TillUnavailable("it does not answer") from None


class MakesUpACustomer(_Twin):
    """Knows everybody."""

    async def customer(self, till_id: str) -> Customer | None:
        return await super().customer(till_id) or Customer(phone="+10000000000")


# --- the sale -----------------------------------------------------------------------------------------------------


class ReadsHundredthsEverywhere(_Twin):
    """Takes the smallest unit for hundredths, whatever the currency."""

    def spoiled(self, sale: Sale) -> Sale:
        if sale.paid.currency == "EUR":
            return sale
        return sale.model_copy(update={"paid": Money(sale.paid.minor // 100, sale.paid.currency)})


class CallsEverySaleAGift(_Twin):
    """Marks every sale as given free."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"gift": True})


class NamesItemsInsteadOfVariations(_Twin):
    """Gives lines other ids than the menu lists."""

    def spoiled(self, sale: Sale) -> Sale:
        lines = tuple(line.model_copy(update={"product_id": f"ITEM{line.product_id}"}) for line in sale.lines)
        return sale.model_copy(update={"lines": lines})

    async def menu(self) -> list[MenuItem]:
        return [item.model_copy(update={"product_id": f"ITEM{item.product_id}"}) for item in await super().menu()]


class ListsAnotherMenu(_Twin):
    """Lists a menu that no line names."""

    async def menu(self) -> list[MenuItem]:
        return [item.model_copy(update={"product_id": f"ITEM{item.product_id}"}) for item in await super().menu()]


class CountsGiftCardsAsMoney(_Twin):
    """Takes a gift card for money."""

    async def _page(self, gathered: Sequence[OrderRecords]) -> SalePage:
        with patch.object(mapping, "_NOT_MONEY", frozenset()):
            return await super()._page(gathered)


# --- refunds ------------------------------------------------------------------------------------------------------


class _NewestOnly(RecordReader):
    async def _refunds(self, order: JsonObject, refunds: RefundList) -> list[JsonObject]:
        return (await super()._refunds(order, refunds))[-1:]


class CountsTheNewestRefundOnly(_Twin):
    """Forgets all refunds but the last."""

    @property
    def _reader(self) -> RecordReader:
        return _NewestOnly(self._client)


class _ListedOnly(RecordReader):
    async def _refunds(self, order: JsonObject, refunds: RefundList) -> list[JsonObject]:
        return refunds.of_order(order)


class CountsRefundsOfTheWindowOnly(_Twin):
    """Forgets refunds from before the time that it reads."""

    @property
    def _reader(self) -> RecordReader:
        return _ListedOnly(self._client)


class ShrinksItsVersions(_Twin):
    """Starts the version anew with a refund, which then never counts."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"version": 1}) if sale.refunded.minor else sale


class SellsWhatIsReturned(_Twin):
    """Yields the order of a return as a sale of its own."""

    async def _page(self, gathered: Sequence[OrderRecords]) -> SalePage:
        page = await super()._page(gathered)
        returns = [
            sale.model_copy(update={"receipt_id": str(order["id"]), "refunded": Money.zero(sale.paid.currency)})
            for records, sale in zip(gathered, page.sales, strict=False)
            for order in records.returns
        ]
        return page.model_copy(update={"sales": (*page.sales, *returns)})


class GivesTheTipBackToo(_Twin):
    """Counts a tip that went back as money for coffee."""

    def spoiled(self, sale: Sale) -> Sale:
        if not sale.refunded.minor:
            return sale
        return sale.model_copy(update={"refunded": sale.refunded + Money(500, sale.paid.currency)})


class KeepsReturnedLines(_Twin):
    """Never says that a line came back."""

    def spoiled(self, sale: Sale) -> Sale:
        lines = tuple(line.model_copy(update={"refunded_quantity": 0}) for line in sale.lines)
        return sale.model_copy(update={"lines": lines})


class PassesOverBadRefunds(_Twin):
    """Reads a receipt without its refunds, where these cannot be read."""

    async def _page(self, gathered: Sequence[OrderRecords]) -> SalePage:
        page = await super()._page(gathered)
        unread = {item.receipt_id for item in page.unreadable}
        bare = [replace(records, refunds=()) for records in gathered if records.order["id"] in unread]
        more = await super()._page(bare)
        return SalePage(sales=(*page.sales, *more.sales))


class LeadsNowhereFromARefund(_Twin):
    """Takes the refund's own id for a receipt's."""

    def receive(self, hook: HookRequest) -> Received:
        content = json.loads(hook.body)
        if str(content.get("type")).startswith("refund."):
            return Hints((Hint(content["data"]["id"]),))
        return super().receive(hook)


class _WithoutPayments(RecordReader):
    async def _payments_of(self, *_: object, **__: object) -> tuple[JsonObject, ...]:  # type: ignore[override]
        return ()


class LooksForNobodyLater(_Twin):
    """Never asks the payments who bought."""

    @property
    def _reader(self) -> RecordReader:
        return _WithoutPayments(self._client)


# --- hooks --------------------------------------------------------------------------------------------------------


class BelievesWithoutASignature(_Twin):
    """Verifies only what has a signature."""

    @classmethod
    def route(cls, app: SquareApp, hook: HookRequest) -> Account | Answer:
        try:
            return super().route(app, hook)
        except Forged:
            if "x-square-hmacsha256-signature" in hook.headers:
                raise
            return Account(json.loads(hook.body)["merchant_id"])


class BelievesWithoutAKey(_Twin):
    """Takes every hook as long as the key is not set."""

    @classmethod
    def route(cls, app: SquareApp, hook: HookRequest) -> Account | Answer:
        try:
            return super().route(app, hook)
        except NotConfigured:
            return Account(json.loads(hook.body)["merchant_id"])


class RoutesWithoutProof(_Twin):
    """Says whose a hook is without looking at the signature."""

    @classmethod
    def route(cls, app: SquareApp, hook: HookRequest) -> Account | Answer:
        return Account(json.loads(hook.body)["merchant_id"])


class RoutesToAnotherAccount(_Twin):
    """Names another account than `check` does."""

    @classmethod
    def route(cls, app: SquareApp, hook: HookRequest) -> Account | Answer:
        super().route(app, hook)
        return Account("MLSOMEBODY")


class CrashesAtOddHooks(_Twin):
    """Trusts that every hook has all its fields."""

    def receive(self, hook: HookRequest) -> Received:
        if "type" not in json.loads(hook.body):
            raise BadPayload("type", "is missing")
        return super().receive(hook)


class ReadsTheFirstReceiptOnly(WebhookConnector):
    """Takes one receipt of each hook."""

    def receive(self, hook: HookRequest) -> Received:
        received = super().receive(hook)
        return Sales(received.sales[:1], received.unreadable) if isinstance(received, Sales) else received
