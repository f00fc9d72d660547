"""The behaviours that a connector promises, each with what it guards against and how to mend it.

Owns what is demanded; `trial` owns how a till is driven and read. A behaviour's function name is its name in reports.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, ConnectorError, Forged, NotAuthorised
from connector_sdk.hooks import Hints, Sales
from connector_sdk.sale import Customer, Sale, SaleStatus
from connector_sdk.testing.behaviour_trial import READ_METHODS, Behaviour, Level, NotAsked, Trial, demand, fail
from connector_sdk.testing.stub import CannotShow, Fault

BEHAVIOURS: list[Behaviour] = []
_ANSWER_DELAY = 0.3  # seconds before each answer of a slow till; half of it is what a clock read just before may be off
_PERSISTENT = 200  # faults in a row: more than any connector makes attempts
_AMOUNTS = (1, 29, 101, 1999, 123_410, 1_000_001)  # minor units; as floats, some of them are off by one


def _behaviour(
    title: str, *, guards: str, fix: str, level: Level = Level.required
) -> Callable[[Callable[[Trial], Awaitable[None]]], None]:
    """Declare the decorated function a behaviour: it joins `BEHAVIOURS`, in the order of this file."""

    def declare(run: Callable[[Trial], Awaitable[None]]) -> None:
        BEHAVIOURS.append(Behaviour(run.__name__, title, level, guards, fix, run))

    return declare


# --- the account ------------------------------------------------------------------------------------------------------


@_behaviour(
    "The account is the till's own, in its currency and zone",
    guards="stamps by amount in the wrong currency, and business days that end at the wrong hour",
    fix="let `check` read id, currency and time zone from the till, and give the same id every time",
)
async def account(trial: Trial) -> None:
    """Demand the stub's currency and zone, and the same account id from two instances."""
    first, second = await trial.build().check(), await trial.build().check()
    demand(first.id == second.id, "check names another account each time")
    demand(first.currency == trial.stub.currency, f"the currency is {first.currency}, not {trial.stub.currency}")
    demand(first.zone == trial.stub.zone, f"the zone is {first.zone}, not {trial.stub.zone}")


@_behaviour(
    "A refused token is said to be one",
    guards="a connection that fails for ever instead of asking its cafe for a new token",
    fix="raise `NotAuthorised` where the till refuses what it is shown (`TillClient` does for 401)",
)
async def refused_token(trial: Trial) -> None:
    """Demand `NotAuthorised` from `check` with settings that the till refuses."""
    settings = trial.stub.wrong_settings()
    try:
        await trial.build(settings).check()
    except NotAuthorised:
        return
    except ConnectorError as error:
        fail(f"check raises {type(error).__name__} for a token that the till refuses")
    fail("check accepts a token that the till refuses")


# --- reading ----------------------------------------------------------------------------------------------------------


@_behaviour(
    "Every page of a read is yielded",
    guards="lost stamps: receipts beyond the first page",
    fix="follow the cursor, or ask on, until the till says that there is no more",
)
async def every_page(trial: Trial) -> None:
    """Sell more than two pages, and demand every receipt."""
    receipts = _fill_pages(trial)
    for method in trial.read_methods():
        reading = await trial.read(method)
        missing = set(receipts) - set(reading.ids)
        where = f"of {len(receipts)} receipts, on pages of {_page_size(trial)}{reading.also}"
        demand(not missing, f"{method} leaves out {len(missing)} {where}")


@_behaviour(
    "No page of a read comes twice",
    guards="a till that is asked the same again, and reads that never end",
    fix="go on from the cursor or last id that the till gave, and stop at the end",
)
async def no_page_twice(trial: Trial) -> None:
    """Sell more than two pages, and demand that no receipt is yielded twice."""
    _fill_pages(trial)
    for method in trial.read_methods():
        ids = (await trial.read(method)).ids
        demand(len(ids) == len(set(ids)), f"{method} yields {len(ids) - len(set(ids))} receipts twice")


def _page_size(trial: Trial) -> int:
    if trial.stub.page_size is None:
        raise CannotShow("the stub has no pages")
    return trial.stub.page_size


def _fill_pages(trial: Trial) -> list[str]:
    """Sell two pages and one receipt more, a second apart, and return the receipts' ids."""
    trial.read_methods()  # first of all: a connector that reads no pages is not asked for any
    count = 2 * _page_size(trial) + 1
    return [trial.sell(1000 + number, ago=timedelta(hours=3) - timedelta(seconds=number)) for number in range(count)]


