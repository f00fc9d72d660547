"""Retries of what could not be read: it is read once more, with the connection as it is now.

Owns the order of the retries and what becomes of each entry; the entries are stored by
`connectors.store.inbox.unreadable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import BaseModel, ValidationError

from connector_sdk.connector import Connector
from connector_sdk.hooks import AccountChanged, HookRequest, Received, Sales
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.connection import Connection
from connectors.isolation import CallFailed, PluginRunner, UnreadableHook
from connectors.store import connections, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.hints import NewHint
from connectors.store.inbox.unreadable import Origin, StillUnread, UnreadEntry
from connectors.store.query_parts import in_parts
from connectors.sync.hook_effects import HookEffects, log_raised, settings_key
from connectors.sync.ingest import Ingestor
from connectors.sync.snapshots import Outcome, Snapshot, Source
from connectors.sync.tills import Tills

_AT_ONCE = 20
"""Entries whose bodies are in the clear at one time."""


@dataclass(frozen=True, slots=True)
class RetryResult:
    """What retries came to: receipts `read`, requests or receipts `still` unread, and those `asked` of the till."""

    read: int = 0
    still: int = 0
    asked: int = 0

    def __add__(self, other: RetryResult) -> RetryResult:
        return RetryResult(self.read + other.read, self.still + other.still, self.asked + other.asked)


@dataclass(frozen=True, slots=True)
class _StoredHook:
    """A whole hook, and the entries of what could not be read of it."""

    connection: Connection
    till: Connector[BaseModel]
    entries: tuple[UnreadEntry, ...]

    @property
    def body(self) -> bytes:
        return self.entries[0].body

    @property
    def request(self) -> HookRequest:
        """The hook as a connector receives it: of what it came with, only the body was stored."""
        return HookRequest("POST", {}, {}, self.body)

    @property
    def arrived_at(self) -> int:
        """When it first came (UTC microseconds): read now, it is no younger for that."""
        return min(entry.at for entry in self.entries)

    @property
    def names_receipts(self) -> bool:
        """Whether the hook itself was read when it came, and only some of its receipts were not."""
        return all(entry.receipt_id is not None for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a stored hook gave this time: `receipts` read, `set_aside` by ingest, and what is `unread` still."""

    receipts: int = 1
    set_aside: int = 0
    unread: tuple[StillUnread, ...] = ()


