"""`connectors sync`, `preview`, `backfill`, `replan`, `unread`, `journal`: work on a connection, what came of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connector_sdk.messages import Message
from connectors.cli.output import confirm, console, run, say, show_bytes, show_json, show_table, the_host
from connectors.domain.clock import moment
from connectors.runtime.host import Host
from connectors.services import (
    Previewed,
    ProgressReport,
    ReplanCounts,
    SyncResult,
    backfill_command,
    replan_command,
    retry_command,
    sync_command,
)
from connectors.store import ledger

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Since = Annotated[str, typer.Option("--since", metavar="YYYY-MM-DD", help="The first day, in the till's time zone.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


async def _nothing(_report: ProgressReport) -> None:
    return


def sync(connection_id: str, as_json: AsJson = False) -> None:
    """Poll, look-back, hints and delivery once, now."""

    async def work() -> None:
        async with the_host() as host:
            result = await host.commands.run(sync_command(connection_id), _nothing)
            show_json(result.as_json()) if as_json else say(_in_words(result))

    run(work)


def _in_words(result: SyncResult, receipts: int | None = None) -> str:
    """Put a result in a sentence; `receipts` are those it is about, where that is not what the till showed."""
    counts = ", ".join(f"{number} {state}" for state, number in result.operations.items() if number) or "none"
    return f"{result.sales_seen if receipts is None else receipts} receipts seen; operations: {counts}."


def preview(connection_id: str, since: Since, as_json: AsJson = False) -> None:
    """What receipts would be stamped; sends nothing and stores nothing."""

    async def work() -> None:
        async with the_host() as host:
            with bar("preview") as tell:
                found = [one async for one in host.services.sync.preview_history(connection_id, since, tell)]
            zone = ZoneInfo((await host.services.connections.get(connection_id)).account.zone)
            rows = [_previewed(host, one, zone) for one in found]
            if as_json:
                show_json(rows)
                return
            cells = [[str(row[name] if row[name] is not None else "-") for name in row] for row in rows]
            show_table(["receipt", "closed", "paid", "customer", "stamps", "why"], cells, "No receipts.")

    run(work)


def _previewed(host: Host, one: Previewed, zone: ZoneInfo) -> dict[str, Any]:
    if one.sale is None or one.earned is None:
        why = f"{one.unreadable.where} {one.unreadable.why}" if one.unreadable else ""
        nothing = dict.fromkeys(("closed_at", "paid", "customer", "stamps"))
        return {"receipt_id": one.unreadable.receipt_id if one.unreadable else None, **nothing, "why": why}
    attached = bool(one.sale.customer)
    why = host.words.word(one.earned.why if attached or not one.earned.stamps else Message("why.nobody"))
    return {
        "receipt_id": one.sale.receipt_id,
        "closed_at": one.sale.closed_at.astimezone(zone).isoformat(timespec="seconds") if one.sale.closed_at else None,
        "paid": str(one.sale.paid),
        "customer": "attached" if attached else None,
        "stamps": one.earned.stamps if attached else 0,
        "why": why,
    }


def _receipts(report: ProgressReport) -> str:
    seen = report.sales_seen if report.sales_seen is not None else report.sales
    return f"{seen or 0} receipts"


@contextmanager
def bar(title: str, said: Callable[[ProgressReport], str] = _receipts) -> Any:
    """A progress bar on a terminal, nothing elsewhere; `said` stands beside it."""
    with Progress(
        TextColumn(title), BarColumn(), TextColumn("{task.fields[seen]}"), TimeElapsedColumn(),
        console=console, disable=not sys.stdout.isatty(), transient=True,
    ) as shown:  # fmt: skip
        task = shown.add_task(title, total=1.0, seen="")

        async def tell(report: ProgressReport) -> None:
            shown.update(task, completed=report.done, seen=said(report))

        yield tell


def backfill(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Take in history: receipts from before the connection earn stamps too."""
    if dry_run:
        _backfill_dry(connection_id, since, as_json)
        return
    if sys.stdin.isatty():  # what runs without a person was meant by one
        confirm(f"Give stamps for every receipt since {since}? `--dry-run` counts them first.", yes)

    async def work() -> None:
        async with the_host() as host:
            with bar("backfill") as tell:
                result = await host.commands.run(backfill_command(connection_id, since), tell)
            show_json(result.as_json()) if as_json else say(_in_words(result))

    run(work)