@_behaviour(
    "A read from a moment holds what was closed at that moment",
    guards="receipts between two polls that neither of them sees",
    fix="ask for `since.at` inclusively; the till's day or second may begin before it",
)
async def window(trial: Trial) -> None:
    """Poll from the very moment at which a receipt was closed, around midnight as well, and demand the receipt."""
    trial.require("poll")
    local = trial.now.astimezone(ZoneInfo(trial.stub.zone))
    midnight = local.replace(hour=0, minute=0, second=0) - timedelta(days=1)
    for at in (trial.now - timedelta(hours=5), midnight, midnight - timedelta(seconds=1)):
        receipt = trial.sell(at=at)
        reading = await trial.read("poll", since=at)
        text = f"a receipt closed at {at.isoformat()} is not in the read from that moment{reading.also}"
        demand(receipt in reading.ids, text)


@_behaviour(
    "A checkpoint promises no more than was yielded",
    guards="receipts that no later poll asks for any more",
    fix="take the time before the first call, and set it as checkpoint only after the last page",
)
async def checkpoint(trial: Trial) -> None:
    """Poll a slow till, and demand checkpoints that neither lie after its first call nor skip receipts."""
    trial.require("poll")
    count = 2 * (trial.stub.page_size or 3) + 1
    ages = [timedelta(minutes=50 - number) for number in range(count)]
    closed_at = {trial.sell(ago=age): trial.now - age for age in ages}
    # a till that answers at once would hide a checkpoint that is taken at the end of the read
    trial.answer_delay = _ANSWER_DELAY
    reading = await trial.read("poll")
    demand(reading.promises, f"poll sets no checkpoint: the next one begins where this one did{reading.also}")
    for promise in reading.promises:
        late = promise.at > reading.asked + timedelta(seconds=_ANSWER_DELAY / 2)
        demand(not late, "the checkpoint lies after the beginning of the read")
        yielded = set(reading.ids[: promise.yielded])
        early = [receipt for receipt, at in closed_at.items() if at < promise.at and receipt not in yielded]
        demand(not early, f"the checkpoint promises {len(early)} receipts that were not yet yielded")


@_behaviour(
    "A read that fails says so",
    guards="receipts lost because a failure looked like an empty page",
    fix="let `TillUnavailable`, `RateLimited` and `NotAuthorised` out of `poll`; set no checkpoint after a failure",
)
async def failures(trial: Trial) -> None:
    """Read while the till fails in each way that the stub can show, and demand the right error each time."""
    for method in trial.read_methods():
        faults = [fault for fault in Fault if await _shows_failure(trial, method, fault)]
        if not faults:
            trial.stub.fail_next(Fault.unavailable)  # raises `CannotShow`, with the stub's words for it


async def _shows_failure(trial: Trial, method: str, fault: Fault) -> bool:
    """Demand that a read raises while the till fails; `False` where the stub cannot fail like that."""
    connector = await trial.connect()
    trial.sell()
    try:
        trial.stub.fail_next(fault, _PERSISTENT)
    except CannotShow:
        return False
    expected = NotAuthorised if fault is Fault.refused else ConnectorError
    try:
        await trial.read(method, connector=connector)
    except expected:
        pass
    except Exception as error:  # noqa: BLE001 - any other error is the finding
        fail(f"{method} raises {type(error).__name__} while the till is {fault}")
    else:
        fail(f"{method} ends as if all were well while the till is {fault}")
    trial.stub.fail_next(fault, 0)
    return True


@_behaviour(
    "One failed call does not end a read",
    guards="a connection that shows as failing at every hiccup",
    fix="read through `TillClient`, which tries again within its deadline",
    level=Level.recommended,
)
async def hiccup(trial: Trial) -> None:
    """Let one call fail, and demand the receipt nevertheless."""
    receipt = trial.sell()
    for method in trial.read_methods():
        connector = await trial.connect()
        trial.stub.fail_next(Fault.unavailable)
        reading = await trial.read(method, connector=connector)
        demand(receipt in reading.ids, f"{method} loses a receipt to one failed call")


@_behaviour(
    "Reading again gives the same",
    guards="a new version, and a line in the journal, at every poll",
    fix="map only what the till said: no time of reading, no random ids, no order that changes",
)
async def reading_again(trial: Trial) -> None:
    """Read twice, and demand equal sales."""
    trial.sell()
    trial.sell(700)
    for method in trial.read_methods():
        first, second = await trial.read(method), await trial.read(method)
        demand(_by_id(first.sales) == _by_id(second.sales), f"{method} gives other sales the second time")


def _by_id(sales: list[Sale]) -> dict[str, Sale]:
    return {sale.receipt_id: sale for sale in sales}


