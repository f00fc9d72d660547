"""A trial of a mapping: shows a sale as the mapping makes it of a sample, before anything is connected.

Owns files, tables and sentences; arguments are `commands`', reading a sample is `mapping`'s.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from connector_sdk.errors import BadPayload
from connector_sdk.redaction import printable, printable_json
from connector_sdk.sale import Customer, Sale
from webhook_connector import ready_made
from webhook_connector.mapping import MappedRequest, receipts_in, sales_of
from webhook_connector.places import follow
from webhook_connector.settings import WebhookSettings

_CONNECTION = {"till_name": "Try", "currency": "EUR", "zone": "UTC", "proof": "address"}
"""What a connection's settings need besides the mapping."""
_MOST_BYTES = 256 * 1024  # as the host takes of a hook
_WIDTH = 160  # columns of a table that no terminal shows, so that a script finds it on one line


class _ChosenMapping(NamedTuple):
    """The mapping to try, and whether it names a currency."""

    settings: WebhookSettings
    names_currency: bool


class _Row(NamedTuple):
    """One field of a sale: its value, and the path or paths it was read by."""

    field: str
    value: str
    path: str


def try_mapping(file: Path, map_: Path | None, ready: str | None, *, as_json: bool) -> None:
    """Show what a mapping makes of a sample; end with 1 where something does not fit."""
    settings, names_currency = _choose_mapping(map_, ready)
    body = _read_sample(file)
    try:
        if not names_currency:
            settings = _in_currency_of(body, settings)
        mapped = sales_of(body, settings)
    except BadPayload as error:
        _end(f"{error.where} {error.why}")
    if as_json:
        _print_json(mapped)
    else:
        _print_tables(mapped, settings)
    # for scripts: a sample that gives no sale is as wrong as one that does not fit
    if mapped.unreadable or not mapped.sales:
        raise typer.Exit(1)


def print_ready(name: str) -> None:
    """Print a ready-made mapping as TOML."""
    for field, value in _find_ready(name).items():
        typer.echo(f"{field} = {json.dumps(value)}")


# --- what is given --------------------------------------------------------------------------------------------------


def _read_sample(file: Path) -> bytes:
    try:
        body = file.read_bytes()
    except OSError as error:
        _end(f"{file} cannot be read: {error.strerror}")
    if len(body) > _MOST_BYTES:
        _end(f"{file} is over 256 KiB, more than a hook may have")
    return body


def _find_ready(name: str) -> Mapping[str, object]:
    ready = {ready.name: ready for ready in ready_made.ALL}
    if name not in ready:
        _end(f"there is no ready-made mapping {name!r}; known: {', '.join(ready)}")
    return ready[name].settings


def _choose_mapping(file: Path | None, ready: str | None) -> _ChosenMapping:
    """Return the mapping with what a connection needs besides; the proof plays no part in trying it."""
    if (file is None) == (ready is None):
        _end("give either --map FILE or --ready NAME")
    # one of the two is given, as was seen above
    chosen = _read_mapping(file) if file is not None else _find_ready(ready or "")
    values = _CONNECTION | {name: value for name, value in chosen.items() if name not in ("proof", "secret")}
    try:
        return _ChosenMapping(WebhookSettings.model_validate(values), "currency" in chosen)
    except ValidationError as error:
        _end("\n  ".join(["the mapping does not make sense:", *_sentences(error)]))


def _read_mapping(file: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(file.read_text())
    except OSError as error:
        _end(f"{file} cannot be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _end(f"{file} is no TOML: {error}")


def _sentences(error: ValidationError) -> list[str]:
    """Word each error as `field: why`; one of the mapping as a whole begins with its field already."""
    return [
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}".lstrip(": ").replace("Value error, ", "")
        for detail in error.errors(include_input=False)
    ]


def _in_currency_of(body: bytes, settings: WebhookSettings) -> WebhookSettings:
    """Take over the sample's own currency, for a mapping that names none. Raises `BadPayload`."""
    receipts = receipts_in(body, settings)
    currency = follow(settings.map_currency, receipts[0]) if receipts else None
    try:
        return WebhookSettings.model_validate({**settings.model_dump(), "currency": str(currency).upper()})
    except ValidationError:
        return settings


# --- what is shown --------------------------------------------------------------------------------------------------


def _print_tables(mapped: MappedRequest, settings: WebhookSettings) -> None:
    for sale in mapped.sales:
        _print_table(_rows(sale, settings))
    for unreadable in mapped.unreadable:
        typer.echo(printable(f"✗ receipt {unreadable.receipt_id or '?'}: {unreadable.where}: {unreadable.why}"))
    typer.echo(f"{len(mapped.sales)} sales read, {len(mapped.unreadable)} do not fit.")


def _rows(sale: Sale, settings: WebhookSettings) -> list[_Row]:
    return [
        _Row("receipt", sale.receipt_id, settings.map_receipt_id),
        _Row("version", _version_words(sale), settings.map_version),
        _Row("status", sale.status.value, settings.map_status),
        _Row("closed at", sale.closed_at.isoformat() if sale.closed_at else "", settings.map_closed_at),
        *_money_rows(sale, settings),
        *_customer_rows(sale.customer, settings),
        _Row("redeem codes", ", ".join(sale.redeem_codes), settings.map_codes),
        _Row("place", sale.location_id or "", settings.map_location),
        _Row("lines", _line_words(sale), settings.map_lines),
    ]


def _version_words(sale: Sale) -> str:
    return str(sale.version) if sale.version is not None else "none: order cannot be told"


def _line_words(sale: Sale) -> str:
    return ", ".join(f"{line.quantity} × {line.product_id}" for line in sale.lines)


def _money_rows(sale: Sale, settings: WebhookSettings) -> list[_Row]:
    paid_by = " − ".join(filter(None, (settings.map_paid, settings.map_tip)))
    return [_Row("paid", str(sale.paid), paid_by), _Row("refunded", str(sale.refunded), settings.map_refunded)]


def _customer_rows(customer: Customer | None, settings: WebhookSettings) -> list[_Row]:
    phone, email = (customer.phone or "", customer.email or "") if customer else ("nobody", "nobody")
    return [_Row("phone", phone, settings.map_phone), _Row("email", email, settings.map_email)]


def _print_table(rows: list[_Row]) -> None:
    table = Table("field", "value", "from", box=None)
    for row in rows:
        table.add_row(row.field, printable(row.value) or "–", printable(row.path) or "–")
    Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False, markup=False).print(table)


def _print_json(mapped: MappedRequest) -> None:
    rows = {
        "sales": [sale.model_dump(mode="json") for sale in mapped.sales],
        "unreadable": [
            {"receipt_id": unreadable.receipt_id, "where": unreadable.where, "why": unreadable.why}
            for unreadable in mapped.unreadable
        ],
    }
    typer.echo(printable_json(rows, indent=2))


def _end(text: str) -> NoReturn:
    """Print why nothing can be shown, and end the command with 1."""
    typer.echo(printable(f"✗ {text}", lines=True), err=True)
    raise typer.Exit(1)