def _backfill_dry(connection_id: str, since: str, as_json: bool) -> None:
    async def work() -> None:
        async with the_host() as host:
            counts = {"receipts": 0, "with_customer": 0, "stamps": 0, "unreadable": 0}
            with bar("backfill, dry run") as tell:
                async for one in host.services.sync.preview_history(connection_id, since, tell):
                    counts["receipts"] += 1
                    counts["unreadable"] += int(one.unreadable is not None)
                    if one.sale is not None and one.earned is not None and one.sale.customer:
                        counts["with_customer"] += 1
                        counts["stamps"] += one.earned.stamps
            if as_json:
                show_json(counts)
                return
            say(
                f"{counts['receipts']} receipts since {since}, {counts['with_customer']} with a customer: they earn "
                f"{counts['stamps']} stamps (less what they have already). Nothing was sent."
            )

    run(work)


def replan(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Plan stored receipts again by the rule as it is now."""

    async def count() -> ReplanCounts:
        async with the_host() as host:
            return await host.services.sync.count_replan(connection_id, since, _nothing)

    if dry_run or (sys.stdin.isatty() and not yes):
        would = run(count)
        if dry_run and as_json:
            show_json(would.as_json())
            return
        said = f"{would.sales} receipts since {since}: {would.more} stamps more, {would.fewer} fewer."
        if dry_run:
            say(f"{said} Nothing was changed.")
            return
        confirm(f"{said} Go on?", yes)

    async def work() -> None:
        async with the_host() as host:
            with bar("replan") as tell:
                result = await host.commands.run(replan_command(connection_id, since), tell)
            show_json(result.as_json()) if as_json else say(_in_words(result, result.sales))

    run(work)


def unread(
    connection_id: str,
    again: Annotated[bool, typer.Option("--try-again", help="Read them with the settings as they are now.")] = False,
    show: Annotated[str | None, typer.Option(metavar="N", help="Print this one's body as it came.")] = None,
    leave: Annotated[str | None, typer.Option(metavar="N", help="It is no sale: keep it no longer.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """What arrived and could not be read, newest first, and why; nothing of it is lost."""
    if leave is not None:
        confirm("It cannot be brought back. Keep it no longer?", yes)

    async def work() -> None:
        async with the_host() as host:
            if show is not None:
                show_bytes(await host.services.review.unread_body(connection_id, show))
                return
            if leave is not None:
                await host.services.review.discard_unread(connection_id, [leave])
            result = await host.commands.run(retry_command(connection_id), _nothing) if again else None
            rows = await host.services.review.list_unread(connection_id)
            if as_json:
                shown = [
                    {"id": one.id, "receipt": one.receipt_id, "at": moment(one.at).isoformat(), "where": one.where,
                     "why": host.words.word(one.why)}
                    for one in rows
                ]  # fmt: skip
                show_json({**(result.as_json() if result is not None else {}), "unread": shown})
                return
            if result is not None:
                say(f"{result.read} read, {result.still_unread} still not, {result.asked} asked of the till.")
            cells = [
                [
                    one.id[:8],
                    one.receipt_id or "?",
                    f"{moment(one.at):%Y-%m-%d %H:%M}",
                    f"{one.where}: {host.words.word(one.why)}",
                ]
                for one in rows
            ]
            show_table(["n", "receipt", "at (UTC)", "where", "why"], cells, "Everything that arrived has been read.")

    run(work)


def journal(
    connection_id: str,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as things happen; Ctrl-C ends it.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many lines.")] = 200,
    language: Annotated[str, typer.Option(help="The reader's language.")] = "en",
    as_json: AsJson = False,
) -> None:
    """What happened, in plain words."""

    async def work() -> None:
        async with the_host() as host:
            await host.services.connections.require_known(connection_id)
            after = 0
            while True:
                lines = await host.store.read(
                    lambda tx, after=after: ledger.journal.of_connection(tx, connection_id, after=after, limit=limit)  # type: ignore[misc]
                )
                after = lines[-1].seq if lines else after
                rows = [_line(host, line, language) for line in lines]
                if as_json and not follow:
                    show_json(rows)
                for row in rows:
                    if as_json and follow:
                        show_json(row, indent=None)  # an object a line
                    elif not as_json:
                        say(f"{row['at'][:19].replace('T', ' ')}  {row['text']}")
                if not follow:
                    return
                await asyncio.sleep(0.5)

    run(work)


def _line(host: Host, line: ledger.journal.JournalLine, language: str) -> dict[str, Any]:
    return {
        "at": moment(line.at).isoformat(),
        "receipt_id": line.receipt_id,
        "message": line.message.id,
        "text": host.words.word(line.message, language),
    }