@_behaviour(
    "Reads at the same time do not disturb each other",
    guards="a look-back and a poll that share a cursor",
    fix="keep what a read needs in local variables, not on the connector",
    level=Level.recommended,
)
async def at_once(trial: Trial) -> None:
    """Run three reads of one connector concurrently, and demand every receipt of each."""
    receipts = {trial.sell(1000 + number, ago=timedelta(minutes=90 - number)) for number in range(5)}
    (method, *_) = trial.read_methods()
    connector = await trial.connect()
    for reading in await asyncio.gather(*(trial.read(method, connector=connector) for _ in range(3))):
        demand(receipts <= set(reading.ids), "a read beside another one leaves out receipts")


@_behaviour(
    "A receipt that the till does not know is none",
    guards="hints that are followed for ever",
    fix="return `None` from `fetch` for an unknown id",
)
async def unknown_receipt(trial: Trial) -> None:
    """Fetch an id of no receipt, and demand `None`."""
    trial.require("fetch")
    fetched = await (await trial.connect()).fetch(trial.stub.unknown_receipt)
    demand(fetched is None, "fetch finds what is not there")


@_behaviour(
    "One receipt that cannot be read stops no other",
    guards="a whole cafe without stamps because of one odd receipt",
    fix="catch `BadPayload` for each receipt and put it into `SalePage.unreadable`, with where, why and the body",
)
async def bad_receipt(trial: Trial) -> None:
    """Break one receipt of three, and demand the other two and a report of the broken one, by every method."""
    before, broken, after = trial.sell(), trial.sell(ago=timedelta(minutes=80)), trial.sell(ago=timedelta(minutes=70))
    trial.stub.spoil(broken)
    methods = [method for method in (*READ_METHODS, "receive") if trial.can(method)]
    if not methods:
        raise NotAsked("poll, history or receive")
    for method in methods:
        if method == "receive":
            await _demand_unreadable_hook(trial, broken)
        else:
            await _demand_unreadable_reported(trial, method, {before, after}, broken)


async def _demand_unreadable_reported(trial: Trial, method: str, readable: set[str], broken: str) -> None:
    """Demand that a read yields the readable receipts, and reports the broken one with where, why and body."""
    reading = await trial.read(method)
    demand(readable <= set(reading.ids), f"{method} loses receipts beside one that cannot be read")
    demand(broken not in reading.ids, f"{method} makes a sale of a receipt that cannot be read")
    demand(reading.unreadable, f"{method} does not say that a receipt cannot be read")
    for report in reading.unreadable:
        demand(report.where and report.why and report.body, f"{method} does not say where, why and of what body")


async def _demand_unreadable_hook(trial: Trial, broken: str) -> None:
    """Demand that the broken receipt's hook is thin, or is reported as unreadable: by `BadPayload`, or in `Sales`."""
    try:
        received = await trial.receive_hook(broken)
    except BadPayload as error:
        demand(error.where and error.why, "receive does not say where and why")
        return
    thin = isinstance(received, Hints)
    reported = isinstance(received, Sales) and not received.sales and bool(received.unreadable)
    demand(thin or reported, "receive neither maps the receipt nor says that it cannot")


# --- the sale ---------------------------------------------------------------------------------------------------------


