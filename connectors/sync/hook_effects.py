"""Hook effects: what a proven hook leaves behind, all of it on disk before the till is answered.

Owns what hints, sales and news of an account change; proving a hook and answering it is `hooks`', and a later attempt
at what could not be read is `unread_retries`'.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial

from connector_sdk.errors import BadPayload
from connector_sdk.hooks import AccountChanged, Hint, Hints, HookRequest, Ignored, Received, Sales
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import DAY, HOUR, MINUTE, SECOND, micros
from connectors.domain.connection import Connection, Health
from connectors.isolation import UnreadableHook
from connectors.log_lines import about
from connectors.store import connections, inbox, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.hints import NewHint
from connectors.store.inbox.unreadable import Origin
from connectors.sync import health, lifecycle
from connectors.sync.forgotten import names_forgotten
from connectors.sync.ingest import Ingestor
from connectors.sync.snapshots import Snapshot, Source
from connectors.sync.tills import Tills, without_tokens
from connectors.tracing import step

log = logging.getLogger(__name__)

_SAMPLE_EVERY = 60 * SECOND
"""One hook in so long a time is kept as the sample on which changed settings are tried."""
_NEWS_LIVES = 2 * DAY + HOUR
"""Poster, the most patient of the tills, sends a hook again for two days: older news is somebody's replay."""
_CLOCKS_DIFFER = 5 * MINUTE


