"""`connectors sync`, `preview`, `backfill`, `replan`, `unread`, `journal`: work on a connection, what came of it.

Owns their options, questions and how results are shown. The work itself is the services'; where a host runs on the same
database, it is the host that does it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer

from connector_sdk.messages import Message
from connector_sdk.sale import Sale, Unreadable
from connectors.cli.options import AsJson, DryRun, Since, Yes
from connectors.cli.output import confirm, run_with_host, say, show_bytes, show_json, show_table
from connectors.cli.progress import report_bar
from connectors.domain.clock import moment
from connectors.domain.stamps import Earned
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
from connectors.services.results import ignore
from connectors.services.sync import HistoryCounts
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.inbox.unreadable import UnreadEntry

# the journal is read from the database, which tells nobody of new lines; half a second reads as at once
_FOLLOW_PAUSE_SECONDS = 0.5


def sync(connection_id: str, as_json: AsJson = False) -> None:
    """Poll, look-back, hints and delivery once, now."""
    run_with_host(partial(_sync, connection_id=connection_id, as_json=as_json))


async def _sync(host: Host, connection_id: str, as_json: bool) -> None:
    # through `commands`: where a host runs on this database the host does the work, for only one process at a time may
    # read a till and deliver
    _show_outcome(await host.commands.run(sync_command(connection_id), ignore), as_json)


def _show_outcome(result: SyncResult, as_json: bool, receipts: int | None = None) -> None:
    """Print the receipts (those the till showed, or so many) and the operations by state."""
    if as_json:
        show_json(result.as_json())
        return
    seen = result.sales_seen if receipts is None else receipts
    say(f"{seen} receipts seen; operations: {_states_in_words(result.operations)}.")


def _states_in_words(operations: Mapping[str, int]) -> str:
    # states that no operation is in are noise to people; scripts get all of them
    return ", ".join(f"{number} {state}" for state, number in operations.items() if number) or "none"


# --- preview --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _PreviewRow:
    """A receipt of a preview, as it is shown: `why` says what decided its stamps, or why it cannot be read.

    Scripts read these names in `--json`: fields are added, never renamed.
    """

    receipt_id: str | None
    closed_at: str | None
    paid: str | None
    customer: str | None
    stamps: int | None
    why: str

    @classmethod
    def of(cls, host: Host, receipt: PreviewedReceipt, zone: ZoneInfo) -> _PreviewRow:
        """Make the row of one receipt, in the reader's words and the till's time zone."""
        if receipt.sale is None or receipt.earned is None:
            return cls._of_unreadable(receipt.unreadable)
        return cls._of_sale(host, receipt.sale, receipt.earned, zone)

    @classmethod
    def _of_unreadable(cls, unreadable: Unreadable | None) -> _PreviewRow:
        if unreadable is None:
            return cls(None, None, None, None, None, "")
        return cls(unreadable.receipt_id, None, None, None, None, f"{unreadable.where} {unreadable.why}")

    @classmethod
    def _of_sale(cls, host: Host, sale: Sale, earned: Earned, zone: ZoneInfo) -> _PreviewRow:
        attached = bool(sale.customer)
        # a receipt that would earn stamps earns none without a customer: then that is the reason, not the rule's
        reason = earned.why if attached or not earned.stamps else Message("why.nobody")
        return cls(
            sale.receipt_id,
            _closed_in(zone, sale),
            str(sale.paid),
            "attached" if attached else None,  # not who it is: a preview needs nobody's name
            earned.stamps if attached else 0,
            host.words.word(reason),
        )


def _closed_in(zone: ZoneInfo, sale: Sale) -> str | None:
    # the till's own zone, not UTC: it is compared with what the till prints
    return sale.closed_at.astimezone(zone).isoformat(timespec="seconds") if sale.closed_at else None


def preview(connection_id: str, since: Since, as_json: AsJson = False) -> None:
    """What receipts would be stamped; sends nothing and stores nothing."""
    run_with_host(partial(_preview, connection_id=connection_id, since=since, as_json=as_json))


async def _preview(host: Host, connection_id: str, since: str, as_json: bool) -> None:
    # read in this process, also beside a host that runs: nothing is written, so there is nothing to be in step with
    with report_bar("preview") as tell:
        receipts = [receipt async for receipt in host.services.sync.preview_history(connection_id, since, tell)]
    connection = await host.services.connections.get(connection_id)
    zone = ZoneInfo(connection.account.zone)
    _show_preview([_PreviewRow.of(host, receipt, zone) for receipt in receipts], as_json)


def _show_preview(receipts: Sequence[_PreviewRow], as_json: bool) -> None:
    rows = [asdict(receipt) for receipt in receipts]
    if as_json:
        show_json(rows)
        return
    cells = [["-" if value is None else str(value) for value in row.values()] for row in rows]
    show_table(["receipt", "closed", "paid", "customer", "stamps", "why"], cells, "No receipts.")


# --- history --------------------------------------------------------------------------------------------------------


def backfill(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Take in history: receipts from before the connection earn stamps too."""
    if dry_run:
        _count_backfill(connection_id, since, as_json)
        return
    # asked, because history may earn many stamps at once, and nothing takes them back together; not asked without a
    # terminal, for what runs without a person was meant by one
    if sys.stdin.isatty():
        confirm(f"Give stamps for every receipt since {since}? `--dry-run` counts them first.", yes)
    run_with_host(partial(_backfill, connection_id=connection_id, since=since, as_json=as_json))


