"""Imports: receipts of a file, for tills that can neither be asked nor send; ingested like all others.

Owns the way of a file's rows: each is read by the connection's own mapping, a few hundred are ingested together, and
what is no receipt is named by its line. The same file again, or one that overlaps, changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ValidationError

from connector_sdk.connector import Connector
from connector_sdk.errors import BadPayload
from connector_sdk.hooks import Sales
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.connection import Connection
from connectors.domain.stamps import Earned
from connectors.isolation import CallFailed
from connectors.isolation.calls import UnreadableHook
from connectors.services.context import ServiceContext
from connectors.services.import_files import MOST_UNPACKED, FileRow, ImportFile, open_import_file
from connectors.services.refusal import ENGLISH, Refusal
from connectors.services.results import ImportResult, NamedRow, Progress, ProgressReport
from connectors.services.sync import PreviewedReceipt, SyncService
from connectors.sync.field_errors import describe_field_errors
from connectors.sync.snapshots import Outcome, Snapshot, Source

_ROWS_AT_ONCE = 200
_MOST_NAMED = 100
"""Rows that could not be read are named one by one, so many of them; all are counted."""
_FIRST = 10
"""Receipts of a preview that are shown one by one."""
_LONGEST_WHY = 300
NameRow = Callable[[int, Message], None]
"""Is told the line of a row that is no receipt, and why it is none."""


@dataclass(frozen=True, slots=True)
class ImportWish:
    """A file to import: how it is read, and settings of the connection that are others for its rows.

    `columns` name the column of a value that the connection's mapping has, as in `receipt_id`: `Number`.
    """

    file: Path
    encoding: str | None = None
    delimiter: str | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    most_unpacked: int = MOST_UNPACKED


@dataclass(frozen=True, slots=True)
class _Import:
    connection: Connection
    till: Connector[BaseModel]
    key: str
    file: ImportFile


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row of a file: the sales in it, or why there is none."""

    line: int
    sales: tuple[Sale, ...]
    why: Message | None
    position: float


@dataclass(slots=True)
class ImportPreview:
    """What an import would take in: the sums, the first receipts with their lines, and the first rows that are none."""

    rows: int = 0
    receipts: int = 0
    with_customer: int = 0
    stamps: int = 0
    """What the receipts would earn, of which some may have been given already."""
    unread: int = 0
    first: list[tuple[int, Sale, Earned]] = field(default_factory=list)
    named: list[tuple[int, Message]] = field(default_factory=list)

    def add(self, row: ReadRow, receipts: Sequence[PreviewedReceipt]) -> None:
        """Count a row and what its receipts would earn."""
        self.rows += 1
        if row.why is not None:
            self.unread += 1
            if len(self.named) < _MOST_NAMED:
                self.named.append((row.line, row.why))
        for receipt in receipts:
            if receipt.sale is not None and receipt.earned is not None:
                self._add_receipt(row.line, receipt.sale, receipt.earned)

    def _add_receipt(self, line: int, sale: Sale, earned: Earned) -> None:
        self.receipts += 1
        if sale.customer:
            self.with_customer += 1
            self.stamps += earned.stamps
        if len(self.first) < _FIRST:
            self.first.append((line, sale, earned))