class HookEffects:
    """Writes down what hooks say of connections."""

    def __init__(self, store: Store, tills: Tills, ingestor: Ingestor) -> None:
        self._store = store
        self._tills = tills
        self._ingestor = ingestor

    async def leave(
        self,
        connection: Connection,
        received: Received | UnreadableHook,
        hook: HookRequest,
        others: Sequence[Connection] = (),
    ) -> None:
        """Write down what a hook says, or keep it where it cannot be read; returns once that is on disk.

        `others` are connections that read the same account alike: what a hook only hints at is read once for all, what
        it says is said to each.
        """
        with about(connection.id), step("take a hook", connector=connection.connector):
            if isinstance(received, UnreadableHook):
                log_raised(connection, received)
                await self._keep_unread(connection, hook, received.reason)
            else:
                await self.apply(connection, received, hook)
        if isinstance(received, Sales | AccountChanged):
            for other in others:
                with about(other.id), step("take a hook", connector=other.connector):
                    await self.apply(other, received, hook)
        if others:
            ids = [other.id for other in others]
            await self._store.write(lambda tx: connections.schedule.record_hooks(tx, ids))

    async def apply(self, connection: Connection, received: Received, hook: HookRequest) -> None:
        """Write down what a hook says that could be read."""
        match received:
            case Hints(hints):
                await self._store.gather(_leave_hints, [_new_hint(connection, hint) for hint in hints])
                _log_taken(connection, [hint.receipt_id for hint in hints])
            case Sales():
                await self._take_sales(connection, received, hook)
                _log_taken(connection, [sale.receipt_id for sale in received.sales])
            case AccountChanged():
                await self._store.write(partial(self._change_account, connection=connection, change=received))
            case Ignored(why):
                log.debug("connection %s: a hook %s is ignored", connection.id, why)

    async def _keep_unread(self, connection: Connection, hook: HookRequest, reason: BadPayload) -> None:
        """Keep a whole hook for a person, and say so once."""

        def keep(tx: Transaction) -> None:
            if inbox.unreadable.keep(tx, connection.id, None, hook.body, reason, Origin.hook):
                params = {"where": reason.where, "why": reason.said}
                ledger.journal.write(tx, connection.id, Message("hook.unreadable", params))
            connections.schedule.record_hooks(tx, [connection.id])

        await self._store.write(keep)

    # Sales

    async def _take_sales(self, connection: Connection, received: Sales, hook: HookRequest) -> None:
        """Ingest the sales of a hook, keep those of its receipts that cannot be read, and note that it came."""
        # These are three transactions: sales first, for they are what somebody waits for, and the note that the hook
        # arrived last. The till is answered after all three. A host that dies in between has not answered, so the till
        # sends the hook again: sales that were ingested change nothing then, and what was kept is not kept twice.
        arrived_at = self._store.clock.now()
        snapshots = await self._snapshots(connection, received, hook.body, arrived_at)
        await self._ingestor.ingest(snapshots)
        await self._ingestor.keep(connection, received.unreadable, Origin.hook, hook=hook.body, at=arrived_at)
        await self._store.write(
            partial(self._record_arrival, connection=connection, hook=hook, sales=received.sales),
        )

    async def _snapshots(
        self, connection: Connection, received: Sales, body: bytes, arrived_at: int
    ) -> Sequence[Snapshot]:
        """Build the snapshots of a hook's sales, each as old as its body."""
        # Where a till can be asked, or has versions, the age does not matter. Otherwise arrival is the only order
        # there is. A body that was kept unread before and is sent again is as old as when it first came. And where
        # something of this body is kept now, to be read later as of this moment, its other sales must not be younger.
        can_fetch = self._tills.classes[connection.connector].can("fetch")
        first_arrivals: Mapping[str, int] = {}
        if not can_fetch and received.sales:
            first_arrivals = await self._store.read(
                lambda tx: inbox.unreadable.first_arrivals(tx, connection.id, received.sales, body)
            )
        usual = arrived_at if received.unreadable else None
        return [
            Snapshot(connection, sale, Source.push, None, can_fetch, first_arrivals.get(sale.receipt_id, usual))
            for sale in received.sales
        ]

    def _record_arrival(
        self, tx: Transaction, connection: Connection, hook: HookRequest, sales: Sequence[Sale]
    ) -> None:
        """Note that sales arrived; now and then keep one hook as the sample on which changed settings are tried."""
        connections.schedule.record_hooks(tx, [connection.id])
        if not sales or self._tills.classes[connection.connector].teaching is None:
            return
        is_due = inbox.captured.newest_at(tx, connection.id) < tx.now - _SAMPLE_EVERY
        # a till may name somebody who was forgotten for as long as it likes: that does not come back as a sample
        if is_due and not names_forgotten(tx, connection, sales):
            inbox.captured.keep(tx, connection.id, hook, most=1)

    # News of an account

    def _change_account(self, tx: Transaction, connection: Connection, change: AccountChanged) -> None:
        """Follow what a till says of our access to an account."""
        # Tills send again for days, so news may be older than what was agreed since. It counts only where it is not
        # older than the connection's authorisation: a withdrawal that comes late does not end a newer grant. A grant
        # brings secrets, and somebody may replay it, so that must be recent as well.
        if change.recheck:
            connections.schedule.check_account_soon(tx, connection.id)
            connections.schedule.poll_now(tx, connection.id)
        said_at = micros(change.at) if change.at is not None else tx.now
        if said_at + SECOND <= connection.authorised_at:  # tills say it in whole seconds
            return
        if not change.authorised:
            reason = Message("why.application_removed")
            health.report_unwell(tx, connection, Health.needs_authorisation, reason)
        elif change.grant is not None and tx.now - _NEWS_LIVES <= said_at <= tx.now + _CLOCKS_DIFFER:
            lifecycle.authorise(tx, connection.id, change.grant, self._without_tokens(connection))
        elif change.grant is not None:
            log.warning("connection %s: a hook with a grant of another time is not believed", connection.id)

    def _without_tokens(self, connection: Connection) -> Mapping[str, object] | None:
        """Return the settings without what was pasted to let us in; `None` where there is nothing of it."""
        settings: dict[str, object] = json.loads(self._store.vault.decrypt(connection.settings))
        kept = without_tokens(self._tills.classes[connection.connector], settings)
        return kept if kept != settings else None


def _new_hint(connection: Connection, hint: Hint) -> NewHint:
    return NewHint(connection.id, hint.receipt_id, hint.closed)


def _log_taken(connection: Connection, receipt_ids: Sequence[str]) -> None:
    for receipt_id in receipt_ids if log.isEnabledFor(logging.DEBUG) else ():
        with about(connection.id, receipt_id):
            log.debug("a hook told of it, and is stored")


def _leave_hints(tx: Transaction, batches: Sequence[Sequence[NewHint]]) -> list[None]:
    """Leave the hints of many hooks in one transaction."""
    # a busy evening brings thin hooks by the second: those that wait for the writer at once share its commit
    hints = [hint for batch in batches for hint in batch]
    inbox.hints.leave(tx, hints)
    connections.schedule.record_hooks(tx, [hint.connection_id for hint in hints])
    return [None] * len(batches)


def settings_key(connection: Connection) -> str:
    """Name a connection's settings as they are now, so that a worker builds their connector once."""
    return f"{connection.id} {connection.generation}"


def log_raised(connection: Connection, unread: UnreadableHook) -> None:
    """Log where a connector stumbled over a hook, if it did."""
    if unread.raised:
        log.error("connection %s: the connector %s raised %s", connection.id, connection.connector, unread.raised)
