"""Deliberately broken twins of a good connector, one for every behaviour that the conformance suite requires."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from connector_sdk import (
    BadPayload,
    Customer,
    HookRequest,
    Ignored,
    Money,
    NotAuthorised,
    Received,
    Sale,
    SalePage,
    Sales,
    SaleStatus,
    TillAccount,
    TillUnavailable,
)
from connector_sdk.errors import ConnectorError
from connector_sdk.json_text import Json
from connector_sdk.testing import TillStub
from serve_connector import ServeConnector
from serve_connector.stub import ServeStub
from square_connector import SquareConnector
from square_connector.settings import SquareApp
from square_connector.stub import SquareStub
from tests.sdk import square_twins
from webhook_connector import WebhookConnector
from webhook_connector.stub import WebhookStub


class _Twin(ServeConnector):
    """A good connector, but for what a subclass does to every sale in `spoiled`."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"sales": tuple(self.spoiled(sale) for sale in page.sales)})

    async def fetch(self, receipt_id: str) -> Sale | None:
        sale = await super().fetch(receipt_id)
        return self.spoiled(sale) if sale is not None else None

    def receive(self, hook: HookRequest) -> Received:
        received = super().receive(hook)
        if isinstance(received, Sales):
            return Sales(tuple(self.spoiled(sale) for sale in received.sales), received.unreadable)
        return received


class NamesAnotherCurrency(_Twin):
    """Names another zone than the account's."""

    async def check(self) -> TillAccount:
        return (await super().check()).model_copy(update={"zone": "UTC"})


class TakesARefusalForAnOutage(_Twin):
    """Reports a refused token as an outage."""

    async def check(self) -> TillAccount:
        try:
            return await super().check()
        except NotAuthorised:
            raise TillUnavailable("try again later") from None


class DropsAPage(_Twin):
    """Yields the first page only."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        began, pages = datetime.now(UTC), super().poll(since)
        yield await anext(aiter(pages))
        yield SalePage(complete_until=began)


class RepeatsAPage(_Twin):
    """Yields every page twice."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page
            if page.sales:
                yield page


class BeginsALittleLate(_Twin):
    """Leaves out receipts that were closed at the very moment from which it reads."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since + timedelta(seconds=1)):
            yield page


class PromisesTooFar(_Twin):
    """Sets a checkpoint on every page."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"complete_until": datetime.now(UTC) - timedelta(minutes=1)})


class SwallowsFailures(_Twin):
    """Ends a read that failed as if it were complete."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        began = datetime.now(UTC)
        try:
            async for page in super().poll(since):
                yield page
        except ConnectorError:
            yield SalePage(complete_until=began)


class VersionsByTheClock(_Twin):
    """Gives every reading a new version."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"version": int(datetime.now(UTC).timestamp() * 1e6)})


class RaisesForTheUnknown(_Twin):
    """Raises for a receipt that the till does not know."""

    async def fetch(self, receipt_id: str) -> Sale | None:
        sale = await super().fetch(receipt_id)
        if sale is None:
            raise BadPayload("id", "there is no such check")
        return sale


class StopsAtABadReceipt(_Twin):
    """Ends the read at a receipt that cannot be mapped."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            if page.unreadable:
                raise BadPayload(page.unreadable[0].where, page.unreadable[0].why)
            yield page


class FloatsMoney(_Twin):
    """Computes money in floats."""

    def spoiled(self, sale: Sale) -> Sale:
        # 0.29 times 100 is 28.999999999999996, and `int` cuts it off
        floated = int(float(sale.paid.decimal) * 100)
        return sale.model_copy(update={"paid": Money(floated, sale.paid.currency)})


class IgnoresTheZone(_Twin):
    """Reads the till's UTC as the account's local time."""

    def spoiled(self, sale: Sale) -> Sale:
        if sale.closed_at is None:
            return sale
        # the wall clock's figures stay, under the account's zone: an hour or two off
        naive = sale.closed_at.replace(tzinfo=None)
        return sale.model_copy(update={"closed_at": naive.replace(tzinfo=ZoneInfo("Europe/Madrid"))})


class ClosesWhatIsOpen(_Twin):
    """Reports open receipts as closed."""

    def spoiled(self, sale: Sale) -> Sale:
        if sale.status is not SaleStatus.open:
            return sale
        return sale.model_copy(update={"status": SaleStatus.closed, "closed_at": datetime.now(UTC)})


class CountsTips(_Twin):
    """Takes the amount charged to the card, tip included, for the receipt's total."""

    def _charged(self, check: Json) -> Json:
        payments = check.get("payments") or []
        return {**check, "total": payments[0]["amount"]} if payments else check

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        async for checks in self._client.checks(since):
            yield self._page([self._charged(check) for check in checks])
        yield SalePage(complete_until=datetime.now(UTC))


class ReadsOnlyOnce(_Twin):
    """Reports every receipt for ever as it was first."""

    # on the class: the suite reads with a new instance each time
    _first: dict[str, Sale] = {}

    def spoiled(self, sale: Sale) -> Sale:
        return self._first.setdefault(f"{sale.receipt_id} {sale.closed_at}", sale)


class ForgetsLateRefunds(_Twin):
    """Reports no refund."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"refunded": Money.zero(sale.paid.currency)})


class TakesSomeForAll(_Twin):
    """Reports a partial refund as a refund of everything."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"refunded": sale.paid}) if sale.refunded else sale


