"""The sales of one seller at the stand-in Square: orders from the first line to the end, and their payments.

Owns how an order and its payments change together; what flows back to the customer is `sandbox_seller`'s.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from square_connector.sandbox_records import Event, SellerRecords
from square_connector.sandbox_ticket import (
    Tender,
    Ticket,
    tip_of,
    write_lines,
    write_payment,
    write_tender,
    write_totals,
)
from square_connector.sandbox_values import JsonObject, money, write_time

ORDERING_PAGE = "Sandbox ordering page"
_FINAL = ("COMPLETED", "CANCELED")
_TILL, _ONLINE = "SQUARE_POS", "ECOMMERCE_API"
_USUAL_TICKET = Ticket()


class SellerSales(SellerRecords):
    """The records of one seller, and what a cashier does until an order is closed."""

    # --- one action for a whole sale --------------------------------------------------------------------------

    def sell(self, ticket: Ticket = _USUAL_TICKET) -> str:
        """Ring up, take the money and complete at once; return the order's id."""
        order = self.open(ticket)
        self.pay(order, ticket.tenders)
        self.complete(order)
        return order

    def pay_ahead(self, ticket: Ticket = _USUAL_TICKET) -> str:
        """Order and pay for a pickup on a page: OPEN, with tenders and nothing due. Return the order's id."""
        order = self._open(ticket, ticket.source or ORDERING_PAGE)
        record = self.orders[order]
        pickup = {"schedule_type": "ASAP", "placed_at": record["created_at"]}
        record["fulfillments"] = [{"uid": "ff-1", "type": "PICKUP", "state": "PROPOSED", "pickup_details": pickup}]
        self.pay(order, ticket.tenders)
        return order

    def sell_offline(self, at: datetime, ticket: Ticket = _USUAL_TICKET) -> str:
        """Sell at a till without a connection, at `at`; Square knows nothing of it until `deliver`."""
        events = self.events
        # no event of it leaves the till either
        self.events = deque()
        with self.clock_at(at):
            order = self.sell(ticket)
        self.events = events
        self.undelivered.add(order)
        return order

    def deliver(self, order: str) -> None:
        """Deliver an offline sale late: with its old `created_at`, and updated now."""
        self._deliver(order)
        self._change(order)
        for payment in self.payments_of(order):
            self._change_payment(payment["id"])

    def deliver_unmoved(self, order: str) -> None:
        """Deliver an offline sale late with all its old times, which Square may do as well: no list by update has it.

        The events of its payments come all the same.
        """
        self._deliver(order)
        for payment in self.payments_of(order):
            self._note(self.payment_event(payment["id"]))

    def _deliver(self, order: str) -> None:
        self.undelivered.remove(order)
        for payment in self.payments_of(order):
            self._note(self.payment_event(payment["id"], "payment.created"))

    @contextmanager
    def clock_at(self, at: datetime) -> Iterator[None]:
        """Let everything in the block happen at `at`."""
        clock = self.now
        self.now = lambda: at
        try:
            yield
        finally:
            self.now = clock

    # --- step by step -----------------------------------------------------------------------------------------

    def open(self, ticket: Ticket = _USUAL_TICKET) -> str:
        """Ring up and leave the order OPEN, without any tender; return its id."""
        return self._open(ticket, ticket.source)

    def _open(self, ticket: Ticket, source: str) -> str:
        order = self._next_order_id("Sale")
        location = ticket.location or self.main_location
        currency, at = self.currency_of(location), self._order_time()
        record: JsonObject = {
            "id": order,
            "location_id": location,
            "source": {"name": source} if source else {},
            **write_lines(ticket.lines, self.catalogue, currency),
            "created_at": at,
            "updated_at": at,
            "state": "OPEN",
        }
        if ticket.versioned:
            record["version"] = 1
        optional = {"customer_id": ticket.customer, "ticket_name": ticket.ticket_name}
        record |= {name: value for name, value in optional.items() if value is not None}
        self.orders[order] = record | write_totals(record, currency)
        if source:
            self._note(self.order_event(order))
        return order

    def pay(self, order: str, tenders: Sequence[Tender] = (Tender(),)) -> None:
        """Take money for an open order, which stays OPEN."""
        record = self.orders[order]
        self._refuse_final(record)
        currency = self.currency_of(record["location_id"])
        for tender in tenders:
            self._add_tender(record, tender)
            record.update(write_totals(record, currency))
        self._change(order)

    def _add_tender(self, record: JsonObject, tender: Tender) -> None:
        tenders = record.setdefault("tenders", [])
        tender_id = f"sbxPay{record['id'][8:13]}n{len(tenders) + 1}{self.merchant_id[-5:]}"
        at = self.now()
        left = record["net_amount_due_money"]["amount"]
        written = write_tender(tender, tender_id, record, left, write_time(at, 0))
        tenders.append(written)
        if "payment_id" not in written:
            return
        product = _ONLINE if record["source"] else _TILL
        self.payments[tender_id] = write_payment(written, write_time(at), product=product)
        self._note_new_payment(tender_id)

    def _note_new_payment(self, payment: str) -> None:
        """Note that a payment was made and, where it went through, that it is complete: several events per sale."""
        record = self.payments[payment]
        status = record["status"]
        # most payments are approved first, and an instant later complete
        record["status"] = "APPROVED" if status == "COMPLETED" else status
        self._note(self.payment_event(payment, "payment.created"))
        if status != record["status"]:
            record["status"] = status
            self._note(self.payment_event(payment))

    def complete(self, order: str) -> None:
        """Complete an open order, and whatever it was to be picked up for."""
        self._end(order, "COMPLETED")

    def cancel(self, order: str) -> None:
        """Cancel an open order: payments that are not captured are voided. Raises `ValueError` for a final one."""
        self._end(order, "CANCELED")
        for payment in self.payments_of(order):
            if payment["status"] == "APPROVED":
                self._void(order, payment)

    def _end(self, order: str, state: str) -> None:
        record = self.orders[order]
        self._refuse_final(record)
        for fulfillment in record.get("fulfillments", []):
            fulfillment["state"] = state
        record["state"], record["closed_at"] = state, self._order_time()
        self._change(order)

    def _refuse_final(self, record: JsonObject) -> None:
        if record["state"] in _FINAL:
            raise ValueError(f"order {record['id']} is {record['state']}, which is final")

    def _void(self, order: str, payment: JsonObject) -> None:
        self._tender(order, payment["id"])["card_details"]["status"] = "VOIDED"
        payment["card_details"]["status"] = "VOIDED"
        self._change_payment(payment["id"], status="CANCELED")

    def capture(self, payment: str) -> None:
        """Capture a payment that was only authorised."""
        record = self.payments[payment]
        self._tender(record["order_id"], payment)["card_details"]["status"] = "CAPTURED"
        record["card_details"]["status"] = "CAPTURED"
        self._change(record["order_id"])
        self._change_payment(payment, status="COMPLETED")

    # --- changes afterwards -----------------------------------------------------------------------------------

    def correct(self, order: str, paid: int) -> None:
        """Change what was paid for an order (without tips, in the smallest unit), by its first tender."""
        record = self.orders[order]
        tender = record["tenders"][0]
        tips = record["total_tip_money"]["amount"]
        difference = paid - (record["total_money"]["amount"] - tips)
        for total in (tender["amount_money"], record["total_money"], record["net_amounts"]["total_money"]):
            total["amount"] += difference
        self._change(order)
        if tender["id"] in self.payments:
            self._correct_payment(tender)

    def _correct_payment(self, tender: JsonObject) -> None:
        whole = tender["amount_money"]
        self._change_payment(
            tender["id"],
            amount_money=money(whole["amount"] - tip_of(tender), whole["currency"]),
            total_money=dict(whole),
            approved_money=dict(whole),
        )

    def attach_customer(self, order: str, customer: str) -> None:
        """Name the customer of an order itself."""
        self.orders[order]["customer_id"] = customer
        self._change(order)

    def attach_customer_to_payment(self, payment: str, customer: str) -> None:
        """Name the customer of a payment later; the order and its tender still name nobody."""
        self._change_payment(payment, customer_id=customer)

    def hide_lines(self, order: str) -> None:
        """Leave out an order's `line_items`, as Square may right after a payment."""
        self.hidden_lines.add(order)

    def show_lines(self, order: str) -> None:
        """Show an order's `line_items` again."""
        self.hidden_lines.discard(order)
        self._change(order)

    def set_state(self, order: str, state: str) -> None:
        """Put an order in any state, one that the wire document does not know, too."""
        self.orders[order]["state"] = state
        self._change(order)

    def spoil(self, order: str) -> None:
        """Make the sums of an order words: its total, and what each tender paid."""
        record = self.orders[order]
        for total in (record["total_money"], *(tender["amount_money"] for tender in record.get("tenders", []))):
            total["amount"] = "twelve"
        self._change(order)

    # --- payments ---------------------------------------------------------------------------------------------

    def payments_of(self, order: str) -> list[JsonObject]:
        """Return the payments of an order, in the order of its tenders."""
        tenders = self.orders[order].get("tenders", [])
        return [self.payments[tender["id"]] for tender in tenders if tender["id"] in self.payments]

    def payment_event(self, payment: str, kind: str = "payment.updated") -> Event:
        """Return an event about a payment as it is now, without noting it."""
        return self.event(kind, "payment", payment, {"payment": self.payments[payment]})

    def _change_payment(self, payment: str, **members: object) -> None:
        record = self.payments[payment]
        version = int(record["version_token"].rpartition("-")[2]) + 1
        record.update(members, updated_at=write_time(self.now()), version_token=f"sandbox-version-{version}")
        self._note(self.payment_event(payment))

    def _tender(self, order: str, tender_id: str) -> JsonObject:
        """Return a tender of an order. Raises `KeyError`."""
        tenders: dict[str, JsonObject] = {tender["id"]: tender for tender in self.orders[order]["tenders"]}
        return tenders[tender_id]