async def _backfill(host: Host, connection_id: str, since: str, as_json: bool) -> None:
    with report_bar("backfill") as tell:
        result = await host.commands.run(backfill_command(connection_id, since), tell)
    _show_outcome(result, as_json)


def _count_backfill(connection_id: str, since: str, as_json: bool) -> None:
    counts = run_with_host(partial(_count_history, connection_id=connection_id, since=since))
    if as_json:
        show_json(asdict(counts))
    else:
        _say_backfill_counts(counts, since)


async def _count_history(host: Host, connection_id: str, since: str) -> HistoryCounts:
    """Count receipts one by one as they come: a year of them need not fit into memory."""
    counts = HistoryCounts()
    with report_bar("backfill, dry run") as tell:
        async for receipt in host.services.sync.preview_history(connection_id, since, tell):
            counts.add(receipt)
    return counts


def _say_backfill_counts(counts: HistoryCounts, since: str) -> None:
    say(
        f"{counts.receipts} receipts since {since}, {counts.known} of them count already. Of the others "
        f"{counts.new_with_customer} have a customer, and would earn {counts.new_stamps} stamps. Nothing was sent."
    )


def replan(
    connection_id: str, since: Since, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Plan stored receipts again by the rule as it is now."""

    if dry_run and as_json:
        show_json(_replan_counts(connection_id, since).as_json())
        return
    # counted before the question, so that whoever answers sees what a yes does; a script is not asked, and not kept
    # waiting for the count
    if dry_run or (sys.stdin.isatty() and not yes):
        change = _change_in_words(_replan_counts(connection_id, since), since)
        if dry_run:
            say(f"{change} Nothing was changed.")
            return
        confirm(f"{change} Go on?", yes)
    run_with_host(partial(_replan, connection_id=connection_id, since=since, as_json=as_json))


def _replan_counts(connection_id: str, since: str) -> ReplanCounts:
    # the host closes before anything is asked: nothing of the database is held while a person thinks
    return run_with_host(lambda host: host.services.sync.count_replan(connection_id, since, ignore))


def _change_in_words(counts: ReplanCounts, since: str) -> str:
    return f"{counts.sales} receipts since {since}: {counts.more} stamps more, {counts.fewer} fewer."


async def _replan(host: Host, connection_id: str, since: str, as_json: bool) -> None:
    with report_bar("replan") as tell:
        result = await host.commands.run(replan_command(connection_id, since), tell)
    _show_outcome(result, as_json, result.sales)  # nothing was read of the till: what was planned is what was seen


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
    # the body is the last of a sale that nobody could read; without a terminal `--yes` must be said
    if leave is not None:
        confirm("It cannot be brought back. Keep it no longer?", yes)
    if show is not None:
        run_with_host(partial(_show_unread_body, connection_id=connection_id, number=show))
    else:
        request = _UnreadRequest(connection_id, leave, try_again)
        run_with_host(partial(_unread, request=request, as_json=as_json))


class _UnreadRequest(NamedTuple):
    """What is done before the list is shown: one entry is discarded (`leave`), all others are read again."""

    connection_id: str
    leave: str | None
    try_again: bool


async def _show_unread_body(host: Host, connection_id: str, number: str) -> None:
    show_bytes(await host.services.review.unread_body(connection_id, number))


async def _unread(host: Host, request: _UnreadRequest, as_json: bool) -> None:
    # discarded first: what a person calls no sale is not read again
    if request.leave is not None:
        await host.services.review.discard_unread(request.connection_id, [request.leave])
    result = await _read_again(host, request.connection_id) if request.try_again else None
    entries = await host.services.review.list_unread(request.connection_id)
    if as_json:
        show_json(_unread_list_as_json(host, result, entries))
    else:
        _show_unread(host, result, entries)


async def _read_again(host: Host, connection_id: str) -> RetryResult:
    return await host.commands.run(retry_command(connection_id), ignore)


def _unread_list_as_json(host: Host, result: RetryResult | None, entries: list[UnreadEntry]) -> dict[str, object]:
    # the counts stand beside the list only where something was read again: scripts tell by them that it was
    counts = result.as_json() if result is not None else {}
    return {**counts, "unread": [_unread_as_json(host, entry) for entry in entries]}


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
    cells = [_unread_cells(host, entry) for entry in entries]
    show_table(["n", "receipt", "at (UTC)", "where", "why"], cells, "Everything that arrived has been read.")


def _unread_cells(host: Host, entry: UnreadEntry) -> list[str]:
    return [
        entry.id[:8],  # as many as `--show` and `--leave` need to find it
        entry.receipt_id or "?",
        f"{moment(entry.at):%Y-%m-%d %H:%M}",
        f"{entry.where}: {host.words.word(entry.why)}",
    ]


# --- the journal ----------------------------------------------------------------------------------------------------


def journal(
    connection_id: str,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as things happen; Ctrl-C ends it.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many lines.")] = 200,
    language: Annotated[str, typer.Option(help="The reader's language.")] = "en",
    as_json: AsJson = False,
) -> None:
    """What happened, in plain words."""
    reader = _JournalReader(connection_id, limit, language, follow, as_json)
    run_with_host(reader.show)


@dataclass(frozen=True, slots=True)
class _JournalReader:
    """What of the journal is shown, and how, as it was typed."""

    connection_id: str
    limit: int
    language: str
    follow: bool
    as_json: bool

    async def show(self, host: Host) -> None:
        """Print the newest lines, and go on as they are written where the journal is followed."""
        # an id that is not known would else look like a journal in which nothing happened yet
        await host.services.connections.require_known(self.connection_id)
        newest = await self._show_after(host, 0)
        while self.follow:
            await asyncio.sleep(_FOLLOW_PAUSE_SECONDS)
            newest = await self._show_after(host, newest)

    async def _show_after(self, host: Host, newest: int) -> int:
        """Print the lines behind `newest`, and return where the next look begins."""
        lines = await host.store.read(self._lines_after(newest))
        rows = [_journal_row(host, line, self.language) for line in lines]
        _show_journal(rows, follow=self.follow, as_json=self.as_json)
        return lines[-1].seq if lines else newest

    def _lines_after(self, newest: int) -> Callable[[Transaction], list[ledger.journal.JournalLine]]:
        return partial(ledger.journal.of_connection, connection_id=self.connection_id, after=newest, limit=self.limit)


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
            _say_journal_row(row)


def _say_journal_row(row: dict[str, str | None]) -> None:
    at = str(row["at"])[:19].replace("T", " ")  # to the second: the order of the lines says the rest
    say(f"{at}  {row['text']}")
