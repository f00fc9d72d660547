"""How a trial is shown: each sale as a table of its fields with where they came from, or everything as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.sale import Sale
from connector_sdk.testing.field_sources import sale_fields
from connectors.cli.output import say, show_json, show_table
from connectors.cli.trial import Reading


def show(reading: Reading, most: int) -> None:
    """Print a reading for people, at most so many of its sales."""
    account = reading.account
    say(f"{reading.connector_class.info.title}: {account.name} ({account.id}), {account.currency}, {account.zone}")
    _say_of_hooks(reading)
    sales = [(place, item) for place, item in enumerate(reading.seen.items) if isinstance(item, Sale)]
    for place, sale in sales[:most]:
        _show_sale(sale, reading, place)
    for unreadable in reading.seen.unreadable:
        say(f"✗ receipt {unreadable.receipt_id or '?'}: {unreadable.where}: {unreadable.why}")
    if not reading.traced.whole:
        say("There was no time to follow every field: try fewer receipts, with a later --since.")
    hidden = f" ({len(sales) - most} not shown: --most {len(sales)})" if len(sales) > most else ""
    say(f"{len(sales)} sales read{hidden}, {len(reading.seen.unreadable)} could not be read.")


def _say_of_hooks(reading: Reading) -> None:
    if reading.forged:
        say(f"✗ The proof does not hold: {reading.forged}. A host would keep nothing of it; read all the same:")
    if reading.seen.hints:
        say(f"The hook names {len(reading.seen.hints)} receipts to read again: {', '.join(reading.seen.hints)}")
    if reading.seen.ignored:
        say(f"The hook says nothing of a sale: {reading.seen.ignored}")


def _show_sale(sale: Sale, reading: Reading, place: int) -> None:
    sources = reading.traced.fields[place]
    rows = [
        [name, _worded(value, reading.account), ", ".join(sources.get(name, ()))]
        for name, value in sale_fields(sale).items()
        if _says_something(value) or name in sources
    ]
    customer = reading.customers.get((sale.customer.till_id if sale.customer else None) or "")
    if customer is not None:
        rows += [[f"  → {name}", text, "asked for"] for name, text in customer.model_dump(exclude_none=True).items()]
    show_table([f"receipt {sale.receipt_id}", "value", "from"], rows, "")
    for path in reading.traced.needed[place]:
        say(f"  {path} is needed to read it")
    say("")


def _says_something(value: Any) -> bool:  # a sale's fields are of every type
    """Tell whether a field is more than the nothing that it begins with; an amount is, also where it is zero."""
    return any(map(_says_something, value)) if isinstance(value, tuple) else bool(value) or isinstance(value, Money)


def _worded(value: object, account: TillAccount) -> str:
    if isinstance(value, datetime):
        return value.astimezone(ZoneInfo(account.zone)).isoformat(sep=" ")
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return "" if value is None else str(value)


def show_as_json(reading: Reading) -> None:
    """Print a reading for scripts, with all of its sales."""
    sales = [
        {
            "sale": item.model_dump(mode="json"),
            "from": dict(reading.traced.fields[place]),
            "needs": reading.traced.needed[place],
        }
        for place, item in enumerate(reading.seen.items)
        if isinstance(item, Sale)
    ]
    unreadable = [
        {"receipt_id": item.receipt_id, "where": item.where, "why": item.why} for item in reading.seen.unreadable
    ]
    show_json(
        {
            "connector": reading.connector_class.info.name,
            "account": reading.account.model_dump(mode="json"),
            "proof": reading.forged or None,
            "hints": list(reading.seen.hints),
            "ignored": reading.seen.ignored or None,
            "sales": sales,
            "unreadable": unreadable,
        }
    )
