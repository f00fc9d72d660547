"""`connectors mapping try`: what a mapping makes of a sample, before anything is connected."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from connector_sdk.redaction import printable, printable_json

# `connectors --help` imports this module for the names of its commands: what they need is imported when they run
if TYPE_CHECKING:
    from connector_sdk.sale import Sale, Unreadable
    from webhook_connector.settings import WebhookSettings

mapping = typer.Typer(no_args_is_help=True, help="Mappings of the any-till connector.")
_FIRST = {"till_name": "Try", "currency": "EUR", "zone": "UTC", "proof": "address"}
_MOST_BYTES = 256 * 1024


@mapping.command("try")
def try_(
    file: Annotated[Path, typer.Argument(help="What the till sent: one request's body, as JSON.")],
    map_: Annotated[Path | None, typer.Option("--map", help="The mapping, as TOML.")] = None,
    ready: Annotated[str | None, typer.Option(help="A ready-made mapping: woocommerce or shopify.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Read a sample by a mapping and show the sale, field by field; ends with 1 where something does not fit."""
    from connector_sdk.errors import BadPayload
    from webhook_connector.mapping import sales_of

    settings, named = _settings(map_, ready)
    try:
        body = file.read_bytes()
        if len(body) > _MOST_BYTES:
            _end(f"{file} is over 256 KiB, more than a hook may have")
        if not named:
            settings = _in_its_currency(settings, body)
        sales, unreadable = sales_of(body, settings)
    except OSError as error:
        _end(f"{file} cannot be read: {error.strerror}")
    except BadPayload as error:
        _end(f"{error.where} {error.why}")
    if as_json:
        _show_json(sales, unreadable)
    else:
        for sale in sales:
            _show(sale, settings)
        for one in unreadable:
            typer.echo(printable(f"✗ receipt {one.receipt_id or '?'}: {one.where}: {one.why}"))
        typer.echo(f"{len(sales)} sales read, {len(unreadable)} do not fit.")
    if unreadable or not sales:
        raise typer.Exit(1)


@mapping.command("show")
def show(ready: Annotated[str, typer.Argument(help="A ready-made mapping: woocommerce or shopify.")]) -> None:
    """Print a ready-made mapping as TOML, to begin with."""
    for name, value in _ready(ready).items():
        typer.echo(f"{name} = {json.dumps(value)}")


def _ready(name: str) -> dict[str, str]:
    from webhook_connector import ready_made

    found = {one.name: one for one in ready_made.ALL}
    if name not in found:
        _end(f"there is no ready-made mapping {name!r}; known: {', '.join(found)}")
    return dict(found[name].settings)


def _in_its_currency(settings: WebhookSettings, body: bytes) -> WebhookSettings:
    """A mapping that names no currency is tried in the sample's own. Raises `BadPayload`."""
    from pydantic import ValidationError

    from webhook_connector.mapping import receipts_in
    from webhook_connector.settings import WebhookSettings
    from webhook_connector.teaching import found_in

    receipts = receipts_in(body, settings)
    found = found_in(settings.map_currency, receipts[0]) if receipts else None
    try:
        return WebhookSettings.model_validate({**settings.model_dump(), "currency": str(found).upper()})
    except ValidationError:
        return settings


def _settings(file: Path | None, ready: str | None) -> tuple[WebhookSettings, bool]:
    """The mapping with what a connection needs besides, and whether it names a currency; the proof plays no part."""
    from pydantic import ValidationError

    from webhook_connector.settings import WebhookSettings

    if (file is None) == (ready is None):
        _end("give either --map FILE or --ready NAME")
    values: dict[str, Any] = _ready(ready) if ready is not None else {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text())
        except OSError as error:
            _end(f"{file} cannot be read: {error.strerror}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            _end(f"{file} is no TOML: {error}")
    named = "currency" in values
    values = _FIRST | {name: value for name, value in values.items() if name not in ("proof", "secret")}
    try:
        return WebhookSettings.model_validate(values), named
    except ValidationError as error:
        said = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}".lstrip(": ").replace("Value error, ", "")
            for one in error.errors(include_input=False)
        ]
        _end("\n  ".join(["the mapping does not make sense:", *said]))


def _show(sale: Sale, settings: WebhookSettings) -> None:
    from rich.console import Console
    from rich.table import Table

    who = sale.customer
    cells: list[tuple[str, str, str]] = [
        ("receipt", sale.receipt_id, settings.map_receipt_id),
        (
            "version",
            str(sale.version if sale.version is not None else "none: order cannot be told"),
            settings.map_version,
        ),
        ("status", sale.status.value, settings.map_status),
        ("closed at", sale.closed_at.isoformat() if sale.closed_at else "", settings.map_closed_at),
        ("paid", str(sale.paid), " − ".join(filter(None, (settings.map_paid, settings.map_tip)))),
        ("refunded", str(sale.refunded), settings.map_refunded),
        ("phone", who.phone or "" if who else "nobody", settings.map_phone),
        ("email", who.email or "" if who else "nobody", settings.map_email),
        ("redeem codes", ", ".join(sale.redeem_codes), settings.map_codes),
        ("place", sale.location_id or "", settings.map_location),
        ("lines", ", ".join(f"{one.quantity} × {one.product_id}" for one in sale.lines), settings.map_lines),
    ]
    table = Table("field", "value", "from", box=None)
    for field, value, path in cells:
        table.add_row(field, printable(value) or "–", printable(path) or "–")
    Console(width=None if sys.stdout.isatty() else 160, highlight=False, markup=False).print(table)


def _show_json(sales: list[Sale], unreadable: list[Unreadable]) -> None:
    rows = {
        "sales": [one.model_dump(mode="json") for one in sales],
        "unreadable": [{"receipt_id": one.receipt_id, "where": one.where, "why": one.why} for one in unreadable],
    }
    typer.echo(printable_json(rows, indent=2))


def _end(text: str) -> NoReturn:
    typer.echo(printable(f"✗ {text}", lines=True), err=True)
    raise typer.Exit(1)
