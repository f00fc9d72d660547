"""Gathers all of Square's records that make up a sale: its order, the refunds of its payments, what was returned.

Owns which records are asked for, and how few: an order names neither its refunds nor, often, its customer. What the
records mean is `mapping`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from connector_sdk.errors import BadPayload
from square_connector.client import SquareClient
from square_connector.wire import JsonObject, objects_in, text_in, time_in

_MOST_REMEMBERED = 20_000
"""Orders without a customer whose payments are remembered, so that an overlapping poll does not ask again."""


@dataclass(frozen=True, slots=True)
class OrderRecords:
    """An order with what belongs to it; `wrong` is why its other records could not be found, where that is so.

    `payments` are looked up only for an order that names no customer: Square fills that in there, and often later.
    """

    order: JsonObject
    refunds: tuple[JsonObject, ...] = ()
    returns: tuple[JsonObject, ...] = ()
    payments: tuple[JsonObject, ...] = ()
    wrong: BadPayload | None = None


@dataclass(slots=True)
class RefundList:
    """All refunds of a seller that changed since a moment: whole for orders that were made after it."""

    since: datetime
    by_payment: dict[str, list[JsonObject]] = field(default_factory=dict)

    @classmethod
    def of(cls, since: datetime, refunds: Iterable[JsonObject]) -> RefundList:
        """Group refunds by the payments that they are of; one that is of none is left out."""
        grouped = cls(since)
        for refund in refunds:
            if payment_id := text_in(refund, "payment_id"):
                grouped.by_payment.setdefault(payment_id, []).append(refund)
        return grouped

    def is_whole_for(self, order: JsonObject) -> bool:
        """Say whether every refund of an order must be in the list: none is older than the order."""
        created_at = time_in(order, "created_at")
        return created_at is not None and created_at >= self.since

    def of_order(self, order: JsonObject) -> list[JsonObject]:
        """Return the refunds in the list that are of an order's payments."""
        return [refund for payment_id in payment_ids(order) for refund in self.by_payment.get(payment_id, [])]


def payment_ids(order: JsonObject) -> list[str]:
    """Return the ids of an order's payments, which are those of its tenders. Raises `BadPayload`."""
    return [tender_id for tender in objects_in(order, "tenders") if (tender_id := text_in(tender, "id"))]


def customer_ids(order: JsonObject) -> set[str]:
    """Return the ids of customers that an order and its tenders name. Raises `BadPayload`."""
    named = [
        text_in(order, "customer_id"),
        *(text_in(tender, "customer_id") for tender in objects_in(order, "tenders")),
    ]
    return {customer_id for customer_id in named if customer_id}


def is_sale(order: JsonObject) -> bool:
    """Say whether an order is, or may become, a sale: not a draft, not a mere return, not an empty cart.

    Raises `BadPayload`.
    """
    if text_in(order, "state") == "DRAFT":
        return False
    return bool(objects_in(order, "tenders") or objects_in(order, "line_items"))


def _lacks_lines(order: JsonObject) -> bool:
    """Say whether an order was paid and its lines are not there: for a moment after the payment they may be missing."""
    return (
        bool(objects_in(order, "tenders")) and not objects_in(order, "line_items") and not objects_in(order, "returns")
    )


