"""The behaviours that a connector promises, each with what it guards against and how to mend it.

Owns what is demanded; how a till is driven and seen is `trial`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload, ConnectorError, Forged, NotAuthorised
from connector_sdk.hooks import Hints, HookRequest, Sales
from connector_sdk.sale import Customer, Sale, SaleStatus
from connector_sdk.testing.stub import CannotShow, Fault
from connector_sdk.testing.trial import Behaviour, Level, NotAsked, Trial, demand, fail

BEHAVIOURS: list[Behaviour] = []
_SLOW = 0.3  # seconds for which a slow till thinks before each answer
_FOR_GOOD = 200  # more faults than anybody tries again
_AMOUNTS = (1, 29, 101, 1999, 123_410, 1_000_001)  # what floats get wrong, and what they do not


def _behaviour(
    title: str, *, guards: str, fix: str, level: Level = Level.required
) -> Callable[[Callable[[Trial], Awaitable[None]]], None]:
    def declared(run: Callable[[Trial], Awaitable[None]]) -> None:
        BEHAVIOURS.append(Behaviour(run.__name__, title, level, guards, fix, run))

    return declared


# --- the account ------------------------------------------------------------------------------------------------------


@_behaviour(
    "The account is the till's own, in its currency and zone",
    guards="stamps by amount in the wrong currency, and business days that end at the wrong hour",
    fix="let `check` read id, currency and time zone from the till, and give the same id every time",
)
async def account(trial: Trial) -> None:
    found, again = await trial.build().check(), await trial.build().check()
    demand(found.id == again.id, "check names another account each time")
    demand(found.currency == trial.stub.currency, f"the currency is {found.currency}, not {trial.stub.currency}")
    demand(found.zone == trial.stub.zone, f"the zone is {found.zone}, not {trial.stub.zone}")


@_behaviour(
    "A refused token is said to be one",
    guards="a connection that fails for ever instead of asking its cafe for a new token",
    fix="raise `NotAuthorised` where the till refuses what it is shown (`TillClient` does for 401)",
)
async def refused_token(trial: Trial) -> None:
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
    sold = _fill_pages(trial)
    for way in trial.reads():
        reading = await trial.read(way)
        missing = set(sold) - set(reading.ids)
        said = f"{way} leaves out {len(missing)} of {len(sold)} receipts, on pages of {_size(trial)}{reading.also}"
        demand(not missing, said)


@_behaviour(
    "No page of a read comes twice",
    guards="a till that is asked the same again, and reads that never end",
    fix="go on from the cursor or last id that the till gave, and stop at the end",
)
async def no_page_twice(trial: Trial) -> None:
    _fill_pages(trial)
    for way in trial.reads():
        ids = (await trial.read(way)).ids
        demand(len(ids) == len(set(ids)), f"{way} yields {len(ids) - len(set(ids))} receipts twice")


def _size(trial: Trial) -> int:
    if trial.stub.page_size is None:
        raise CannotShow("the stub has no pages")
    return trial.stub.page_size


def _fill_pages(trial: Trial) -> list[str]:
    trial.reads()
    number = 2 * _size(trial) + 1
    return [trial.sell(1000 + one, ago=timedelta(hours=3) - timedelta(seconds=one)) for one in range(number)]


@_behaviour(
    "A read from a moment holds what was closed at that moment",
    guards="receipts between two polls that neither of them sees",
    fix="ask for `since.at` inclusively; the till's day or second may begin before it",
)
async def window(trial: Trial) -> None:
    trial.needs("poll")
    local = trial.now.astimezone(ZoneInfo(trial.stub.zone))
    midnight = local.replace(hour=0, minute=0, second=0) - timedelta(days=1)
    for at in (trial.now - timedelta(hours=5), midnight, midnight - timedelta(seconds=1)):
        receipt = trial.sell(at=at)
        reading = await trial.read("poll", since=at)
        said = f"a receipt closed at {at.isoformat()} is not in the read from that moment{reading.also}"
        demand(receipt in reading.ids, said)


@_behaviour(
    "A checkpoint promises no more than was yielded",
    guards="receipts that no later poll asks for any more",
    fix="take the time before the first call, and set it as checkpoint only after the last page",
)
async def checkpoint(trial: Trial) -> None:
    trial.needs("poll")
    sold = [trial.sell(ago=timedelta(minutes=50 - one)) for one in range(2 * (trial.stub.page_size or 3) + 1)]
    at = {one: trial.now - timedelta(minutes=50 - number) for number, one in enumerate(sold)}
    trial.slow = _SLOW  # a till that answers at once would hide a checkpoint that is taken at the end
    reading = await trial.read("poll")
    demand(reading.promised, f"poll sets no checkpoint: the next one begins where this one did{reading.also}")
    for promised, yielded in reading.promised:
        late = promised > reading.asked + timedelta(seconds=_SLOW / 2)
        demand(not late, "the checkpoint lies after the beginning of the read")
        early = [one for one in sold if at[one] < promised and one not in reading.ids[:yielded]]
        demand(not early, f"the checkpoint promises {len(early)} receipts that were not yet yielded")


@_behaviour(
    "A read that fails says so",
    guards="receipts lost because a failure looked like an empty page",
    fix="let `TillUnavailable`, `RateLimited` and `NotAuthorised` out of `poll`; set no checkpoint after a failure",
)
async def failures(trial: Trial) -> None:
    for way in trial.reads():
        shown = 0
        for fault in Fault:
            till = await trial.till()
            trial.sell()
            try:
                trial.stub.fail_next(fault, _FOR_GOOD)
            except CannotShow:
                continue
            shown += 1
            wanted = NotAuthorised if fault is Fault.refused else ConnectorError
            try:
                await trial.read(way, till=till)
            except wanted:
                pass
            except Exception as error:  # noqa: BLE001 - whatever it was, it is said
                fail(f"{way} raises {type(error).__name__} while the till is {fault}")
            else:
                fail(f"{way} ends as if all were well while the till is {fault}")
            trial.stub.fail_next(fault, 0)
        if not shown:
            trial.stub.fail_next(Fault.unavailable)


@_behaviour(
    "One failed call does not end a read",
    guards="a connection that shows as failing at every hiccup",
    fix="read through `TillClient`, which tries again within its deadline",
    level=Level.recommended,
)
async def hiccup(trial: Trial) -> None:
    receipt = trial.sell()
    for way in trial.reads():
        till = await trial.till()
        trial.stub.fail_next(Fault.unavailable)
        demand(receipt in (await trial.read(way, till=till)).ids, f"{way} loses a receipt to one failed call")


@_behaviour(
    "Reading again gives the same",
    guards="a new version, and a line in the journal, at every poll",
    fix="map only what the till said: no time of reading, no random ids, no order that changes",
)
async def reading_again(trial: Trial) -> None:
    trial.sell()
    trial.sell(700)
    for way in trial.reads():
        first, second = await trial.read(way), await trial.read(way)
        demand(_by_id(first.sales) == _by_id(second.sales), f"{way} gives other sales the second time")


def _by_id(sales: list[Sale]) -> dict[str, Sale]:
    return {sale.receipt_id: sale for sale in sales}


@_behaviour(
    "Reads at the same time do not disturb each other",
    guards="a look-back and a poll that share a cursor",
    fix="keep what a read needs in local variables, not on the connector",
    level=Level.recommended,
)
async def at_once(trial: Trial) -> None:
    sold = {trial.sell(1000 + one, ago=timedelta(minutes=90 - one)) for one in range(5)}
    (way, *_) = trial.reads()
    till = await trial.till()
    for reading in await asyncio.gather(*(trial.read(way, till=till) for _ in range(3))):
        demand(sold <= set(reading.ids), "a read beside another one leaves out receipts")


@_behaviour(
    "A receipt that the till does not know is none",
    guards="hints that are followed for ever",
    fix="return `None` from `fetch` for an unknown id",
)
async def unknown_receipt(trial: Trial) -> None:
    trial.needs("fetch")
    demand(await (await trial.till()).fetch(trial.stub.unknown_receipt) is None, "fetch finds what is not there")


@_behaviour(
    "One receipt that cannot be read stops no other",
    guards="a whole cafe without stamps because of one odd receipt",
    fix="catch `BadPayload` for each receipt and put it into `SalePage.unreadable`, with where, why and the body",
)
async def bad_receipt(trial: Trial) -> None:
    before, bad, after = trial.sell(), trial.sell(ago=timedelta(minutes=80)), trial.sell(ago=timedelta(minutes=70))
    trial.stub.spoil(bad)
    asked = 0
    for way in ("poll", "look_back"):
        if trial.stub.connector.can(way):
            asked += 1
            reading = await trial.read(way)
            demand({before, after} <= set(reading.ids), f"{way} loses receipts beside one that cannot be read")
            demand(bad not in reading.ids, f"{way} makes a sale of a receipt that cannot be read")
            demand(reading.unreadable, f"{way} does not say that a receipt cannot be read")
            for one in reading.unreadable:
                demand(one.where and one.why and one.body, f"{way} does not say where, why and of what body")
    if trial.stub.connector.can("receive"):
        try:
            received = await trial.received(bad)
        except BadPayload as error:
            demand(error.where and error.why, "receive does not say where and why")
        else:
            thin = isinstance(received, Hints)
            whole = isinstance(received, Sales) and not received.sales and bool(received.unreadable)
            demand(thin or whole, "receive neither maps the receipt nor says that it cannot")
        asked += 1
    if not asked:
        raise NotAsked("poll, look_back or receive")


# --- the sale ---------------------------------------------------------------------------------------------------------


@_behaviour(
    "Money is exact",
    guards="a stamp too few at 19.99, or a thousand at a million",
    fix="keep the text or integer of the wire and use `Money.from_decimal` or `Money.from_hundredths`; never a float",
)
async def exact_money(trial: Trial) -> None:
    for minor in _AMOUNTS:
        receipt = trial.sell(minor)
        for way, sale in (await trial.seen(receipt)).items():
            wanted = trial.money(minor)
            demand(sale.paid == wanted, f"{way} reads {sale.paid} where {wanted} was paid")


@_behaviour(
    "The time of closing is the moment it was",
    guards="double stamps in the wrong hour, and receipts counted to the wrong rule",
    fix="read the till's time with its zone; a local time without one is in the account's zone",
)
async def closing_time(trial: Trial) -> None:
    zone = ZoneInfo(trial.stub.zone)
    evening = (trial.now.astimezone(zone) - timedelta(days=1)).replace(hour=23, minute=59, second=30)
    for at in (trial.now - timedelta(hours=2), evening):
        receipt = trial.sell(at=at)
        for way, sale in (await trial.seen(receipt)).items():
            off = abs((sale.closed_at or datetime.fromtimestamp(0, zone)) - at)
            demand(off <= timedelta(seconds=1), f"{way} is {off} off for a receipt closed at {at.isoformat()}")


@_behaviour(
    "An open receipt is not closed",
    guards="stamps for what nobody has paid yet",
    fix="map the till's open states to `SaleStatus.open`, or do not yield them",
)
async def open_receipt(trial: Trial) -> None:
    receipt, closed = trial.sell(open=True), trial.sell()
    await trial.seen(closed)
    try:
        seen = await trial.seen(receipt)
    except AssertionError:
        return  # it is not shown at all, which is as good
    for way, sale in seen.items():
        demand(sale.status is SaleStatus.open, f"{way} says that an open receipt is {sale.status}")


@_behaviour(
    "A tip is not paid for coffee",
    guards="more stamps for friendlier guests",
    fix="take tips off `paid`, where the till's total holds them",
)
async def tips(trial: Trial) -> None:
    receipt = trial.sell(1250, tip=250)
    for way, sale in (await trial.seen(receipt)).items():
        demand(sale.paid == trial.money(1250), f"{way} reads {sale.paid}, with the tip in it")


@_behaviour(
    "A correction is seen, and is newer",
    guards="stamps for the sum before the correction",
    fix="read receipts again after they were closed; let `version` be the till's revision or change time, or `None`",
)
async def correction(trial: Trial) -> None:
    receipt = trial.sell(1250)
    before = await trial.seen(receipt)
    trial.stub.correct(receipt, trial.money(900))
    for way, sale in (await trial.seen(receipt)).items():
        demand(sale.paid == trial.money(900), f"{way} still reads {sale.paid} after a correction")
        old = before[way].version if way in before else None
        if sale.version is not None and old is not None:
            demand(sale.version > old, f"{way}: the version does not grow with a correction")


@_behaviour(
    "A refund is seen, however late",
    guards="stamps that stay for money that was given back",
    fix="let `look_back` (or `poll`) read changed receipts of whole days; set `refunded`, or `voided` for all of it",
)
async def refund(trial: Trial) -> None:
    receipt = trial.sell(1250, ago=timedelta(hours=30))
    await trial.seen(receipt)
    trial.stub.refund(receipt)
    for way, sale in (await trial.seen(receipt)).items():
        if way == "poll" and trial.stub.connector.can("look_back"):
            continue  # the fast read may be blind to it
        gone = sale.status is SaleStatus.voided or not sale.refunded < sale.paid
        demand(gone, f"{way} does not say that all of it was given back")


@_behaviour(
    "A refund of a receipt of long ago is seen by the next poll",
    guards="stamps that stay because nobody reads so far back: the host's look-back reads three days",
    fix="list by time of change, or list the till's refunds, too, and fetch the receipts that they are of",
    level=Level.recommended,
)
async def late_refund(trial: Trial) -> None:
    trial.needs("poll")
    receipt = trial.sell(1250, ago=timedelta(days=10))
    trial.stub.refund(receipt)
    reading = await trial.read("poll", since=trial.now - timedelta(hours=1))
    found = next((sale for sale in reading.sales if sale.receipt_id == receipt), None)
    if found is None:
        fail(f"a receipt of ten days ago that was refunded just now is not in a poll from an hour ago{reading.also}")
    demand(
        found.status is SaleStatus.voided or not found.refunded < found.paid, "poll does not say that it is refunded"
    )


@_behaviour(
    "A partial refund is exact",
    guards="all stamps taken back for one returned croissant",
    fix="set `refunded` to what was given back and leave `paid` and the status as they were",
)
async def partial_refund(trial: Trial) -> None:
    receipt = trial.sell(1250)
    trial.stub.refund(receipt, trial.money(329))
    for way, sale in (await trial.seen(receipt)).items():
        kept = (sale.status, sale.paid, sale.refunded)
        demand(kept == (SaleStatus.closed, trial.money(1250), trial.money(329)), f"{way} reads {kept[1]} − {kept[2]}")


@_behaviour(
    "A voided receipt is seen as one",
    guards="stamps that stay for receipts that never were",
    fix="let `look_back`, `fetch` or the hook show removed receipts as `SaleStatus.voided`",
)
async def void(trial: Trial) -> None:
    receipt = trial.sell(1250)
    trial.stub.void(receipt)
    for way, sale in (await trial.seen(receipt)).items():
        demand(sale.status is SaleStatus.voided, f"{way} says that a voided receipt is {sale.status}")


@_behaviour(
    "A receipt looks the same however it is read",
    guards="a new version at every reading by another way, and stamps that go back and forth",
    fix="use one mapping for all ways, and only fields that all of them carry",
)
async def same_by_every_way(trial: Trial) -> None:
    customer = next(iter(trial.stub.customers), None)
    receipt = trial.sell(1250, customer=customer)
    ways = await trial.seen(receipt)
    (first, sale), *others = ways.items()
    for way, other in others:
        differing = [name for name in Sale.model_fields if getattr(sale, name) != getattr(other, name)]
        demand(not differing, f"{first} and {way} differ in {', '.join(differing)}")


@_behaviour(
    "The customer of a receipt is the one who bought",
    guards="stamps on somebody else's card, or on nobody's",
    fix="give phone (E.164), email or number, or `till_id` and let `customer` turn it into one of them",
)
async def customers(trial: Trial) -> None:
    if not trial.stub.customers:
        raise CannotShow("the stub has no customers")
    for who in trial.stub.customers:
        receipt = trial.sell(customer=who)
        for way, sale in (await trial.seen(receipt)).items():
            found = await _resolved(await trial.till(), sale.customer)
            fits = [name for name in ("phone", "email", "number") if _same(who, found, name)]
            demand(fits, f"{way} does not lead to the customer who bought")


async def _resolved(till: Connector[Any], who: Customer | None) -> Customer | None:
    if who and who.till_id and not (who.phone or who.email or who.number):
        return await till.customer(who.till_id)
    return who


def _same(wanted: Customer, found: Customer | None, name: str) -> bool:
    value = getattr(wanted, name)
    return found is not None and value is not None and getattr(found, name) == value


@_behaviour(
    "A receipt without a customer has none",
    guards="one card that gets the stamps of everybody who has none",
    fix="map the till's zero, empty or walk-in customer to `None`",
)
async def nobody(trial: Trial) -> None:
    receipt = trial.sell()
    for way, sale in (await trial.seen(receipt)).items():
        demand(not sale.customer, f"{way} names a customer where there is none")


@_behaviour(
    "A redeem code on the receipt is seen",
    guards="vouchers that are used at the till and stay good at 7stamp",
    fix="put the till's promo or voucher codes into `redeem_codes`",
    level=Level.recommended,
)
async def redeem_code(trial: Trial) -> None:
    receipt = trial.sell(redeem_code="FREECOFFEE9")
    for way, sale in (await trial.seen(receipt)).items():
        demand("FREECOFFEE9" in sale.redeem_codes, f"{way} does not see the redeem code")


@_behaviour(
    "A receipt's place is one of the account's",
    guards="receipts that belong to no connection",
    fix="let `location_id` be an id that `check` lists, or `None`",
    level=Level.recommended,
)
async def place(trial: Trial) -> None:
    known = {one.id for one in (await trial.till()).account.locations}
    receipt = trial.sell()
    for way, sale in (await trial.seen(receipt)).items():
        at = sale.location_id
        demand(at is None or at in known, f"{way} names a place that check does not list")


# --- hooks ------------------------------------------------------------------------------------------------------------


@_behaviour(
    "A true hook leads to its receipt",
    guards="instant stamps that never come",
    fix="return `Sales` or `Hints` for the till's events about receipts",
)
async def true_hook(trial: Trial) -> None:
    trial.needs("receive")
    receipt = trial.sell()
    received = await trial.received(receipt)
    match received:
        case Sales(sales):
            named = [sale.receipt_id for sale in sales]
        case Hints(hints):
            named = [hint.receipt_id for hint in hints]
        case _:
            fail(f"receive says {type(received).__name__} of a receipt's hook")
    demand(named == [receipt], "the hook is about another receipt")


@_behaviour(
    "A forged hook is refused",
    guards="free stamps for whoever knows the address",
    fix="verify the signature over the raw body in `prove`, with `connector_sdk.signatures` or `hmac.compare_digest`",
)
async def forged_hook(trial: Trial) -> None:
    trial.needs("receive")
    till = await trial.till()
    hook = trial.stub.hook(trial.sell())
    tampered = HookRequest(hook.method, hook.headers, hook.query, _tampered(hook.body))
    for what, bad in (("forged", trial.stub.forge(hook)), ("tampered with", tampered)):
        try:
            till.prove(bad)
        except (Forged, BadPayload):
            continue
        fail(f"prove believes a hook that was {what}")


def _tampered(body: bytes) -> bytes:
    """The body with its last digit another one: still well formed, no longer what was signed."""
    for at in range(len(body) - 1, -1, -1):
        if body[at : at + 1].isdigit():
            return body[:at] + (b"1" if body[at : at + 1] != b"1" else b"2") + body[at + 1 :]
    return body + b" "


@_behaviour(
    "An old hook is refused",
    guards="a captured hook that is sent again a year later",
    fix="bound the age of the signed time to five minutes (`TimestampedHmac` does)",
    level=Level.recommended,
)
async def old_hook(trial: Trial) -> None:
    trial.needs("receive")
    till = await trial.till()
    hook = trial.stub.age(trial.stub.hook(trial.sell()), 3600)
    try:
        till.prove(hook)
    except Forged:
        return
    fail("prove believes a hook that was signed an hour ago")


@_behaviour(
    "A hook that was kept can be read again",
    guards="what could not be read once, and never can be, though the connector was mended",
    fix="let `receive` read the body only: the proof belongs into `prove`, headers are not kept",
)
async def kept_hook(trial: Trial) -> None:
    trial.needs("receive")
    till = await trial.till()
    hook = trial.stub.hook(trial.sell())
    later = replace(hook, headers={}, query={})
    try:
        again = till.receive(later)
    except ConnectorError as error:
        fail(f"receive raises {type(error).__name__} for a hook without its headers")
    demand(again == till.receive(hook), "receive says something else of a hook without its headers")


# --- secrets ----------------------------------------------------------------------------------------------------------


@_behaviour(
    "No secret is told",
    guards="a token in a log that somebody sends to a forum",
    fix="name paths and fields in errors, never addresses, headers or bodies; log nothing of settings",
)
async def no_secret_told(trial: Trial) -> None:
    said: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(logging.Formatter().format(record))

    ear, root = Ear(level=logging.DEBUG), logging.getLogger()
    level = root.level
    root.addHandler(ear)
    root.setLevel(logging.DEBUG)
    try:
        till = await trial.till()
        await _provoke(trial, till, said)
    finally:
        root.removeHandler(ear)
        root.setLevel(level)
    secrets = [value.get_secret_value() for _, value in till.settings if isinstance(value, SecretStr)]
    for secret in secrets:
        demand(not any(secret in line for line in said), "a secret of the settings stands in a log or an error")


async def _provoke(trial: Trial, till: Connector[Any], said: list[str]) -> None:
    """Everything that may make a connector talk: a good read, failures, a bad receipt, a forged hook."""
    receipt = trial.sell()
    reads = [one for one in ("poll", "look_back") if trial.stub.connector.can(one)]
    for fault in (None, *Fault):
        for way in reads:
            try:
                if fault is not None:
                    trial.stub.fail_next(fault, _FOR_GOOD)
                await trial.read(way, till=till)
            except CannotShow:
                continue
            except Exception as error:  # noqa: BLE001 - what it says is what is looked at
                said.extend((str(error), repr(error), repr(error.__cause__)))
            finally:
                if fault is not None:
                    _calm(trial, fault)
    if trial.stub.connector.can("receive"):
        try:
            hook = trial.stub.hook(receipt)
            till.receive(hook)
            till.prove(trial.stub.forge(hook))
        except CannotShow:
            pass
        except Exception as error:  # noqa: BLE001 - the same
            said.extend((str(error), repr(error)))
    said.append(repr(till.settings))


def _calm(trial: Trial, fault: Fault) -> None:
    try:
        trial.stub.fail_next(fault, 0)
    except CannotShow:
        return
