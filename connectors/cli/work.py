"""`connectors sync`, `preview`, `backfill`, `replan`, `unread`, `journal`: work on a connection, what came of it.

Owns their options, questions and how results are shown. The work itself is the services'; where a host runs on the same
database, it is the host that does it.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from connector_sdk.messages import Message
from connectors.cli.options import AsJson, DryRun, Since, Yes
from connectors.cli.output import confirm, run, say, show_bytes, show_json, show_table, the_host
from connectors.cli.progress import ignore, report_bar
from connectors.domain.clock import moment
from connectors.runtime.host import Host
from connectors.services import (
    PreviewedReceipt,
    ReplanCounts,
    RetryResult,
    SyncResult,
    backfill_command,
    replan_command,
    retry_command,
    sync_command,
)
from connectors.store import ledger
from connectors.store.inbox.unreadable import UnreadEntry

_FOLLOW_PAUSE_SECONDS = 0.5


def sync(connection_id: str, as_json: AsJson = False) -> None:
    """Poll, look-back, hints and delivery once, now."""

    async def work() -> None:
        async with the_host() as host:
            _show_outcome(await host.commands.run(sync_command(connection_id), ignore), as_json)

    run(work)


def _show_outcome(result: SyncResult, as_json: bool, receipts: int | None = None) -> None:
    """Print the receipts (those the till showed, or so many) and the operations by state."""
    if as_json:
        show_json(result.as_json())
        return
    counts = ", ".join(f"{number} {state}" for state, number in result.operations.items() if number) or "none"
    say(f"{result.sales_seen if receipts is None else receipts} receipts seen; operations: {counts}.")


# --- preview --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PreviewRow:
    """A receipt of a preview, as it is shown: `why` says what decided its stamps, or why it cannot be read."""

    receipt_id: str | None
    closed_at: str | None
    paid: str | None
    customer: str | None
    stamps: int | None
    why: str

    @classmethod
    def of(cls, host: Host, receipt: PreviewedReceipt, zone: ZoneInfo) -> _PreviewRow:
        sale, earned, unreadable = receipt.sale, receipt.earned, receipt.unreadable
        if sale is None or earned is None:
            why = f"{unreadable.where} {unreadable.why}" if unreadable else ""
            return cls(unreadable.receipt_id if unreadable else None, None, None, None, None, why)
        attached = bool(sale.customer)
        # a receipt that would earn stamps earns none without a customer: then that is the reason, not the rule's
        reason = earned.why if attached or not earned.stamps else Message("why.nobody")
        return cls(
            sale.receipt_id,
            sale.closed_at.astimezone(zone).isoformat(timespec="seconds") if sale.closed_at else None,
            str(sale.paid),
            "attached" if attached else None,
            earned.stamps if attached else 0,
            host.words.word(reason),
        )


def preview(connection_id: str, since: Since, as_json: AsJson = False) -> None:
    """What receipts would be stamped; sends nothing and stores nothing."""

    async def work() -> None:
        async with the_host() as host:
            with report_bar("preview") as tell:
                receipts = [receipt async for receipt in host.services.sync.preview_history(connection_id, since, tell)]
            zone = ZoneInfo((await host.services.connections.get(connection_id)).account.zone)
            rows = [asdict(_PreviewRow.of(host, receipt, zone)) for receipt in receipts]
            if as_json:
                show_json(rows)
                return
            cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
            show_table(["receipt", "closed", "paid", "customer", "stamps", "why"], cells, "No receipts.")

    run(work)


# --- history --------------------------------------------------------------------------------------------------------


def backfill(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Take in history: receipts from before the connection earn stamps too."""
    if dry_run:
        _count_backfill(connection_id, since, as_json)
        return
    if sys.stdin.isatty():  # what runs without a person was meant by one
        confirm(f"Give stamps for every receipt since {since}? `--dry-run` counts them first.", yes)

    async def work() -> None:
        async with the_host() as host:
            with report_bar("backfill") as tell:
                result = await host.commands.run(backfill_command(connection_id, since), tell)
            _show_outcome(result, as_json)

    run(work)


@dataclass(slots=True)
class _BackfillCounts:
    """What a backfill would take in: stamps are those of receipts with a customer."""

    receipts: int = 0
    with_customer: int = 0
    stamps: int = 0
    unreadable: int = 0

    def add(self, receipt: PreviewedReceipt) -> None:
        self.receipts += 1
        self.unreadable += receipt.unreadable is not None
        if receipt.sale is not None and receipt.earned is not None and receipt.sale.customer:
            self.with_customer += 1
            self.stamps += receipt.earned.stamps


