"""Deliberately broken twins of a good connector, one for every behaviour that the conformance suite requires."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from connector_sdk import (
    BadPayload,
    Checkpoint,
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
from serve_connector import ServeConnector
from serve_connector.stub import ServeStub


class _Twin(ServeConnector):
    """Good, but for what a subclass does to every sale."""

    def spoiled(self, sale: Sale) -> Sale:
        return sale

    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"sales": tuple(self.spoiled(one) for one in page.sales)})

    async def fetch(self, receipt_id: str) -> Sale | None:
        sale = await super().fetch(receipt_id)
        return self.spoiled(sale) if sale is not None else None

    def receive(self, hook: HookRequest) -> Received:
        found = super().receive(hook)
        if isinstance(found, Sales):
            return Sales(tuple(self.spoiled(one) for one in found.sales), found.unreadable)
        return found


class NamesAnotherCurrency(_Twin):
    async def check(self) -> TillAccount:
        return (await super().check()).model_copy(update={"zone": "UTC"})


class TakesARefusalForAnOutage(_Twin):
    async def check(self) -> TillAccount:
        try:
            return await super().check()
        except NotAuthorised:
            raise TillUnavailable("try again later") from None


class DropsAPage(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        began, pages = datetime.now(UTC), super().poll(since)
        yield await anext(aiter(pages))
        yield SalePage(checkpoint=Checkpoint(at=began))


class RepeatsAPage(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page
            if page.sales:
                yield page


class BeginsALittleLate(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        at = since.at if since is not None else datetime.now(UTC)
        async for page in super().poll(Checkpoint(at=at + timedelta(seconds=1))):
            yield page


class PromisesTooFar(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            yield page.model_copy(update={"checkpoint": Checkpoint(at=datetime.now(UTC) - timedelta(minutes=1))})


class SwallowsFailures(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        began = datetime.now(UTC)
        try:
            async for page in super().poll(since):
                yield page
        except ConnectorError:
            yield SalePage(checkpoint=Checkpoint(at=began))


class VersionsByTheClock(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"version": int(datetime.now(UTC).timestamp() * 1e6)})


class RaisesForTheUnknown(_Twin):
    async def fetch(self, receipt_id: str) -> Sale | None:
        found = await super().fetch(receipt_id)
        if found is None:
            raise BadPayload("id", "there is no such check")
        return found


class StopsAtABadReceipt(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for page in super().poll(since):
            if page.unreadable:
                raise BadPayload(page.unreadable[0].where, page.unreadable[0].why)
            yield page


class FloatsMoney(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        floated = int(float(sale.paid.decimal) * 100)
        return sale.model_copy(update={"paid": Money(floated, sale.paid.currency)})


class IgnoresTheZone(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        if sale.closed_at is None:
            return sale
        naive = sale.closed_at.replace(tzinfo=None)
        return sale.model_copy(update={"closed_at": naive.replace(tzinfo=ZoneInfo("Europe/Madrid"))})


class ClosesWhatIsOpen(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        if sale.status is not SaleStatus.open:
            return sale
        return sale.model_copy(update={"status": SaleStatus.closed, "closed_at": datetime.now(UTC)})


class CountsTips(_Twin):
    """Reads what was charged to the card."""

    def _charged(self, raw: Any) -> Any:
        payments = raw.get("payments") or []
        return {**raw, "total": payments[0]["amount"]} if payments else raw

    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        async for raw in self._client.checks(since.at if since else datetime.now(UTC)):
            yield self._page([self._charged(one) for one in raw])
        yield SalePage(checkpoint=Checkpoint(at=datetime.now(UTC)))


class ReadsOnlyOnce(_Twin):
    """Remembers receipts for ever, as they were first."""

    _first: dict[str, Sale] = {}

    def spoiled(self, sale: Sale) -> Sale:
        return self._first.setdefault(f"{sale.receipt_id} {sale.closed_at}", sale)


class ForgetsLateRefunds(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"refunded": Money.zero(sale.paid.currency)})


class TakesSomeForAll(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"refunded": sale.paid}) if sale.refunded else sale


class ForgetsVoids(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"status": SaleStatus.closed}) if sale.status is SaleStatus.voided else sale


class FetchesWithoutLines(_Twin):
    async def fetch(self, receipt_id: str) -> Sale | None:
        found = await super().fetch(receipt_id)
        return found.model_copy(update={"location_id": None}) if found is not None else None


class NamesNobody(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"customer": None})


class NamesTheWalkInCustomer(_Twin):
    def spoiled(self, sale: Sale) -> Sale:
        return sale.model_copy(update={"customer": sale.customer or Customer(till_id="0")})


class IgnoresItsHooks(_Twin):
    def receive(self, hook: HookRequest) -> Received:
        return Ignored("not now")


class TrustsAForgedHook(_Twin):
    def prove(self, hook: HookRequest) -> None:
        return


class ReadsHeadersOfAHook(_Twin):
    def receive(self, hook: HookRequest) -> Received:
        if "serve-signature" not in hook.headers:
            raise BadPayload("headers", "there is no signature")
        return super().receive(hook)


class LogsTheToken(_Twin):
    async def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        logging.getLogger("twin").debug("reading with %s", self.settings.access_token.get_secret_value())
        async for page in super().poll(since):
            yield page


TWINS: dict[str, type[ServeConnector]] = {
    "account": NamesAnotherCurrency,
    "refused_token": TakesARefusalForAnOutage,
    "every_page": DropsAPage,
    "no_page_twice": RepeatsAPage,
    "window": BeginsALittleLate,
    "checkpoint": PromisesTooFar,
    "failures": SwallowsFailures,
    "reading_again": VersionsByTheClock,
    "unknown_receipt": RaisesForTheUnknown,
    "bad_receipt": StopsAtABadReceipt,
    "exact_money": FloatsMoney,
    "closing_time": IgnoresTheZone,
    "open_receipt": ClosesWhatIsOpen,
    "tips": CountsTips,
    "correction": ReadsOnlyOnce,
    "refund": ForgetsLateRefunds,
    "partial_refund": TakesSomeForAll,
    "void": ForgetsVoids,
    "same_by_every_way": FetchesWithoutLines,
    "customers": NamesNobody,
    "nobody": NamesTheWalkInCustomer,
    "true_hook": IgnoresItsHooks,
    "forged_hook": TrustsAForgedHook,
    "kept_hook": ReadsHeadersOfAHook,
    "no_secret_told": LogsTheToken,
}


def stub_of(twin: type[ServeConnector]) -> type[ServeStub]:
    """Serve's stub with a twin in the connector's place."""
    return type(f"StubOf{twin.__name__}", (ServeStub,), {"connector": twin})