class UnreadRetrier:
    """Retries what could not be read."""

    def __init__(
        self, store: Store, tills: Tills, ingestor: Ingestor, runner: PluginRunner, effects: HookEffects
    ) -> None:
        self._store = store
        self._tills = tills
        self._ingestor = ingestor
        self._runner = runner
        self._effects = effects

    async def retry(self, connection: Connection, ids: Sequence[str]) -> RetryResult:
        """Read entries in the order of their arrival; what is understood is kept no longer.

        Entries that came in the same hook are retried together, whichever of them is named. Raises `NoConnector`.
        """
        till = self._tills.of(connection)
        result, done = RetryResult(), set[str]()
        for part in in_parts(ids, _AT_ONCE):
            # an earlier part may have brought these along, as entries of the same hook
            due = [entry_id for entry_id in part if entry_id not in done]
            if not due:
                continue
            entries = await self._store.read(
                partial(inbox.unreadable.with_bodies, connection_id=connection.id, ids=due),
            )
            done.update(entry.id for entry in entries)
            result += await self._retry_entries(connection, till, entries)
        return result

    async def _retry_entries(
        self, connection: Connection, till: Connector[BaseModel], entries: Sequence[UnreadEntry]
    ) -> RetryResult:
        result = RetryResult()
        hooks: dict[bytes, list[UnreadEntry]] = {}
        for entry in entries:
            if _is_hook(entry, till):
                hooks.setdefault(entry.body, []).append(entry)
            else:
                result += await self._retry_receipt(connection, till, entry)
        for entries_of_hook in hooks.values():
            result += await self._retry_hook(_StoredHook(connection, till, tuple(entries_of_hook)))
        return result

    # Whole hooks

    async def _retry_hook(self, hook: _StoredHook) -> RetryResult:
        connection = hook.connection
        try:
            received = await self._runner.receive(
                hook.till, settings_key(connection), hook.request, tenant=connection.business_id, proven=True
            )
        except CallFailed:  # nothing is known that was not known before
            return RetryResult(still=len(hook.entries))
        reading = await self._read(hook, received)
        read = await self._store.write(partial(_replace_entries, hook=hook, reading=reading))
        return RetryResult(read, still=len(reading.unread) + reading.set_aside)

    async def _read(self, hook: _StoredHook, received: Received | UnreadableHook) -> _Reading:
        """Write down what a stored hook says now, and return what it gave."""
        connection = hook.connection
        if isinstance(received, UnreadableHook):
            log_raised(connection, received)
            return _Reading(unread=(StillUnread(None, received.reason),))
        if isinstance(received, Sales):
            return await self._ingest(hook, received)
        if isinstance(received, AccountChanged) and hook.arrived_at <= connection.authorised_at:
            return _Reading()  # old news of an account that was authorised anew since
        await self._effects.apply(connection, received, hook.request)
        return _Reading()

    async def _ingest(self, hook: _StoredHook, received: Sales) -> _Reading:
        can_fetch = hook.till.can("fetch")
        snapshots = [
            Snapshot(hook.connection, sale, Source.push, None, can_fetch, hook.arrived_at) for sale in received.sales
        ]
        outcomes = await self._ingestor.ingest(snapshots)
        set_aside = outcomes.count(Outcome.kept)
        unread = tuple(StillUnread(item.receipt_id, item.reason) for item in received.unreadable)
        return _Reading(len(snapshots) - set_aside, set_aside, unread)

    # Single receipts

    async def _retry_receipt(
        self, connection: Connection, till: Connector[BaseModel], entry: UnreadEntry
    ) -> RetryResult:
        """Ask the till for a receipt where it can be asked, or ingest it as it was read."""
        if entry.receipt_id is not None and till.can("fetch"):
            hint = NewHint(connection.id, entry.receipt_id, closed=False)
            await self._store.write(partial(_replace_by_hint, connection=connection, entry=entry, hint=hint))
            return RetryResult(asked=1)
        if entry.origin is Origin.read:
            # it is read again with the days that it is in, and its entry goes with that reading
            await self._store.write(lambda tx: connections.schedule.read_back_now(tx, connection.id))
            return RetryResult(asked=1)
        return await self._ingest_entry(connection, entry)

    async def _ingest_entry(self, connection: Connection, entry: UnreadEntry) -> RetryResult:
        """Ingest a sale that was read well, and that ingest could not take in before."""
        try:
            sale = Sale.model_validate_json(entry.body)
        except ValidationError:
            return RetryResult(still=1)
        snapshot = Snapshot(connection, sale, Source.push, None, fetches=False, arrived_at=entry.at)
        (outcome,) = await self._ingestor.ingest([snapshot])
        if outcome is Outcome.kept:
            return RetryResult(still=1)
        await self._store.write(lambda tx: inbox.unreadable.remove(tx, connection.id, [entry.id]))
        return RetryResult(read=1)


def _is_hook(entry: UnreadEntry, till: Connector[BaseModel]) -> bool:
    """Say whether an entry's body is a whole hook."""
    can_be_asked = till.can("fetch") or till.can("poll")
    # of a till that cannot be asked nothing but hooks was ever kept, whatever an older version called them
    return entry.origin is Origin.hook or (entry.origin is Origin.read and not can_be_asked)


def _count_read(hook: _StoredHook, reading: _Reading) -> int:
    """Count the receipts that are read now and were not before."""
    if any(item.receipt_id is None for item in reading.unread):
        return 0
    if hook.names_receipts:  # its other receipts were read when it came
        return max(0, len(hook.entries) - len(reading.unread) - reading.set_aside)
    return reading.receipts


def _replace_entries(tx: Transaction, hook: _StoredHook, reading: _Reading) -> int:
    """Replace a hook's entries by those of what is still unread; return how many receipts were read, and journal it."""
    connection_id, ids = hook.connection.id, [entry.id for entry in hook.entries]
    if not inbox.unreadable.replace_after_retry(tx, connection_id, hook.body, ids, reading.unread, hook.arrived_at):
        return 0  # somebody pressed the same button meanwhile: that retry has said what it read
    read = _count_read(hook, reading)
    if read:
        ledger.journal.write(tx, connection_id, Message("hook.read_again", {"count": read}))
    return read


def _replace_by_hint(tx: Transaction, connection: Connection, entry: UnreadEntry, hint: NewHint) -> None:
    # in one transaction: an entry without its hint would be lost, both would ask the till twice
    inbox.hints.leave(tx, [hint])
    inbox.unreadable.remove(tx, connection.id, [entry.id])
