"""`connectors import`: the receipts of a file, for tills that can neither be asked nor send.

Owns its options, questions and how results are shown; reading and taking in are `connectors.services.imports`'.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from connector_sdk.messages import Message
from connectors.cli.options import AsJson, DryRun, Yes
from connectors.cli.output import confirm, fail, run_with_host, say, show_json, show_table
from connectors.cli.progress import report_bar
from connectors.runtime.host import Host
from connectors.services import ImportResult, ImportWish, PreviewedReceipt, ProgressReport, import_command

_SHOWN = 10
_MOST_NAMED = 100


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
        counts = run_with_host(partial(_preview, connection_id=connection_id, wish=wish))
        if dry_run and as_json:
            show_json(counts.as_json())
            return
        counts.show()
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


@dataclass(slots=True)
class _PreviewCounts:
    """What an import would take in, with the first receipts and the rows that are none."""

    rows: int = 0
    receipts: int = 0
    with_customer: int = 0
    stamps: int = 0
    unread: int = 0
    first: list[dict[str, object]] = field(default_factory=list)
    named: list[dict[str, object]] = field(default_factory=list)

    def add(self, host: Host, line: int, why: Message | None, receipts: list[PreviewedReceipt]) -> None:
        """Count a row."""
        self.rows += 1
        if why is not None:
            self.unread += 1
            if len(self.named) < _MOST_NAMED:
                self.named.append({"line": line, "why": host.words.word(why)})
        for receipt in receipts:
            self._add_receipt(host, line, receipt)

    def _add_receipt(self, host: Host, line: int, receipt: PreviewedReceipt) -> None:
        if receipt.sale is None or receipt.earned is None:
            return
        sale, stamps = receipt.sale, receipt.earned.stamps if receipt.sale.customer else 0
        self.receipts += 1
        self.with_customer += bool(sale.customer)
        self.stamps += stamps
        if len(self.first) < _SHOWN:
            self.first.append(
                {
                    "line": line,
                    "receipt": sale.receipt_id,
                    "closed": sale.closed_at.isoformat() if sale.closed_at else None,
                    "paid": str(sale.paid),
                    "customer": "attached" if sale.customer else None,
                    "stamps": stamps,
                    "why": host.words.word(receipt.earned.why),
                }
            )

    def as_json(self) -> dict[str, object]:
        """Return the object that scripts read."""
        return asdict(self)

    def show(self) -> None:
        """Print the first receipts, the rows that are none, and the sums."""
        cells = [["-" if value is None else str(value) for value in row.values()] for row in self.first]
        show_table(["line", "receipt", "closed", "paid", "customer", "stamps", "why"], cells, "No receipts.")
        _show_named([(int(str(row["line"])), str(row["why"])) for row in self.named], self.unread)
        say(
            f"{self.receipts} receipts in {self.rows} rows, {self.with_customer} with a customer: they earn "
            f"{self.stamps} stamps (less what they have already)."
        )


async def _preview(host: Host, connection_id: str, wish: ImportWish) -> _PreviewCounts:
    counts = _PreviewCounts()
    with report_bar("reading", _rows) as tell:
        async for row, receipts in host.services.imports.preview(connection_id, wish):
            counts.add(host, row.line, row.why, receipts)
            if counts.rows % 1000 == 0:
                await tell(ProgressReport(done=row.position, sales_seen=counts.receipts))
    return counts


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