@_behaviour(
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


@_behaviour(
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


@_behaviour(
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


@_behaviour(
    "A tip is not paid for coffee",
    guards="more stamps for friendlier guests",
    fix="take tips off `paid`, where the till's total holds them",
)
async def tips(trial: Trial) -> None:
    """Sell with a tip, and demand `paid` without it."""
    receipt = trial.sell(1250, tip=250)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.paid == trial.money(1250), f"{method} reads {sale.paid}, with the tip in it")


@_behaviour(
    "A correction is seen, and is newer",
    guards="stamps for the sum before the correction",
    fix="read receipts again after they were closed; let `version` be the till's revision or change time, or `None`",
)
async def correction(trial: Trial) -> None:
    """Correct a receipt that was read already, and demand the new sum with a greater version, if it has versions."""
    receipt = trial.sell(1250)
    before = await trial.read_by_each_method(receipt)
    trial.stub.correct(receipt, trial.money(900))
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.paid == trial.money(900), f"{method} still reads {sale.paid} after a correction")
        old_version = before[method].version if method in before else None
        if sale.version is not None and old_version is not None:
            demand(sale.version > old_version, f"{method}: the version does not grow with a correction")


@_behaviour(
    "A refund is seen, however late",
    guards="stamps that stay for money that was given back",
    fix="let `history` (or `poll`) read changed receipts of whole days; set `refunded`, or `voided` for all of it",
)
async def refund(trial: Trial) -> None:
    """Refund all of yesterday's receipt, and demand that its stamps would be taken back."""
    receipt = trial.sell(1250, ago=timedelta(hours=30))
    await trial.read_by_each_method(receipt)
    trial.stub.refund(receipt)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        if method == "poll" and trial.can("history"):
            continue  # the fast read may be blind to it: that is what `history` is for
        demand(_wholly_refunded(sale), f"{method} does not say that all of it was given back")


def _wholly_refunded(sale: Sale) -> bool:
    return sale.status is SaleStatus.voided or not sale.refunded < sale.paid


@_behaviour(
    "A refund of a receipt of long ago is seen by the next poll",
    guards="stamps that stay because nobody reads so far back: the host's look-back reads three days",
    fix="list by time of change, or list the till's refunds, too, and fetch the receipts that they are of",
    level=Level.recommended,
)
async def late_refund(trial: Trial) -> None:
    """Refund a receipt of ten days ago, poll the last hour, and demand the refund."""
    trial.require("poll")
    receipt = trial.sell(1250, ago=timedelta(days=10))
    trial.stub.refund(receipt)
    reading = await trial.read("poll", since=trial.now - timedelta(hours=1))
    refunded = next((sale for sale in reading.sales if sale.receipt_id == receipt), None)
    if refunded is None:
        fail(f"a receipt of ten days ago that was refunded just now is not in a poll from an hour ago{reading.also}")
    demand(_wholly_refunded(refunded), "poll does not say that it is refunded")


@_behaviour(
    "A partial refund is exact",
    guards="all stamps taken back for one returned croissant",
    fix="set `refunded` to what was given back and leave `paid` and the status as they were",
)
async def partial_refund(trial: Trial) -> None:
    """Refund a part, and demand exactly that part with sum and status as they were."""
    receipt, paid, refunded = trial.sell(1250), trial.money(1250), trial.money(329)
    trial.stub.refund(receipt, refunded)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        exact = (sale.status, sale.paid, sale.refunded) == (SaleStatus.closed, paid, refunded)
        demand(exact, f"{method} reads {sale.paid} − {sale.refunded}")


@_behaviour(
    "A voided receipt is seen as one",
    guards="stamps that stay for receipts that never were",
    fix="let `history`, `fetch` or the hook show removed receipts as `SaleStatus.voided`",
)
async def void(trial: Trial) -> None:
    """Void a receipt, and demand that status."""
    receipt = trial.sell(1250)
    trial.stub.void(receipt)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.status is SaleStatus.voided, f"{method} says that a voided receipt is {sale.status}")


