"""Behaviours of reads: every page, once, from the right moment on, and failures that say so."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from zoneinfo import ZoneInfo

from connector_sdk.errors import BadPayload, ConnectorError, NotAuthorised, RateLimited
from connector_sdk.hooks import Hints, Sales
from connector_sdk.sale import Sale
from connector_sdk.testing.behaviour_trial import READ_METHODS, Level, NotAsked, Trial, demand, fail
from connector_sdk.testing.behaviours.declared import behaviour
from connector_sdk.testing.stub import CannotShow, Fault

_ANSWER_DELAY = 0.3  # seconds before each answer of a slow till; half of it is what a clock read just before may be off
PERSISTENT = 200
"""Faults in a row: more than any connector makes attempts."""


@behaviour(
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


@behaviour(
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


@behaviour(
    "A read from a moment holds what was closed at that moment",
    guards="receipts between two polls that neither of them sees",
    fix="ask for `since` inclusively; the till's day or second may begin before it",
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


@behaviour(
    "A read promises no more than was yielded",
    guards="receipts that no later poll asks for any more",
    fix="take the time before the first call, and say it in `complete_until` only after the last page",
)
async def checkpoint(trial: Trial) -> None:
    """Poll a slow till, and demand promises that neither lie after its first call nor skip receipts."""
    trial.require("poll")
    count = 2 * (trial.stub.page_size or 3) + 1
    ages = [timedelta(minutes=50 - number) for number in range(count)]
    closed_at = {trial.sell(ago=age): trial.now - age for age in ages}
    # a till that answers at once would hide a time that is taken at the end of the read
    trial.answer_delay = _ANSWER_DELAY
    reading = await trial.read("poll")
    demand(reading.promises, f"poll says no `complete_until`: the next one begins where this one did{reading.also}")
    for promise in reading.promises:
        late = promise.at > reading.asked + timedelta(seconds=_ANSWER_DELAY / 2)
        demand(not late, "`complete_until` lies after the beginning of the read")
        yielded = set(reading.ids[: promise.yielded])
        early = [receipt for receipt, at in closed_at.items() if at < promise.at and receipt not in yielded]
        demand(not early, f"`complete_until` promises {len(early)} receipts that were not yet yielded")


@behaviour(
    "A read that fails says so",
    guards="receipts lost because a failure looked like an empty page",
    fix="let `TillUnavailable`, `RateLimited` and `NotAuthorised` out of `poll`, and set no `complete_until` then",
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
        trial.stub.fail_next(fault, PERSISTENT)
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


@behaviour(
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


@behaviour(
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


@behaviour(
    "Reads at the same time do not disturb each other",
    guards="a poll and a second look that share a cursor",
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


@behaviour(
    "A receipt that the till does not know is none",
    guards="hints that are followed for ever",
    fix="return `None` from `fetch` for an unknown id",
)
async def unknown_receipt(trial: Trial) -> None:
    """Fetch an id of no receipt, and demand `None`."""
    trial.require("fetch")
    fetched = await (await trial.connect()).fetch(trial.stub.unknown_receipt)
    demand(fetched is None, "fetch finds what is not there")


@behaviour(
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


@behaviour(
    "Receipts of one moment are all read, on whichever page they are",
    guards="receipts lost at the end of a page, because the next one is asked for by a time",
    fix="page by the till's cursor or by an id, never by a time that several receipts may share",
)
async def equal_times(trial: Trial) -> None:
    """Sell more than two pages at one and the same second, and demand every receipt, once."""
    trial.read_methods()
    at = trial.now - timedelta(hours=3)
    receipts = {trial.sell(1000 + number, at=at) for number in range(2 * _page_size(trial) + 1)}
    for method in trial.read_methods():
        ids = (await trial.read(method)).ids
        missing = receipts - set(ids)
        demand(not missing, f"{method} leaves out {len(missing)} of {len(receipts)} receipts of one second")
        demand(len(ids) == len(set(ids)), f"{method} yields a receipt of that second twice")


@behaviour(
    "A till that asks to slow down is not pressed",
    guards="an application that the till blocks, with all of its cafes",
    fix="raise `RateLimited` (`TillClient` does for 429), and share one `RateLimit` by what the till counts by",
)
async def rate_limit(trial: Trial) -> None:
    """Read while the till says 429, and demand `RateLimited`; then read on."""
    for method in trial.read_methods():
        connector = await trial.connect()
        receipt = trial.sell()
        trial.stub.fail_next(Fault.rate_limited, PERSISTENT)
        try:
            await trial.read(method, connector=connector)
        except RateLimited:
            pass
        except Exception as error:  # noqa: BLE001 - any other error is the finding
            fail(f"{method} raises {type(error).__name__} while the till asks to slow down")
        else:
            fail(f"{method} ends as if all were well while the till asks to slow down")
        trial.stub.fail_next(Fault.rate_limited, 0)
        demand(receipt in (await trial.read(method, connector=connector)).ids, f"{method} does not read on afterwards")


@behaviour(
    "A customer that the till does not know is nobody",
    guards="a search for a card that ends with an error each time",
    fix="return `None` from `customer` for an unknown id",
)
async def unknown_customer(trial: Trial) -> None:
    """Ask for an id of no customer, and demand `None`."""
    trial.require("customer")
    customer = await (await trial.connect()).customer(trial.stub.unknown_customer)
    demand(not customer, "customer finds who is not there")
