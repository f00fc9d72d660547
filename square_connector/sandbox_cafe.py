"""The cafe that plays at the stand-in Square: two weeks of a past, and a busy morning at every location.

Owns who buys what and what goes wrong; what Square makes of it is `sandbox_seller`'s.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from zoneinfo import ZoneInfo

from square_connector.sandbox_catalogue import BEANS, CROISSANT, ESPRESSO, FLAT_WHITE
from square_connector.sandbox_seller import RefundTerms, Seller
from square_connector.sandbox_ticket import Line, Tender, Ticket

_SATURDAY = 5
_OPENS_AT = 8
_PRODUCTS = (FLAT_WHITE, FLAT_WHITE, ESPRESSO, CROISSANT)


class Cafe:
    """The customers of one seller, whom it knows by their phones (E.164)."""

    def __init__(self, seller: Seller, phones: Sequence[str], seed: int) -> None:
        self.seller = seller
        self._customers = [seller.customer_of(phone) for phone in phones]
        self._chance = random.Random(seed)  # noqa: S311 - the same sales every time
        self._ahead: list[str] = []
        self._sold: list[str] = []

    def two_weeks(self) -> None:
        """Fill fourteen days before today at every open location: busier on Saturdays, now and then a refund."""
        now = self.seller.now()
        for location in self._open_locations():
            zone = ZoneInfo(self.seller.locations[location]["timezone"])
            for days_ago in range(14, 0, -1):
                opens = (now - timedelta(days=days_ago)).astimezone(zone).replace(hour=_OPENS_AT, minute=0, second=0)
                self._sell_for_a_day(opens, location)

    def _sell_for_a_day(self, opens: datetime, location: str) -> None:
        chance, minute = self._chance, 0
        for _ in range(chance.randint(6, 10) + (5 if opens.weekday() == _SATURDAY else 0)):
            minute += chance.randint(4, 40)
            with self.seller.clock_at(opens + timedelta(minutes=minute)):
                order = self.seller.sell(self._ticket(location))
                if chance.random() < 0.03:
                    self.seller.refund_everything(order)

    def morning(self) -> Iterator[None]:
        """Serve one customer after another, without end, at each open location in turn; yields after each of them."""
        for number, location in enumerate(cycle(self._open_locations()), 1):
            self._serve_customer(number, location)
            yield
            # a few orders stay as they are, so that there is something to look at
            if len(self._sold) > 4 and self._chance.random() < 0.4:
                self._give_back(self._sold.pop(self._chance.randrange(len(self._sold))))
                yield

    def _serve_customer(self, number: int, location: str) -> None:
        if self._ahead:
            self.seller.complete(self._ahead.pop())
        ticket = self._ticket(location)
        if number % 5 == 0:
            self._ahead.append(self.seller.pay_ahead(ticket))
        else:
            self._sold.append(self.seller.sell(ticket))

    def _give_back(self, order: str) -> None:
        """Refund a line, an amount or everything of an order, or correct it."""
        seller = self.seller
        match self._chance.randrange(4):
            case 0:
                first = seller.orders[order]["line_items"][0]
                seller.refund_lines(order, {first["uid"]: first["quantity"]})
            case 1:
                seller.refund_amount(order, 100, RefundTerms(reason="Long wait"))
            case 2:
                seller.refund_everything(order)
            case _:
                seller.correct(order, seller.orders[order]["total_money"]["amount"] * 2)

    def _ticket(self, location: str) -> Ticket:
        """Return what the next customer takes, who is now and then nobody that the till knows."""
        chance = self._chance
        lines = [Line(chance.choice(_PRODUCTS), str(chance.randint(1, 2))) for _ in range(chance.randint(1, 3))]
        if chance.random() < 0.1:
            lines.append(Line(BEANS, "0.250", unit="METRIC_KILOGRAM"))
        return Ticket(
            lines=lines,
            tenders=[Tender(chance.choice(["CARD", "CARD", "CASH"]), tip=chance.choice([0, 0, 100]))],
            location=location,
            customer=chance.choice([*self._customers, *self._customers, None]),
        )

    def _open_locations(self) -> list[str]:
        return [location for location, record in self.seller.locations.items() if record["status"] == "ACTIVE"]
