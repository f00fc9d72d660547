"""How many calls a chain's day costs at Square: 30 venues with 300 sales each, before and after SDK 1.

Counts real calls of the real connector to the sandbox, without a network; nothing here is timed. Before, a second look
came every hour and asked for each receipt by itself, every venue's connection read the whole account, and every hook
was followed by each of them.

    python -m bench.calls [--venues 30] [--sales 300]
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import SecretStr

from connector_sdk.till_client import unpaced
from square_connector import SquareConnector
from square_connector import sandbox as square
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_ticket import Ticket
from square_connector.settings import SquareApp, SquareSettings

_DAYS = 4  # what a second look reads, a day for offline tills among them
_NAMED = 3  # of ten receipts so many name their customer
_REFUNDS = 2  # of a hundred receipts so many are refunded
_SAMPLE = 40  # receipts by which one fetch is counted
_POLLS_WITH_HOOKS, _POLLS_WITHOUT = 24 * 4, 24 * 60


class _Chain:
    """A chain with four days of sales behind it, and its connector."""

    def __init__(self, venues: int, sales: int) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        places = [Place(f"Venue {number}", "Europe/Dublin", "EUR", "IE") for number in range(venues)]
        self.seller = Seller(places=places)
        self.sandbox = SquareSandbox(self.seller)
        self.calls: Counter[str] = Counter()
        guests = [self.seller.customer_of(f"+35386{number:07d}") for number in range(50)]
        self.orders: list[str] = []
        for day in range(_DAYS, 0, -1):
            for number in range(sales):
                at = self.now - timedelta(days=day) + timedelta(seconds=number * 86_000 // sales)
                with self.seller.clock_at(at):
                    self._sell(number, guests)
        self.seller.take_events()

    def _sell(self, number: int, guests: list[str]) -> None:
        for venue, location in enumerate(self.seller.locations):
            counted = number + venue
            customer = guests[counted % len(guests)] if counted % 10 < _NAMED else None
            order = self.seller.sell(Ticket(location=location, customer=customer))
            self.orders.append(order)
            if counted % 100 < _REFUNDS:
                self.seller.refund_everything(order)

    async def connector(self) -> SquareConnector:
        app = SquareApp(
            api_url="http://square.test",
            application_id=square.APPLICATION_ID,
            application_secret=SecretStr(square.SECRET),
        )
        settings = SquareSettings.model_validate(self.sandbox.settings())
        transport = httpx.ASGITransport(app=self.sandbox.application())
        account = await SquareConnector(settings, app=app, transport=transport).check()
        return SquareConnector(settings, app=app, account=account, transport=transport)

    def count(self) -> int:
        """Return the calls since the last count."""
        number = len(self.sandbox.calls)
        self.sandbox.calls.clear()
        return number


async def _measure(venues: int, sales: int) -> None:
    chain = _Chain(venues, sales)
    chain.sandbox.calls = type(chain.sandbox.calls)()  # unbounded: every call counts here
    connector = await chain.connector()
    chain.count()

    receipts = sum([len(page.sales) async for page in connector.history(chain.now - timedelta(days=_DAYS - 1))])
    second_look = chain.count()
    interval = timedelta(days=1) / _POLLS_WITH_HOOKS
    [page async for page in connector.poll(chain.now - timedelta(days=1) - interval)]
    day_of_polls = chain.count()
    idle = [page async for page in connector.poll(chain.now)]
    empty_poll = chain.count()
    step = max(1, len(chain.orders) // _SAMPLE)
    sample = chain.orders[::step][:_SAMPLE]
    for order in sample:
        await connector.fetch(order)
    a_fetch = chain.count() / len(sample)

    a_day = venues * sales
    print(f"{venues} venues, {sales} sales each a day; {receipts} receipts in a second look of {_DAYS} days")
    print(f"a poll with nothing new {empty_poll} calls ({len(idle)} page); a receipt by itself {a_fetch:.1f} calls")
    before_looks = 24 * receipts * 1.0
    before = before_looks + venues * (_POLLS_WITH_HOOKS * empty_poll + a_day * a_fetch)
    after = second_look + _POLLS_WITH_HOOKS * empty_poll + day_of_polls + a_day * a_fetch
    after_without_hooks = second_look + _POLLS_WITHOUT * empty_poll + day_of_polls
    rows = [
        ("second looks", before_looks, float(second_look)),
        ("polls", float(venues * _POLLS_WITH_HOOKS * empty_poll), float(_POLLS_WITH_HOOKS * empty_poll + day_of_polls)),
        ("receipts that hooks name", venues * a_day * a_fetch, a_day * a_fetch),
        ("all, with hooks", before, after),
        ("all, without hooks", before_looks + venues * _POLLS_WITHOUT * empty_poll, after_without_hooks),
    ]
    print(f"{'calls a day':<26}{'before':>12}{'after':>12}{'ratio':>9}")
    for name, earlier, later in rows:
        print(f"{name:<26}{earlier:>12,.0f}{later:>12,.0f}{earlier / max(later, 1):>8.1f}x")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venues", type=int, default=30)
    parser.add_argument("--sales", type=int, default=300)
    arguments = parser.parse_args()
    with unpaced():
        asyncio.run(_measure(arguments.venues, arguments.sales))


if __name__ == "__main__":
    main()