def _count_backfill(connection_id: str, since: str, as_json: bool) -> None:
    async def work() -> None:
        counts = _BackfillCounts()
        async with the_host() as host:
            with report_bar("backfill, dry run") as tell:
                async for receipt in host.services.sync.preview_history(connection_id, since, tell):
                    counts.add(receipt)
        if as_json:
            show_json(asdict(counts))
            return
        say(
            f"{counts.receipts} receipts since {since}, {counts.with_customer} with a customer: they earn "
            f"{counts.stamps} stamps (less what they have already). Nothing was sent."
        )

    run(work)


def replan(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Plan stored receipts again by the rule as it is now."""

    async def count() -> ReplanCounts:
        async with the_host() as host:
            return await host.services.sync.count_replan(connection_id, since, ignore)

    async def work() -> None:
        async with the_host() as host:
            with report_bar("replan") as tell:
                result = await host.commands.run(replan_command(connection_id, since), tell)
            _show_outcome(result, as_json, result.sales)

    if dry_run and as_json:
        show_json(run(count).as_json())
        return
    if dry_run or (sys.stdin.isatty() and not yes):
        counts = run(count)
        change = f"{counts.sales} receipts since {since}: {counts.more} stamps more, {counts.fewer} fewer."
        if dry_run:
            say(f"{change} Nothing was changed.")
            return
        confirm(f"{change} Go on?", yes)
    run(work)


# --- what could not be read -----------------------------------------------------------------------------------------


def unread(
    connection_id: str,
    try_again: Annotated[
        bool, typer.Option("--try-again", help="Read them with the settings as they are now.")
    ] = False,
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
            result = await host.commands.run(retry_command(connection_id), ignore) if try_again else None
            entries = await host.services.review.list_unread(connection_id)
            if as_json:
                show_json(
                    {
                        **(result.as_json() if result is not None else {}),
                        "unread": [_unread_as_json(host, entry) for entry in entries],
                    }
                )
            else:
                _show_unread(host, result, entries)

    run(work)


def _unread_as_json(host: Host, entry: UnreadEntry) -> dict[str, str | None]:
    return {
        "id": entry.id,
        "receipt": entry.receipt_id,
        "at": moment(entry.at).isoformat(),
        "where": entry.where,
        "why": host.words.word(entry.why),
    }


def _show_unread(host: Host, result: RetryResult | None, entries: list[UnreadEntry]) -> None:
    if result is not None:
        say(f"{result.read} read, {result.still_unread} still not, {result.asked} asked of the till.")
    cells = [
        [
            entry.id[:8],
            entry.receipt_id or "?",
            f"{moment(entry.at):%Y-%m-%d %H:%M}",
            f"{entry.where}: {host.words.word(entry.why)}",
        ]
        for entry in entries
    ]
    show_table(["n", "receipt", "at (UTC)", "where", "why"], cells, "Everything that arrived has been read.")


# --- the journal ----------------------------------------------------------------------------------------------------


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
            newest = 0
            while True:
                read = partial(ledger.journal.of_connection, connection_id=connection_id, after=newest, limit=limit)
                lines = await host.store.read(read)
                _show_journal([_journal_row(host, line, language) for line in lines], follow=follow, as_json=as_json)
                if not follow:
                    return
                newest = lines[-1].seq if lines else newest
                await asyncio.sleep(_FOLLOW_PAUSE_SECONDS)

    run(work)


def _journal_row(host: Host, line: ledger.journal.JournalLine, language: str) -> dict[str, str | None]:
    return {
        "at": moment(line.at).isoformat(),
        "receipt_id": line.receipt_id,
        "message": line.message.id,
        "text": host.words.word(line.message, language),
    }


def _show_journal(rows: list[dict[str, str | None]], *, follow: bool, as_json: bool) -> None:
    """Print lines of the journal; followed as JSON, each is an object on a line of its own, for there is no end."""
    if as_json and not follow:
        show_json(rows)
        return
    for row in rows:
        if as_json:
            show_json(row, indent=None)
        else:
            say(f"{str(row['at'])[:19].replace('T', ' ')}  {row['text']}")
