"""How a trial is shown: each sale as a table of its fields with where they came from, or everything as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.sale import Sale, Unreadable
from connector_sdk.testing.field_sources import Trace, sale_fields
from connectors.cli.output import say, show_json, show_table
from connectors.cli.trial import Reading


def show(reading: Reading, most: int) -> None:
    """Print a reading for people, at most so many of its sales."""
    _say_account(reading)
    _say_of_hooks(reading)
    sales = _sales_with_places(reading)
    for place, sale in sales[:most]:
        _show_sale(sale, reading, place)
    # all of them, whatever `most` says: what cannot be read is what an author came to see
    for unreadable in reading.seen.unreadable:
        say(f"✗ receipt {unreadable.receipt_id or '?'}: {unreadable.where}: {unreadable.why}")
    if not reading.traced.whole:
        say("There was no time to follow every field: try fewer receipts, with a later --since.")
    say(f"{len(sales)} sales read{_hidden(len(sales), most)}, {len(reading.seen.unreadable)} could not be read.")


def _say_account(reading: Reading) -> None:
    # first: sales of another account than was meant would explain whatever looks wrong below
    account = reading.account
    say(f"{reading.connector_class.info.title}: {account.name} ({account.id}), {account.currency}, {account.zone}")


def _sales_with_places(reading: Reading) -> list[tuple[int, Sale]]:
    """Pair each sale with its place among all items, by which its trace is found."""
    return [(place, item) for place, item in enumerate(reading.seen.items) if isinstance(item, Sale)]


def _hidden(sales: int, most: int) -> str:
    return f" ({sales - most} not shown: --most {sales})" if sales > most else ""


def _say_of_hooks(reading: Reading) -> None:
    if reading.forged:
        say(f"✗ The proof does not hold: {reading.forged}. A host would keep nothing of it; read all the same:")
    if reading.seen.hints:
        say(f"The hook names {len(reading.seen.hints)} receipts to read again: {', '.join(reading.seen.hints)}")
    if reading.seen.ignored:
        say(f"The hook says nothing of a sale: {reading.seen.ignored}")


def _show_sale(sale: Sale, reading: Reading, place: int) -> None:
    rows = [*_field_rows(sale, reading, place), *_customer_rows(sale, reading)]
    show_table([f"receipt {sale.receipt_id}", "value", "from"], rows, "")
    for path in reading.traced.needed[place]:
        say(f"  {path} is needed to read it")
    say("")


def _field_rows(sale: Sale, reading: Reading, place: int) -> Iterator[list[str]]:
    sources = reading.traced.fields[place]
    for name, value in sale_fields(sale).items():
        # an empty field that was read from somewhere is shown: that it came out empty may be the mistake
        if _says_something(value) or name in sources:
            yield [name, _worded(value, reading.account), ", ".join(sources.get(name, ()))]


def _customer_rows(sale: Sale, reading: Reading) -> Iterator[list[str]]:
    """Yield who the till's own customer id is, where it was asked; a second request, so no path leads to it."""
    customer = reading.customers.get((sale.customer.till_id if sale.customer else None) or "")
    if customer is not None:
        for name, text in customer.model_dump(exclude_none=True).items():
            yield [f"  → {name}", text, "asked for"]


def _says_something(value: object) -> bool:
    """Tell whether a field is more than the nothing that it begins with; an amount is, also where it is zero."""
    if isinstance(value, tuple):
        return any(map(_says_something, value))
    return bool(value) or isinstance(value, Money)


def _worded(value: object, account: TillAccount) -> str:
    # the zone of the account, in which the till shows it: that is what an author compares
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo(account.zone)).isoformat(sep=" ")
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)


def show_as_json(reading: Reading) -> None:
    """Print a reading for scripts, with all of its sales."""
    # what is empty is `null`, and every name is always there: a script need not ask which of them are
    show_json(
        {
            "connector": reading.connector_class.info.name,
            "account": reading.account.model_dump(mode="json"),
            "proof": reading.forged or None,
            "hints": list(reading.seen.hints),
            "ignored": reading.seen.ignored or None,
            "sales": [_sale_as_json(sale, reading.traced, place) for place, sale in _sales_with_places(reading)],
            "unreadable": [_unreadable_as_json(unreadable) for unreadable in reading.seen.unreadable],
        }
    )


def _sale_as_json(sale: Sale, traced: Trace, place: int) -> dict[str, object]:
    return {
        "sale": sale.model_dump(mode="json"),
        "from": dict(traced.fields[place]),
        "needs": traced.needed[place],
    }


def _unreadable_as_json(unreadable: Unreadable) -> dict[str, object]:
    return {"receipt_id": unreadable.receipt_id, "where": unreadable.where, "why": unreadable.why}
