"""One seller of the stand-in Square, with everything that a cashier does there.

Owns refunds, returns and exchanges; sales are `sandbox_sales`', records and events `sandbox_records`', and which
application may read them is `sandbox_application`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from square_connector.sandbox_return import (
    left_quantities,
    sum_of,
    write_custom_amount,
    write_return,
    write_returned_lines,
    zero_totals,
)
from square_connector.sandbox_sales import SellerSales
from square_connector.sandbox_ticket import Line, Tender, Ticket, tip_of
from square_connector.sandbox_values import JsonObject, money, write_time

_STATUSES_IN_ORDERS = {"COMPLETED": "APPROVED", "PENDING": "PENDING", "REJECTED": "REJECTED", "FAILED": "FAILED"}
_WITHOUT_MONEY = ("REJECTED", "FAILED")


@dataclass(frozen=True, slots=True)
class Refunded:
    """What one refund made: the id of its return order, and the ids of its refunds, one for each tender."""

    return_order: str
    refunds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RefundTerms:
    """How a refund is made: `tip` is the part of it that was a tip, in the smallest unit.

    `tender` is the one that it goes back to, where it is not shared over all of them in their order; `status` is that
    of its refunds: COMPLETED, PENDING, REJECTED or FAILED.
    """

    tip: int = 0
    tender: str | None = None
    status: str = "COMPLETED"
    reason: str = "Returned goods"


_USUAL_TERMS = RefundTerms()


class Seller(SellerSales):
    """One seller: its records, and what a cashier, an owner or Square itself does to them."""

    # --- refunds ----------------------------------------------------------------------------------------------

    def refund_lines(self, order: str, quantities: Mapping[str, str], terms: RefundTerms = _USUAL_TERMS) -> Refunded:
        """Take lines of an order back, by uid and quantity, and give their money back, with `terms.tip` on top."""
        record = self.orders[order]
        left = left_quantities(record, self.returns_of(order))
        lines = write_returned_lines(record, quantities)
        for line in lines:
            uid = line["source_line_item_uid"]
            if left[uid] < Decimal(line["quantity"]):
                raise ValueError(f"order {order} has {left[uid]} left of line {uid}, not {line['quantity']}")
        return self._refund(record, lines, sum_of(lines) + terms.tip, terms, itemised=True)

    def refund_amount(self, order: str, amount: int, terms: RefundTerms = _USUAL_TERMS) -> Refunded:
        """Give an amount back, `terms.tip` included, without saying what for."""
        record = self.orders[order]
        lines = write_custom_amount(amount - terms.tip, self.currency_of(record["location_id"]))
        return self._refund(record, lines, amount, terms, itemised=False)

    def refund_everything(self, order: str, reason: str = "Returned goods") -> Refunded:
        """Take all lines back that are left, and give back all money that is left, with the tip."""
        record = self.orders[order]
        returns = self.returns_of(order)
        left = left_quantities(record, returns)
        lines = write_returned_lines(record, {uid: str(quantity) for uid, quantity in left.items() if quantity > 0})
        tips = sum(tip_of(tender) for tender in record.get("tenders", []))
        tips_returned = sum(entry["return_amounts"]["tip_money"]["amount"] for entry in returns)
        amount = sum(self._refundable(tender) for tender in record.get("tenders", []))
        terms = RefundTerms(tip=max(tips - tips_returned, 0), reason=reason)
        return self._refund(record, lines, amount, terms, itemised=True)

    def refund_unlinked(self, location: str, amount: int, reason: str = "No receipt") -> Refunded:
        """Give money back without naming a sale or a payment."""
        currency = self.currency_of(location)
        lines = write_custom_amount(amount, currency)
        order = self._add_return_order(location, write_return(None, lines, amount, 0, currency))
        entry = self._refund_entry(f"sbxRefund{len(self.refunds) + 1:05d}", location, order, money(amount, currency))
        self._add_refund(order, entry, RefundTerms(reason=reason))
        self._close_return(order)
        return Refunded(order, (entry["id"],))

    def finish_refund(self, refund: str, status: str = "COMPLETED") -> None:
        """Let Square decide on a PENDING refund: COMPLETED, REJECTED or FAILED."""
        record = self.refunds[refund]
        record.update(status=status, updated_at=write_time(self.now()))
        order = self.orders[record["order_id"]]
        for entry in order["refunds"]:
            if entry["id"] == refund:
                entry["status"] = _STATUSES_IN_ORDERS[status]
        self._change(order["id"])
        self._note_refund(refund, "refund.updated")
        if "payment_id" in record:
            self._count_refunds(record["payment_id"])
            self._change(self.payments[record["payment_id"]]["order_id"])

    def exchange(
        self, order: str, quantities: Mapping[str, str], lines: Sequence[Line], tender_type: str = "CARD"
    ) -> str:
        """Take lines of an order back and sell others in one order; return its id.

        The customer pays the difference with a tender, or gets it back as a refund of the first sale.
        """
        source = self.orders[order]
        location = source["location_id"]
        currency = self.currency_of(location)
        returned = write_returned_lines(source, quantities)
        exchanged = self.open(Ticket(lines=lines, location=location, customer=source.get("customer_id")))
        record = self.orders[exchanged]
        record.update(write_return(order, returned, sum_of(returned), 0, currency))
        difference = record["total_money"]["amount"] - sum_of(returned)
        if difference > 0:
            self.pay(exchanged, [Tender(tender_type, difference)])
        else:
            self._refund_tenders(source, exchanged, -difference, RefundTerms(reason="Exchange"))
        record["net_amount_due_money"] = money(0, currency)
        record["net_amounts"] = _difference(record, sum_of(returned), currency)
        self.complete(exchanged)
        self._change(order)
        return exchanged

    # --- what a refund makes ----------------------------------------------------------------------------------

    def _refund(
        self, record: JsonObject, lines: list[JsonObject], amount: int, terms: RefundTerms, *, itemised: bool
    ) -> Refunded:
        """Make the return order and the refunds, and move the sale's version and time; its sums stay as they are."""
        self._refuse_too_much(record, amount, terms)
        currency = self.currency_of(record["location_id"])
        members = write_return(record["id"], lines, amount, terms.tip, currency)
        if itemised:
            # a refund by amount had neither of these
            members |= {"source": {}, "version": 1, **zero_totals(currency)}
        order = self._add_return_order(record["location_id"], members)
        refunds = self._refund_tenders(record, order, amount, terms)
        self._close_return(order)
        self._change(record["id"])
        return Refunded(order, tuple(refunds))

    def _refuse_too_much(self, record: JsonObject, amount: int, terms: RefundTerms) -> None:
        left = sum(self._refundable(tender) for tender in _chosen(record, terms))
        if amount > left:
            raise ValueError(f"order {record['id']} has {left} left to refund, not {amount}")

    def _refund_tenders(self, record: JsonObject, order: str, amount: int, terms: RefundTerms) -> list[str]:
        """Give an amount back to the tenders of a sale, one after the other; return the ids of the refunds."""
        refunds = []
        for tender in _chosen(record, terms):
            share = min(amount, self._refundable(tender))
            if share > 0:
                refunds.append(self._refund_tender(tender, order, share, terms))
                amount -= share
        return refunds

    def _refund_tender(self, tender: JsonObject, order: str, share: int, terms: RefundTerms) -> str:
        payment = self.payments[tender["id"]]
        number = len(payment.get("refund_ids", [])) + 1
        amount = money(share, tender["amount_money"]["currency"])
        entry = self._refund_entry(f"{tender['id']}_r{number}", tender["location_id"], tender["transaction_id"], amount)
        entry["tender_id"] = tender["id"]
        self._add_refund(order, entry, terms)
        payment["refund_ids"] = [*payment.get("refund_ids", []), entry["id"]]
        self._count_refunds(payment["id"])
        return str(entry["id"])

    def _refundable(self, tender: JsonObject) -> int:
        """Return what no refund of a tender has given back or is about to."""
        payment = self.payments.get(tender["id"])
        if payment is None or payment["status"] != "COMPLETED":
            return 0
        refunds = [self.refunds[refund] for refund in payment.get("refund_ids", [])]
        refunded = sum(refund["amount_money"]["amount"] for refund in refunds if refund["status"] not in _WITHOUT_MONEY)
        return int(payment["total_money"]["amount"] - refunded)

    def _count_refunds(self, payment: str) -> None:
        """Write how much of a payment was refunded, which counts what is COMPLETED."""
        record = self.payments[payment]
        refunds = [self.refunds[refund] for refund in record["refund_ids"]]
        refunded = sum(refund["amount_money"]["amount"] for refund in refunds if refund["status"] == "COMPLETED")
        counted = {"refunded_money": money(refunded, record["total_money"]["currency"])} if refunded else {}
        self._change_payment(payment, **counted)

    def _add_return_order(self, location: str, members: JsonObject) -> str:
        order, at = self._next_order_id("Return"), self._order_time()
        self.orders[order] = {
            "id": order,
            "location_id": location,
            **members,
            "created_at": at,
            "updated_at": at,
            "state": "OPEN",
        }
        return order

    def _close_return(self, order: str) -> None:
        record = self.orders[order]
        record["state"], record["closed_at"] = "COMPLETED", self._order_time()
        self._change(order)

    def _refund_entry(self, refund: str, location: str, transaction: str, amount: JsonObject) -> JsonObject:
        """Return an entry of an order's `refunds`, still without status and reason."""
        return {
            "id": refund,
            "location_id": location,
            "transaction_id": transaction,
            "created_at": write_time(self.now(), 0),
            "amount_money": amount,
        }

    def _add_refund(self, order: str, entry: JsonObject, terms: RefundTerms) -> None:
        """Add a refund to its return order, and to the list of refunds."""
        entry |= {"reason": terms.reason, "status": _STATUSES_IN_ORDERS[terms.status]}
        self.orders[order].setdefault("refunds", []).append(entry)
        refund, tender, at = entry["id"], entry.get("tender_id"), write_time(self.now())
        record: JsonObject = {
            "id": refund,
            "status": "PENDING",
            "location_id": entry["location_id"],
            "unlinked": tender is None,
            "destination_type": "CASH" if tender is None else self.payments[tender]["source_type"],
            "amount_money": dict(entry["amount_money"]),
            "order_id": order,
            "reason": terms.reason,
            "created_at": at,
            "updated_at": at,
        }
        self.refunds[refund] = record if tender is None else record | {"payment_id": tender}
        self._note_refund(refund, "refund.created")
        if terms.status != "PENDING":
            self.refunds[refund]["status"] = terms.status
            self._note_refund(refund, "refund.updated")

    def _note_refund(self, refund: str, kind: str) -> None:
        self._note(self.event(kind, "refund", refund, {"refund": self.refunds[refund]}))

    def returns_of(self, order: str) -> list[JsonObject]:
        """Return the entries of `returns`, in all orders, that name an order as their source."""
        entries = (entry for record in self.orders.values() for entry in record.get("returns", []))
        return [entry for entry in entries if entry.get("source_order_id") == order]


def _chosen(record: JsonObject, terms: RefundTerms) -> list[JsonObject]:
    """Return the tenders of a sale that a refund may go back to."""
    return [tender for tender in record.get("tenders", []) if terms.tender in (None, tender["id"])]


def _difference(record: JsonObject, returned: int, currency: str) -> JsonObject:
    """Return the `net_amounts` of an exchange: what is sold less what comes back."""
    back = record["return_amounts"]
    sold = {
        "total_money": record["total_money"],
        "tax_money": record["total_tax_money"],
        "discount_money": record["total_discount_money"],
        "tip_money": record["total_tip_money"],
        "service_charge_money": record["total_service_charge_money"],
    }
    return {name: money(total["amount"] - back[name]["amount"], currency) for name, total in sold.items()}
