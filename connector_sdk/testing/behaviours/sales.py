"""Behaviours of a sale: its money, time, lines, customer, codes and venue."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.money import exponent
from connector_sdk.sale import Customer, Sale, SaleStatus
from connector_sdk.testing.behaviour_trial import Level, Trial, demand
from connector_sdk.testing.behaviours.declared import behaviour
from connector_sdk.testing.stub import CannotShow, SoldLine

_AMOUNTS = (1, 29, 101, 1999, 123_410, 1_000_001)  # minor units; as floats, some of them are off by one
_CURRENCIES = ("JPY", "KWD")  # without hundredths, and with thousandths


@behaviour(
    "Money is exact",
    guards="a stamp too few at 19.99, or a thousand at a million",
    fix="keep the text or integer of the wire and use `Money.from_decimal` or `Money.from_hundredths`; never a float",
)
async def exact_money(trial: Trial) -> None:
    """Sell for amounts that floats get wrong, and demand each to the last minor unit."""
    for minor in _AMOUNTS:
        receipt, paid = trial.sell(minor), trial.money(minor)
        for method, sale in (await trial.read_by_each_method(receipt)).items():
            demand(sale.paid == paid, f"{method} reads {sale.paid} where {paid} was paid")


@behaviour(
    "The time of closing is the moment it was",
    guards="double stamps in the wrong hour, and receipts counted to the wrong rule",
    fix="read the till's time with its zone; a local time without one is in the account's zone",
)
async def closing_time(trial: Trial) -> None:
    """Sell two hours ago and just before a local midnight, and demand both times to the second."""
    zone = ZoneInfo(trial.stub.zone)
    evening = (trial.now.astimezone(zone) - timedelta(days=1)).replace(hour=23, minute=59, second=30)
    for at in (trial.now - timedelta(hours=2), evening):
        receipt = trial.sell(at=at)
        for method, sale in (await trial.read_by_each_method(receipt)).items():
            closed_at = sale.closed_at or datetime.fromtimestamp(0, zone)  # no time at all is off by decades
            off = abs(closed_at - at)
            demand(off <= timedelta(seconds=1), f"{method} is {off} off for a receipt closed at {at.isoformat()}")


@behaviour(
    "An open receipt is not closed",
    guards="stamps for what nobody has paid yet",
    fix="map the till's open states to `SaleStatus.open`, or do not yield them",
)
async def open_receipt(trial: Trial) -> None:
    """Leave a receipt open, and demand that it is read as open or not at all."""
    receipt, closed = trial.sell(open=True), trial.sell()
    # a connector that reads nothing would pass below: it must read the closed one
    await trial.read_by_each_method(closed)
    try:
        sales = await trial.read_by_each_method(receipt)
    except AssertionError:
        return  # no method shows it, which is as good
    for method, sale in sales.items():
        demand(sale.status is SaleStatus.open, f"{method} says that an open receipt is {sale.status}")


@behaviour(
    "A tip is not paid for coffee",
    guards="more stamps for friendlier guests",
    fix="take tips off `paid`, where the till's total holds them",
)
async def tips(trial: Trial) -> None:
    """Sell with a tip, and demand `paid` without it."""
    receipt = trial.sell(1250, tip=250)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.paid == trial.money(1250), f"{method} reads {sale.paid}, with the tip in it")


@behaviour(
    "A receipt looks the same however it is read",
    guards="a new version at every reading by another way, and stamps that go back and forth",
    fix="use one mapping for all ways, and only fields that all of them carry",
)
async def same_by_every_way(trial: Trial) -> None:
    """Read one receipt by every method, and demand equal sales."""
    customer = next(iter(trial.stub.customers), None)
    receipt = trial.sell(1250, customer=customer)
    (first_method, first), *others = (await trial.read_by_each_method(receipt)).items()
    for method, sale in others:
        differing = [name for name in Sale.model_fields if getattr(first, name) != getattr(sale, name)]
        demand(not differing, f"{first_method} and {method} differ in {', '.join(differing)}")


@behaviour(
    "The customer of a receipt is the one who bought",
    guards="stamps on somebody else's card, or on nobody's",
    fix="give phone (E.164), email or number, or `till_id` and let `customer` turn it into one of them",
)
async def customers(trial: Trial) -> None:
    """Sell to each of the stub's customers, and demand that phone, email or number leads to that customer."""
    if not trial.stub.customers:
        raise CannotShow("the stub has no customers")
    for buyer in trial.stub.customers:
        receipt = trial.sell(customer=buyer)
        for method, sale in (await trial.read_by_each_method(receipt)).items():
            resolved = await _resolve(await trial.connect(), sale.customer)
            demand(_share_identifier(buyer, resolved), f"{method} does not lead to the customer who bought")


async def _resolve(connector: Connector[BaseModel], customer: Customer | None) -> Customer | None:
    """Resolve a customer who is known by the till's own id only, as the host does."""
    if customer and customer.till_id and not (customer.phone or customer.email or customer.number):
        return await connector.customer(customer.till_id)
    return customer


def _share_identifier(buyer: Customer, resolved: Customer | None) -> bool:
    """Tell whether two customers have the same phone, email or number."""
    identifiers = ((getattr(buyer, name), getattr(resolved, name, None)) for name in ("phone", "email", "number"))
    return any(expected is not None and expected == actual for expected, actual in identifiers)