class ImportService:
    """Takes files in."""

    def __init__(self, context: ServiceContext, sync: SyncService) -> None:
        self._context = context
        self._sync = sync

    async def preview(
        self, connection_id: str, wish: ImportWish
    ) -> AsyncIterator[tuple[ReadRow, list[PreviewedReceipt]]]:
        """Yield every row with what its receipts would earn; stores and sends nothing. Raises `Refusal`."""
        work = await self._open(connection_id, wish)
        earned = await self._sync.previewer(work.connection)
        async for rows in self._read(work):
            for row in rows:
                yield row, [earned(sale) for sale in row.sales]

    async def run(
        self, connection_id: str, wish: ImportWish, progress: Progress, name: NameRow | None = None
    ) -> ImportResult:
        """Take a file's receipts in, and send what they earn; `name` is told of rows that are none. Raises `Refusal`.

        It is told of as many rows as the result names.
        """
        work = await self._open(connection_id, wish)
        await self._sync.require_working(connection_id)
        began = self._context.store.clock.now()
        counts = _Counts(tell=name)
        async for rows in self._read(work):
            await self._ingest(work, rows, counts)
            done = rows[-1].position if rows else 1.0
            await progress(ProgressReport(done=done, sales_seen=counts.receipts, sales_changed=counts.changed))
        delivered = await self._sync.deliver(connection_id, began)
        return ImportResult(
            rows=counts.rows,
            receipts=counts.receipts,
            changed=counts.changed,
            unread=counts.unread,
            named=tuple(counts.named),
            operations=delivered.operations,
        )

    # --- opening ----------------------------------------------------------------------------------------------

    async def _open(self, connection_id: str, wish: ImportWish) -> _Import:
        connection = await self._context.connection(connection_id)
        connector_class = self._context.connector_class(connection.connector)
        if connector_class.can("poll") or connector_class.can("fetch"):
            raise Refusal("this till is read by itself: `connectors backfill` takes its history in")
        values = {**self._context.settings_of(connection), **self._settings(connector_class.settings_model, wish)}
        try:
            till = self._context.tills.build(connection.connector, values, connection.account)
        except ValidationError as error:
            raise Refusal(f"the columns are not understood: {describe_field_errors(error)}") from None
        # other columns are another mapping: a worker must not read them by the connection's own
        key = self._context.store.vault.hash("import", connection.id, json.dumps(values, sort_keys=True, default=str))
        file = open_import_file(
            wish.file,
            encoding=wish.encoding,
            delimiter=wish.delimiter,
            format_name=wish.format,
            most_unpacked=wish.most_unpacked,
        )
        return _Import(connection, till, key, file)

    @staticmethod
    def _settings(model: type[BaseModel], wish: ImportWish) -> dict[str, str]:
        """Return the settings that the file's columns make. Raises `Refusal` for a value that the mapping has not."""
        names = {name.removeprefix("map_") for name in model.model_fields if name.startswith("map_")}
        unknown = [name for name in wish.columns if name not in names]
        if unknown:
            known = ", ".join(sorted(names))
            raise Refusal("there is no value {name} to read; known: {known}", name=unknown[0], known=known)
        # a column's name is quoted as a path quotes a name with spaces
        columns = {f"map_{name}": json.dumps(column, ensure_ascii=False) for name, column in wish.columns.items()}
        return {**columns, **wish.settings}

    # --- reading ----------------------------------------------------------------------------------------------

    async def _read(self, work: _Import) -> AsyncIterator[list[ReadRow]]:
        rows = work.file.rows()
        # in a thread: a workbook's rows take their time, and the host has others to serve
        while part := await asyncio.to_thread(lambda: list(islice(rows, _ROWS_AT_ONCE))):
            yield await self._read_rows(work, part)

    async def _read_rows(self, work: _Import, rows: Sequence[FileRow]) -> list[ReadRow]:
        """Have the connector read rows, all in one call."""
        bodies = [json.dumps(row.content, ensure_ascii=False).encode() for row in rows if row.content is not None]
        try:
            received = iter(
                await self._context.runner.receive_rows(work.till, work.key, bodies, tenant=work.connection.business_id)
            )
        except CallFailed as error:
            raise Refusal("reading the file's rows took too long: {error}", error=str(error)) from None
        return [
            _read_row(row, next(received)) if row.content is not None else ReadRow(row.line, (), row.why, row.position)
            for row in rows
        ]

    # --- ingesting --------------------------------------------------------------------------------------------

    async def _ingest(self, work: _Import, rows: Sequence[ReadRow], counts: _Counts) -> None:
        snapshots = [
            Snapshot(work.connection, sale, Source.imported, None, fetches=False) for row in rows for sale in row.sales
        ]
        lines = [row.line for row in rows for _ in row.sales]
        outcomes = await self._context.ingestor.ingest(snapshots)
        counts.rows += len(rows)
        counts.receipts += len(snapshots)
        counts.changed += outcomes.count(Outcome.stored)
        for row in rows:
            if row.why is not None:
                counts.name(row.line, row.why)
        for line, outcome in zip(lines, outcomes, strict=True):
            if outcome is Outcome.elsewhere:
                counts.name(line, Message("its place is not this connection's"))


@dataclass(slots=True)
class _Counts:
    tell: NameRow | None
    rows: int = 0
    receipts: int = 0
    changed: int = 0
    unread: int = 0
    named: list[NamedRow] = field(default_factory=list)

    def name(self, line: int, why: Message) -> None:
        """Count a row that is no receipt, and name it where there are not too many."""
        self.unread += 1
        if len(self.named) < _MOST_NAMED:
            self.named.append(NamedRow(line=line, why=ENGLISH.word(why)[:_LONGEST_WHY]))
            if self.tell is not None:
                self.tell(line, why)


def _read_row(row: FileRow, received: object) -> ReadRow:
    """Return what the connector made of a row."""
    match received:
        case Sales(sales=sales, unreadable=unreadable) if sales or unreadable:
            why = _reason(unreadable[0].reason) if unreadable else None
            return ReadRow(row.line, tuple(sales), why, row.position)
        case UnreadableHook(reason=reason):
            return ReadRow(row.line, (), _reason(reason), row.position)
    return ReadRow(row.line, (), Message("holds no receipt"), row.position)


def _reason(error: BadPayload) -> Message:
    return Message("{where}: {why}", {"where": error.where, "why": error.said})