@_behaviour(
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


@_behaviour(
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


@_behaviour(
    "A receipt without a customer has none",
    guards="one card that gets the stamps of everybody who has none",
    fix="map the till's zero, empty or walk-in customer to `None`",
)
async def nobody(trial: Trial) -> None:
    """Sell to nobody, and demand a sale without customer."""
    receipt = trial.sell()
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(not sale.customer, f"{method} names a customer where there is none")


@_behaviour(
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


@_behaviour(
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


# --- hooks ------------------------------------------------------------------------------------------------------------


@_behaviour(
    "A true hook leads to its receipt",
    guards="instant stamps that never come",
    fix="return `Sales` or `Hints` for the till's events about receipts",
)
async def true_hook(trial: Trial) -> None:
    """Receive a receipt's own hook, and demand that it names this receipt and no other."""
    trial.require("receive")
    receipt = trial.sell()
    match await trial.receive_hook(receipt):
        case Sales(sales):
            named = [sale.receipt_id for sale in sales]
        case Hints(hints):
            named = [hint.receipt_id for hint in hints]
        case received:
            fail(f"receive says {type(received).__name__} of a receipt's hook")
    demand(named == [receipt], "the hook is about another receipt")


@_behaviour(
    "A forged hook is refused",
    guards="free stamps for whoever knows the address",
    fix="verify the signature over the raw body in `prove` or `route`, with `connector_sdk.signatures`",
)
async def forged_hook(trial: Trial) -> None:
    """Verify a hook of somebody without the secret, and one whose body was changed; demand that both are refused."""
    trial.require("receive")
    connector = await trial.connect()
    hook = trial.stub.hook(trial.sell())
    for description, forgery in (
        ("forged", trial.stub.forge(hook)),
        ("tampered with", replace(hook, body=_tamper(hook.body))),
    ):
        try:
            trial.prove(connector, forgery)
        except (Forged, BadPayload):
            continue
        fail(f"prove believes a hook that was {description}")


def _tamper(body: bytes) -> bytes:
    """Change a body's last digit: it stays well formed, and is no longer what was signed."""
    for position in range(len(body) - 1, -1, -1):
        digit = body[position : position + 1]
        if digit.isdigit():
            return body[:position] + (b"1" if digit != b"1" else b"2") + body[position + 1 :]
    return body + b" "


@_behaviour(
    "An old hook is refused",
    guards="a captured hook that is sent again a year later",
    fix="bound the age of the signed time to five minutes (`TimestampedHmac` does)",
    level=Level.recommended,
)
async def old_hook(trial: Trial) -> None:
    """Verify a hook that was signed an hour ago, and demand that it is refused."""
    trial.require("receive")
    connector = await trial.connect()
    hook = trial.stub.age(trial.stub.hook(trial.sell()), 3600)
    try:
        trial.prove(connector, hook)
    except Forged:
        return
    fail("prove believes a hook that was signed an hour ago")


@_behaviour(
    "A hook that was kept can be read again",
    guards="what could not be read once, and never can be, though the connector was mended",
    fix="let `receive` read the body only: the proof belongs into `prove`, headers are not kept",
)
async def kept_hook(trial: Trial) -> None:
    """Receive a hook with its headers and query and without, as the host stores it, and demand equal results."""
    trial.require("receive")
    connector = await trial.connect()
    hook = trial.stub.hook(trial.sell())
    stored = replace(hook, headers={}, query={})
    try:
        received = connector.receive(stored)
    except ConnectorError as error:
        fail(f"receive raises {type(error).__name__} for a hook without its headers")
    demand(received == connector.receive(hook), "receive says something else of a hook without its headers")


# --- secrets ----------------------------------------------------------------------------------------------------------


@_behaviour(
    "No secret is told",
    guards="a token in a log that somebody sends to a forum",
    fix="name paths and fields in errors, never addresses, headers or bodies; log nothing of settings",
)
async def no_secret_told(trial: Trial) -> None:
    """Provoke logs and errors in every way that the stub allows, and demand that no secret setting stands in them."""
    with _captured_logs() as lines:
        connector = await trial.connect()
        await _provoke_reads(trial, connector, lines)
        _provoke_hooks(trial, connector, lines)
        lines.append(repr(connector.settings))
    secrets = [value.get_secret_value() for _, value in connector.settings if isinstance(value, SecretStr)]
    for secret in secrets:
        demand(not any(secret in line for line in lines), "a secret of the settings stands in a log or an error")


class _LogCapture(logging.Handler):
    """Collects every record as the text that a log file would hold, tracebacks included."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(level=logging.DEBUG)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(logging.Formatter().format(record))


@contextmanager
def _captured_logs() -> Iterator[list[str]]:
    """Capture everything that is logged in this context, at every level."""
    lines: list[str] = []
    capture, root = _LogCapture(lines), logging.getLogger()
    level = root.level
    root.addHandler(capture)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.removeHandler(capture)
        root.setLevel(level)


async def _provoke_reads(trial: Trial, connector: Connector[BaseModel], lines: list[str]) -> None:
    """Read by every method, while the till is well and in each way in which it can fail; collect the errors' texts."""
    trial.sell()
    methods = [method for method in READ_METHODS if trial.can(method)]
    for fault in (None, *Fault):
        for method in methods:
            try:
                if fault is not None:
                    trial.stub.fail_next(fault, _PERSISTENT)
                await trial.read(method, connector=connector)
            except CannotShow:
                continue
            except Exception as error:  # noqa: BLE001 - any error may hold a secret in its text
                lines.extend((str(error), repr(error), repr(error.__cause__)))
            finally:
                if fault is not None:
                    _end_faults(trial, fault)


def _provoke_hooks(trial: Trial, connector: Connector[BaseModel], lines: list[str]) -> None:
    """Receive a good hook and verify a forged one; collect the errors' texts."""
    if not trial.can("receive"):
        return
    try:
        hook = trial.stub.hook(trial.sell())
        connector.receive(hook)
        trial.prove(connector, trial.stub.forge(hook))
    except CannotShow:
        return
    except Exception as error:  # noqa: BLE001 - any error may hold a secret in its text
        lines.extend((str(error), repr(error)))


def _end_faults(trial: Trial, fault: Fault) -> None:
    """End a fault that may not have been used up; a stub that cannot show it has none to end."""
    with suppress(CannotShow):
        trial.stub.fail_next(fault, 0)
