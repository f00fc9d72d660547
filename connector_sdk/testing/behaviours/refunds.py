"""Behaviours of what changes a sale after it was closed: corrections, refunds, returns and voids."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from decimal import Decimal

from connector_sdk.errors import BadPayload
from connector_sdk.hooks import Hints, Sales
from connector_sdk.sale import Sale, SaleStatus
from connector_sdk.testing.behaviour_trial import READ_METHODS, Level, Trial, demand, fail
from connector_sdk.testing.behaviours.declared import behaviour
from connector_sdk.testing.stub import CannotShow, SoldLine


@behaviour(
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


@behaviour(
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


@behaviour(
    "A refund of a receipt of long ago is seen by the next poll",
    guards="stamps that stay because nobody reads so far back: the host's second look reads three days",
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


@behaviour(
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
        late = sale.closed_at is None or abs(sale.closed_at - (trial.now - timedelta(hours=2))) > timedelta(seconds=1)
        demand(not late, f"{method} says that a refunded receipt was closed when it was refunded")


@behaviour(
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


@behaviour(
    "Two refunds of one receipt count together",
    guards="stamps that come back with the second refund, because the first one is forgotten",
    fix="sum up all refunds of the receipt, also those from before the window that is read",
)
async def two_refunds(trial: Trial) -> None:
    """Refund a part of a receipt days ago, and another now; demand the sum by every method that shows the receipt."""
    receipt = trial.sell(1250, ago=timedelta(days=5))
    trial.stub.refund(receipt, trial.money(300), trial.now - timedelta(days=4))
    trial.stub.refund(receipt, trial.money(200))
    shown = await _read_late(trial, receipt)
    for method, sale in shown.items():
        demand(sale.refunded == trial.money(500), f"{method} reads that {sale.refunded} of two refunds were given back")


async def _read_late(trial: Trial, receipt: str) -> dict[str, Sale]:
    """Read a receipt of days ago by every method that shows it, of which a poll of the last hour may be none."""
    shown: dict[str, Sale] = {}
    for method in ("poll", "history"):
        if trial.can(method):
            reading = await trial.read(method, since=trial.now - timedelta(hours=1))
            shown.update((method, sale) for sale in reading.sales if sale.receipt_id == receipt)
    if trial.can("fetch"):
        fetched = await (await trial.connect()).fetch(receipt)
        if fetched is not None:
            shown["fetch"] = fetched
    if trial.can("receive"):
        try:
            received = await trial.receive_hook(receipt)
        except CannotShow:
            received = Hints(())
        if isinstance(received, Sales):
            shown.update(("receive", sale) for sale in received.sales if sale.receipt_id == receipt)
    demand(shown, "the receipt is seen in no way at all")
    return shown


@behaviour(
    "A refund and a void are newer than what they change",
    guards="a refund that is never taken, because its version is no greater",
    fix="let `version` grow with every change of the receipt, refunds and voids among them, or leave it `None`",
)
async def versions_grow(trial: Trial) -> None:
    """Refund one receipt and void another, and demand greater versions than before, where there are versions."""
    for change in (trial.stub.refund, trial.stub.void):
        receipt = trial.sell(1250)
        before = await trial.read_by_each_method(receipt)
        try:
            change(receipt)
        except CannotShow:
            continue
        newest = max((sale.version for sale in before.values() if sale.version is not None), default=None)
        for method, sale in (await trial.read_by_each_method(receipt)).items():
            if _is_as_before(sale, before.get(method)):
                continue  # the method is blind to it: another behaviour asks for that
            demand(
                sale.version is None or newest is None or sale.version > newest,
                f"{method}: the version does not grow with a {change.__name__}",
            )


def _is_as_before(sale: Sale, before: Sale | None) -> bool:
    return before is not None and (sale.status, sale.refunded) == (before.status, before.refunded)


@behaviour(
    "A refund is no sale of its own",
    guards="stamps for giving money back, and a receipt that nobody ever bought",
    fix="leave returns out of the sales, and put their sums into `refunded` of the receipt that they are of",
)
async def refund_is_no_sale(trial: Trial) -> None:
    """Sell, refund, and demand that no read yields a receipt that was never sold, nor any twice."""
    kept, refunded = trial.sell(700, ago=timedelta(hours=3)), trial.sell(1250)
    trial.stub.refund(refunded)
    for method in trial.read_methods():
        reading = await trial.read(method)
        strange = [receipt for receipt in reading.ids if receipt not in trial.sold]
        demand(not strange, f"{method} yields {len(strange)} receipts that were never sold{reading.also}")
        demand(kept in reading.ids, f"{method} loses a receipt beside a refund{reading.also}")
        demand(not reading.unreadable, f"{method} cannot read a refund: {reading.also}")


@behaviour(
    "No more is given back than was paid",
    guards="a receipt that costs its customer stamps, because the tip went back too",
    fix="take tips off `refunded` as off `paid`, and never let it be more than `paid`; both are zero or more",
)
async def refund_with_tip(trial: Trial) -> None:
    """Refund all of a receipt with a tip, the tip too, and demand that exactly what was paid went back."""
    receipt = trial.sell(1250, tip=500)
    trial.stub.refund(receipt)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(0 <= sale.refunded.minor <= sale.paid.minor, f"{method} reads {sale.paid} − {sale.refunded}")
        demand(_wholly_refunded(sale), f"{method} says that only {sale.refunded} of {sale.paid} went back")


@behaviour(
    "A line that came back is not kept",
    guards="stamps by item that stay for what was given back",
    fix="set `refunded_quantity` of the line",
)
async def returned_line(trial: Trial) -> None:
    """Take back one of three of a product, and demand two kept and the other product untouched."""
    if len(trial.stub.products) < 2:
        raise CannotShow("the stub names no two products")
    first, second = trial.stub.products[:2]
    receipt = trial.sell(1250, lines=(SoldLine(first, Decimal(3)), SoldLine(second)))
    trial.stub.return_line(receipt, SoldLine(first))
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        kept = {line.product_id: line.quantity - line.refunded_quantity for line in sale.lines}
        text = f"{method} reads that {kept.get(first, 0)} of 3 were kept where one came back"
        demand(kept == {first: Decimal(2), second: Decimal(1)}, text)


@behaviour(
    "A refund that cannot be read is not passed over",
    guards="stamps that stay because a refund that was not understood counted as none",
    fix="report the receipt with `BadPayload`, or in `unreadable`, where its refund cannot be mapped",
)
async def bad_refund(trial: Trial) -> None:
    """Break a refund, and demand that no method reads its receipt as if nothing had gone back."""
    other, receipt = trial.sell(700, ago=timedelta(hours=3)), trial.sell(1250)
    trial.stub.refund(receipt)
    trial.stub.spoil_refund(receipt)
    for method in [method for method in READ_METHODS if trial.can(method)]:
        reading = await trial.read(method)
        _demand_not_kept(method, [sale for sale in reading.sales if sale.receipt_id == receipt])
        demand(other in reading.ids, f"{method} loses receipts beside a refund that cannot be read")
    if trial.can("fetch"):
        with suppress(BadPayload):
            fetched = await (await trial.connect()).fetch(receipt)
            _demand_not_kept("fetch", [fetched] if fetched is not None else [])
    if trial.can("receive"):
        with suppress(BadPayload, CannotShow):
            received = await trial.receive_hook(receipt)
            _demand_not_kept("receive", list(received.sales) if isinstance(received, Sales) else [])


def _demand_not_kept(method: str, sales: list[Sale]) -> None:
    for sale in sales:
        demand(_wholly_refunded(sale), f"{method} reads a receipt as kept whose refund it cannot read")


@behaviour(
    "The hook of a refund leads to its receipt",
    guards="a refund that is told at once and found days later, or never",
    fix="name the receipt, or let `fetch` answer the id of the return with the receipt that it is of",
)
async def refund_hook(trial: Trial) -> None:
    """Receive the hook of a refund, follow its hint as the host does, and demand the refunded receipt."""
    trial.require("receive")
    receipt = trial.sell()
    trial.stub.refund(receipt)
    reader = await trial.hook_reader()
    hook = trial.stub.refund_hook(receipt)
    trial.prove(reader, hook)
    connector = await trial.connect()
    match reader.receive(hook):
        case Sales(sales):
            found = list(sales)
        case Hints(hints):
            fetched = [await connector.fetch(hint.receipt_id) for hint in hints]
            found = [sale for sale in fetched if sale is not None]
        case received:
            fail(f"receive says {type(received).__name__} of a refund's hook")
    refunded = [sale for sale in found if sale.receipt_id == receipt]
    demand(refunded, "the hook of a refund leads to no receipt, or to another one")
    demand(_wholly_refunded(refunded[-1]), "the receipt to which a refund's hook leads does not say what went back")


@behaviour(
    "A customer who is attached later is seen",
    guards="stamps that a guest who came back with the receipt never gets",
    fix="read changed receipts again, and let `version` grow with the customer, or leave it `None`",
)
async def attached_later(trial: Trial) -> None:
    """Read an anonymous receipt, attach a customer, and demand a customer and a greater version."""
    if not trial.stub.customers:
        raise CannotShow("the stub has no customers")
    receipt = trial.sell()
    before = await trial.read_by_each_method(receipt)
    trial.stub.attach(receipt, trial.stub.customers[0])
    newest = max((sale.version for sale in before.values() if sale.version is not None), default=None)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.customer, f"{method} still names nobody on a receipt that got a customer")
        grows = sale.version is None or newest is None or sale.version > newest
        demand(grows, f"{method}: the version does not grow with the customer")
