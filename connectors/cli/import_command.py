"""`connectors import`: the receipts of a file, for tills that can neither be asked nor send.

Owns its options, questions and how results are shown; reading and taking in are `connectors.services.imports`'.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from connector_sdk.messages import Catalogue
from connector_sdk.sale import Sale
from connectors.cli.options import AsJson, DryRun, Yes
from connectors.cli.output import confirm, fail, run_with_host, say, show_json, show_table
from connectors.cli.progress import report_bar
from connectors.domain.stamps import Earned
from connectors.runtime.host import Host
from connectors.services import ImportResult, ImportWish, ProgressReport, import_command
from connectors.services.imports import ImportPreview


def import_(
    connection_id: str,
    file: Annotated[Path, typer.Argument(help="CSV, JSON Lines or XLSX; of a workbook the first sheet counts.")],
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="VALUE=COLUMN", help="Where a value stands in the file, as in receipt_id=Number."
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A setting of the connection that is another for the file."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a text that is not UTF-8, as in cp1251.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="What parts the columns of a CSV, where it is not found.")
    ] = None,
    format_name: Annotated[str | None, typer.Option("--format", metavar="csv|jsonl|xlsx", help="Of the file.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take in the receipts of a file: the same file again, or an overlapping one, changes nothing."""
    wish = ImportWish(
        file=file,
        encoding=encoding,
        delimiter=delimiter,
        format=format_name,
        columns=_pairs("--map", column or []),
        settings=_pairs("--set", setting or []),
    )
    if dry_run or (sys.stdin.isatty() and not yes):
        preview = run_with_host(partial(_preview, connection_id=connection_id, wish=wish))
        if dry_run and as_json:
            show_json(preview.as_json())
            return
        preview.show()
        if dry_run:
            say("Nothing was stored or sent.")
            return
        confirm("Go on?", yes)
    run_with_host(partial(_import, connection_id=connection_id, wish=wish, as_json=as_json))


def _pairs(option: str, texts: list[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            fail(f"{option} takes NAME=VALUE, as in --map receipt_id=Number")
        pairs[name.strip()] = value.strip()
    return pairs


@dataclass(frozen=True, slots=True)
class _Preview:
    """What an import would take in, as a script and a person read it."""

    counts: ImportPreview
    words: Catalogue

    def as_json(self) -> dict[str, object]:
        """Return the object that scripts read."""
        counts = self.counts
        return {
            "rows": counts.rows,
            "receipts": counts.receipts,
            "with_customer": counts.with_customer,
            "stamps": counts.stamps,
            "unread": counts.unread,
            "first": [self._row(*receipt) for receipt in counts.first],
            "named": [{"line": line, "why": self.words.word(why)} for line, why in counts.named],
        }

    def _row(self, line: int, sale: Sale, earned: Earned) -> dict[str, object]:
        return {
            "line": line,
            "receipt": sale.receipt_id,
            "closed": sale.closed_at.isoformat() if sale.closed_at else None,
            "paid": str(sale.paid),
            "customer": "attached" if sale.customer else None,
            "stamps": earned.stamps if sale.customer else 0,
            "why": self.words.word(earned.why),
        }

    def show(self) -> None:
        """Print the first receipts, the rows that are none, and the sums."""
        counts = self.counts
        rows = [self._row(*receipt) for receipt in counts.first]
        cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
        show_table(["line", "receipt", "closed", "paid", "customer", "stamps", "why"], cells, "No receipts.")
        _show_named([(line, self.words.word(why)) for line, why in counts.named], counts.unread)
        say(
            f"{counts.receipts} receipts in {counts.rows} rows, {counts.with_customer} with a customer: they earn "
            f"{counts.stamps} stamps (less what they have already)."
        )


async def _preview(host: Host, connection_id: str, wish: ImportWish) -> _Preview:
    counts = ImportPreview()
    with report_bar("reading", _rows) as tell:
        async for row, receipts in host.services.imports.preview(connection_id, wish):
            counts.add(row, receipts)
            if counts.rows % 1000 == 0:
                await tell(ProgressReport(done=row.position, sales_seen=counts.receipts))
    return _Preview(counts, host.words)


def _rows(report: ProgressReport) -> str:
    return f"{report.sales_seen or 0} receipts"


async def _import(host: Host, connection_id: str, wish: ImportWish, as_json: bool) -> None:
    with report_bar("import") as tell:
        result = await host.commands.run(import_command(connection_id, wish), tell)
    _show(result, as_json)


def _show(result: ImportResult, as_json: bool) -> None:
    if as_json:
        show_json(result.as_json())
        return
    _show_named([(row.line, row.why) for row in result.named], result.unread)
    states = ", ".join(f"{number} {state}" for state, number in result.operations.items() if number) or "none"
    say(f"{result.receipts} receipts in {result.rows} rows, {result.changed} new or changed; operations: {states}.")


def _show_named(named: list[tuple[int, str]], number: int) -> None:
    for line, why in named:
        say(f"line {line}: {why}")
    if number > len(named):
        say(f"… and {number - len(named)} rows more that are no receipts.")