class RecordReader:
    """Gathers the records of orders."""

    def __init__(self, client: SquareClient) -> None:
        self._client = client
        self._payments: OrderedDict[tuple[str, str], tuple[JsonObject, ...]] = OrderedDict()

    async def complete(
        self,
        orders: Sequence[JsonObject],
        refunds: RefundList,
        payments: Mapping[str, JsonObject] | None = None,
        *,
        anew: bool = False,
    ) -> list[OrderRecords]:
        """Gather the records of those orders that are sales.

        `payments`, by id, are at hand already; `anew` asks for payments also where they are remembered.
        """
        gathered = [
            await self._gather(order, refunds, payments or {}, anew=anew) for order in await self._with_lines(orders)
        ]
        return await self._with_returns([records for records in gathered if records is not None])

    async def _with_lines(self, orders: Sequence[JsonObject]) -> list[JsonObject]:
        """Read orders once more that lack their lines."""
        lacking = [text_in(order, "id") for order in orders if _is_well_formed(order) and _lacks_lines(order)]
        again = {text_in(order, "id"): order for order in await self._client.orders_by_id(lacking)} if lacking else {}
        return [again.get(text_in(order, "id"), order) for order in orders]

    async def _gather(
        self, order: JsonObject, refunds: RefundList, payments: Mapping[str, JsonObject], *, anew: bool
    ) -> OrderRecords | None:
        try:
            if not is_sale(order):
                return None
            found = await self._refunds(order, refunds)
            paid_by = () if customer_ids(order) else await self._payments_of(order, payments, anew=anew)
        except BadPayload as error:
            return OrderRecords(order, wrong=error)
        return OrderRecords(order, tuple(found), payments=paid_by)

    async def _refunds(self, order: JsonObject, refunds: RefundList) -> list[JsonObject]:
        """Return all refunds of an order, also those from before the list begins."""
        if refunds.is_whole_for(order):
            return refunds.of_order(order)
        found: list[JsonObject] = []
        for payment_id in payment_ids(order):
            payment = await self._client.payment(payment_id)
            refund_ids = payment.get("refund_ids") if payment is not None else None
            for refund_id in refund_ids if isinstance(refund_ids, list) else []:
                refund = await self._client.refund(str(refund_id))
                if refund is not None:
                    found.append(refund)
        return found

    async def _payments_of(
        self, order: JsonObject, payments: Mapping[str, JsonObject], *, anew: bool
    ) -> tuple[JsonObject, ...]:
        ids = payment_ids(order)
        if all(payment_id in payments for payment_id in ids):
            return tuple(payments[payment_id] for payment_id in ids)
        key = (text_in(order, "id"), text_in(order, "updated_at"))
        known = self._payments.get(key)
        if known is None or anew:
            read = [payments.get(payment_id) or await self._client.payment(payment_id) for payment_id in ids]
            known = self._payments[key] = tuple(payment for payment in read if payment is not None)
            if len(self._payments) > _MOST_REMEMBERED:
                self._payments.popitem(last=False)
        return known

    async def _with_returns(self, gathered: Sequence[OrderRecords]) -> list[OrderRecords]:
        """Add the orders of what was returned, which say the items and the share of the tip."""
        ids = {text_in(refund, "order_id") for records in gathered for refund in records.refunds} - {""}
        # an exchange is a return and a sale in one order, and may be of this very page: it is read with the others
        returns = {text_in(order, "id"): order for order in await self._client.orders_by_id(sorted(ids))} if ids else {}
        return [
            replace(records, returns=tuple(returns[key] for key in _return_ids(records) if key in returns))
            for records in gathered
        ]

    async def sold_by(self, refund: JsonObject) -> str | None:
        """Return the id of the order that a refund is of; `None` where it is of none."""
        payment_id = text_in(refund, "payment_id")
        payment = await self._client.payment(payment_id) if payment_id else None
        return text_in(payment, "order_id") or None

    async def source_of(self, order: JsonObject) -> str | None:
        """Return the id of the order whose items or money a return gave back; `None` where it names none.

        Raises `BadPayload`.
        """
        for part in objects_in(order, "returns"):
            if source := text_in(part, "source_order_id"):
                return source
        for refund in objects_in(order, "refunds"):
            if tender_id := text_in(refund, "tender_id"):
                payment = await self._client.payment(tender_id)
                return text_in(payment, "order_id") or None
        return None


def _is_well_formed(order: JsonObject) -> bool:
    try:
        _lacks_lines(order)
    except BadPayload:
        return False
    return True


def _return_ids(records: OrderRecords) -> list[str]:
    """Return the ids of the orders that an order's refunds made, each once."""
    return list(dict.fromkeys(text_in(refund, "order_id") for refund in records.refunds))