class ForgetsVoids(_Twin):
    """Reports voided receipts as closed."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"status": SaleStatus.closed}) if sale.status is SaleStatus.voided else sale


class FetchesWithoutLines(_Twin):
    """Fetches receipts without the location that a poll gives them."""

    async def fetch(self, receipt_id: str) -> Sale | None:
        sale = await super().fetch(receipt_id)
        return sale.model_copy(update={"location_id": None}) if sale is not None else None


class NamesNobody(_Twin):
    """Reports no customer."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"customer": None})


class NamesTheWalkInCustomer(_Twin):
    """Reports the till's customer for nobody as a customer."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"customer": sale.customer or Customer(till_id="0")})


class IgnoresItsHooks(_Twin):
    """Ignores every hook."""

    def receive(self, hook: HookRequest) -> Received:
        return Ignored("not now")


class TrustsAForgedHook(_Twin):
    """Verifies nothing."""

    def prove(self, hook: HookRequest) -> None:
        return


class ReadsHeadersOfAHook(_Twin):
    """Verifies in `receive`, which gets no headers later."""

    def receive(self, hook: HookRequest) -> Received:
        if "serve-signature" not in hook.headers:
            raise BadPayload("headers", "there is no signature")
        return super().receive(hook)


class LogsTheToken(_Twin):
    """Logs a secret."""

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        logging.getLogger("twin").debug("reading with %s", self.settings.access_token.get_secret_value())
        async for page in super().poll(since):
            yield page


AnyTwin = type[ServeConnector] | type[SquareConnector] | type[WebhookConnector]

TWINS: list[tuple[str, AnyTwin]] = [
    ("account", NamesAnotherCurrency),
    ("refused_token", TakesARefusalForAnOutage),
    ("every_page", DropsAPage),
    ("no_page_twice", RepeatsAPage),
    ("window", BeginsALittleLate),
    ("checkpoint", PromisesTooFar),
    ("failures", SwallowsFailures),
    ("reading_again", VersionsByTheClock),
    ("unknown_receipt", RaisesForTheUnknown),
    ("bad_receipt", StopsAtABadReceipt),
    ("exact_money", FloatsMoney),
    ("closing_time", IgnoresTheZone),
    ("open_receipt", ClosesWhatIsOpen),
    ("tips", CountsTips),
    ("correction", ReadsOnlyOnce),
    ("refund", ForgetsLateRefunds),
    ("partial_refund", TakesSomeForAll),
    ("void", ForgetsVoids),
    ("same_by_every_way", FetchesWithoutLines),
    ("customers", NamesNobody),
    ("nobody", NamesTheWalkInCustomer),
    ("true_hook", IgnoresItsHooks),
    ("forged_hook", TrustsAForgedHook),
    ("kept_hook", ReadsHeadersOfAHook),
    ("no_secret_told", LogsTheToken),
    ("venue_zones", square_twins.ForgetsTheZonesOfVenues),
    ("venue_opened", square_twins.FreezesItsVenues),
    ("consent", square_twins.StoresTheWrongToken),
    ("redirect_address", square_twins.PutsTheStateIntoTheAddress),
    ("refused_code", square_twins.AcceptsARefusedCode),
    ("renewal", square_twins.NeverRenews),
    ("renewal", square_twins.RenewsToTheSame),
    ("renewal", square_twins.KeepsTheUsedRefreshToken),
    ("revoked_access", square_twins.HopesAfterARevocation),
    ("equal_times", square_twins.PagesByTime),
    ("rate_limit", square_twins.TakesALimitForAnOutage),
    ("unknown_customer", square_twins.MakesUpACustomer),
    ("other_currency", square_twins.ReadsHundredthsEverywhere),
    ("ordinary_sale", square_twins.CallsEverySaleAGift),
    ("lines", square_twins.NamesItemsInsteadOfVariations),
    ("lines", square_twins.ListsAnotherMenu),
    ("paid_by_other_means", square_twins.CountsGiftCardsAsMoney),
    ("two_refunds", square_twins.CountsTheNewestRefundOnly),
    ("two_refunds", square_twins.CountsRefundsOfTheWindowOnly),
    ("versions_grow", square_twins.ShrinksItsVersions),
    ("refund_is_no_sale", square_twins.SellsWhatIsReturned),
    ("refund_with_tip", square_twins.GivesTheTipBackToo),
    ("returned_line", square_twins.KeepsReturnedLines),
    ("bad_refund", square_twins.PassesOverBadRefunds),
    ("refund_hook", square_twins.LeadsNowhereFromARefund),
    ("attached_later", square_twins.LooksForNobodyLater),
    ("unsigned_hook", square_twins.BelievesWithoutASignature),
    ("unset_secret", square_twins.BelievesWithoutAKey),
    ("forged_hook", square_twins.RoutesWithoutProof),
    ("true_hook", square_twins.RoutesToAnotherAccount),
    ("odd_hook", square_twins.CrashesAtOddHooks),
    ("joint_hook", square_twins.ReadsTheFirstReceiptOnly),
]
"""Each required behaviour with a connector that breaks it, and some with several."""


class _StubWithoutSecret(SquareStub):
    """Square as an application without a secret sees it: by PKCE, with refresh tokens that are good once."""

    def app(self) -> SquareApp:
        return super().app().model_copy(update={"application_secret": None})


def stub_of(twin: AnyTwin) -> type[TillStub]:
    """Make the stub of a twin's till, with the twin in the place of the connector."""
    stub: type[TillStub] = ServeStub
    if issubclass(twin, SquareConnector):
        stub = _StubWithoutSecret if twin is square_twins.KeepsTheUsedRefreshToken else SquareStub
    elif issubclass(twin, WebhookConnector):
        stub = WebhookStub
    return type(f"StubOf{twin.__name__}", (stub,), {"connector": twin})