@behaviour(
    "A receipt without a customer has none",
    guards="one card that gets the stamps of everybody who has none",
    fix="map the till's zero, empty or walk-in customer to `None`",
)
async def nobody(trial: Trial) -> None:
    """Sell to nobody, and demand a sale without customer."""
    receipt = trial.sell()
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(not sale.customer, f"{method} names a customer where there is none")


@behaviour(
    "A redeem code on the receipt is seen",
    guards="vouchers that are used at the till and stay good at 7stamp",
    fix="put the till's promo or voucher codes into `redeem_codes`",
    level=Level.recommended,
)
async def redeem_code(trial: Trial) -> None:
    """Sell with a redeem code, and demand the code."""
    receipt = trial.sell(redeem_code="FREECOFFEE9")
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand("FREECOFFEE9" in sale.redeem_codes, f"{method} does not see the redeem code")


@behaviour(
    "A receipt's place is one of the account's",
    guards="receipts that belong to no connection",
    fix="let `location_id` be an id that `check` lists, or `None`",
    level=Level.recommended,
)
async def place(trial: Trial) -> None:
    """Demand of a sale's location that `check` lists it."""
    listed = {location.id for location in (await trial.connect()).account.locations}
    receipt = trial.sell()
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        valid = sale.location_id is None or sale.location_id in listed
        demand(valid, f"{method} names a place that check does not list")


@behaviour(
    "A currency without hundredths is exact, too",
    guards="a hundred times too many stamps in Tokyo, or a tenth in Kuwait",
    fix="use what `check` says of the currency, and `Money.from_decimal`, or the till's smallest unit as it is",
)
async def other_currency(trial: Trial) -> None:
    """Trade in yen or dinars, and demand sums to the last minor unit, in that currency."""
    for currency in _CURRENCIES:
        try:
            trial.stub.trade_in(currency)
        except CannotShow:
            continue
        for minor in (1, 350, 12_345):
            receipt = trial.sell(minor)
            for method, sale in (await trial.read_by_each_method(receipt)).items():
                text = (
                    f"{method} reads {sale.paid} where {trial.money(minor)} was paid (of {exponent(currency)} digits)"
                )
                demand(sale.paid == trial.money(minor), text)
        return
    trial.stub.trade_in(_CURRENCIES[0])  # raises `CannotShow`, with the stub's words for it


@behaviour(
    "An ordinary sale earns",
    guards="a cafe whose sales all count as gifts, and earn nothing",
    fix="set `gift` only for what was given free",
)
async def ordinary_sale(trial: Trial) -> None:
    """Sell, and demand a closed sale that is no gift, with lines that are none."""
    receipt = trial.sell(1250)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.status is SaleStatus.closed, f"{method} says that a closed receipt is {sale.status}")
        demand(not sale.gift, f"{method} says that an ordinary sale is a gift")
        demand(not any(line.gift for line in sale.lines), f"{method} says that an ordinary line is a gift")
        demand(sale.refunded.minor == 0, f"{method} says that {sale.refunded} of a sale were given back at once")


@behaviour(
    "The lines of a receipt are what was sold",
    guards="a rule for coffee that never finds any",
    fix="give each line the id under which `menu` lists the product, and its quantity",
)
async def lines(trial: Trial) -> None:
    """Sell known quantities of known products, and demand them; and that the menu, where it is read, lists them."""
    if not trial.stub.products:
        raise CannotShow("the stub names no products")
    sold = tuple(SoldLine(product, Decimal(1 + at)) for at, product in enumerate(trial.stub.products[:2]))
    receipt = trial.sell(1250, lines=sold)
    expected = {line.product_id: line.quantity for line in sold}
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        read = {line.product_id: line.quantity for line in sale.lines}
        demand(read == expected, f"{method} reads other lines than were sold")
    if trial.can("menu"):
        menu = {item.product_id for item in await (await trial.connect()).menu()}
        demand(expected.keys() <= menu, "menu does not list what the lines of a receipt name")


@behaviour(
    "What is no money is not paid",
    guards="stamps for a coffee that a gift card or points paid for, after stamps for the card itself",
    fix="leave gift cards, points and certificates out of `paid`",
)
async def paid_by_other_means(trial: Trial) -> None:
    """Pay a part by gift card, and another receipt's part by points; demand the money alone."""
    shown = 0
    for means in ("by_gift_card", "by_points"):
        try:
            receipt = trial.sell(
                900,
                by_gift_card=350 if means == "by_gift_card" else None,
                by_points=350 if means == "by_points" else None,
            )
        except CannotShow:
            continue
        shown += 1
        for method, sale in (await trial.read_by_each_method(receipt)).items():
            demand(sale.paid == trial.money(900), f"{method} reads {sale.paid} where 9.00 was paid in money ({means})")
    if not shown:
        raise CannotShow("the stub can be paid neither by gift card nor by points")


@behaviour(
    "A gift card that is bought is no purchase yet",
    guards="stamps for a gift card, and again for what is bought with it",
    fix="take what was paid for gift cards off `paid`",
    level=Level.recommended,
)
async def gift_card_bought(trial: Trial) -> None:
    """Sell a coffee and a gift card on one receipt, and demand the coffee's money alone."""
    receipt = trial.sell(450, gift_card_bought=5000)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.paid == trial.money(450), f"{method} reads {sale.paid}, with the gift card in it")
