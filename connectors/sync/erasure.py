"""Erasure: forgets a customer, everything of theirs in one business, in small transactions.

Owns the order of the work; what belongs to a person is `person_search`'s, and each table is changed by the store module
that owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from connector_sdk.messages import Message
from connectors.domain.connection import Health
from connectors.domain.person import Reference, TillId
from connectors.store import connections, inbox, ledger, relay
from connectors.store.engine import Store, Transaction
from connectors.store.query_parts import in_parts
from connectors.sync.person_search import READ_AT_ONCE, Person, ReportProgress, journal_lines_of

_ERASED_AT_ONCE = 50
"""Sales in one transaction: no sale at the till waits longer for it than for a busy commit."""


async def erase(store: Store, person: Person, by: str | None, report_progress: ReportProgress) -> None:
    """Erase everything of a person, journalled as done `by` somebody; ended in the middle, it can be run again."""
    # The order is what makes a second run safe. The mark comes first: from then on nothing that a till says of their
    # older receipts is stored, so nothing comes back behind the erasing.
    await store.write(partial(_mark, person=person))
    await _erase_inbox(store, person)
    # The journal is masked before the sales, by the digits of their cards, and after them, for what was written
    # meanwhile.
    await _mask_journal(store, person)
    await _erase_all_sales(store, person, by, report_progress)
    await _mask_journal(store, person)
    # What leads from one of their names to the others goes last. A run that was cut off before this finds the same
    # person again, by whichever name it is given; after it nothing does.
    await store.write(lambda tx: ledger.cards.erase(tx, person.customers))
    await store.write(partial(_journal_erasure, person=person), by)
    # the former texts still stand in older pages of the write-ahead log
    await store.clear_log()


def _mark(tx: Transaction, person: Person) -> None:
    names: list[Reference | TillId] = [*sorted(person.references), *sorted(person.till_ids)]
    ledger.forgotten_customers.mark(tx, person.business.id, names)


async def _erase_inbox(store: Store, person: Person) -> None:
    """Delete what arrived and is no sale (yet), and half-made connections whose samples show the person."""
    for part in in_parts(person.bodies, READ_AT_ONCE):
        await store.write(partial(inbox.unreadable.delete_bodies, ids=part))
    for part in in_parts(person.requests, READ_AT_ONCE):
        await store.write(partial(inbox.captured.delete, ids=part))
    for events in in_parts(person.events, READ_AT_ONCE):
        await store.write(partial(inbox.loyalty_events.delete, seqs=events))
    for events in in_parts(person.relayed, READ_AT_ONCE):
        await store.write(partial(relay.deliveries.delete_events, seqs=events))
    for draft in person.drafts:
        await store.write(partial(connections.drafts.delete, draft_id=draft.id, owner=draft.owner))


async def _mask_journal(store: Store, person: Person) -> None:
    lines = await journal_lines_of(store, person)
    for part in in_parts(lines, READ_AT_ONCE):
        await store.write(partial(ledger.journal.replace_lines, lines=part))


async def _erase_all_sales(store: Store, person: Person, by: str | None, report_progress: ReportProgress) -> None:
    done = 0
    for part in in_parts(person.sales, _ERASED_AT_ONCE):
        await store.write(partial(_erase_sales, person=person, ids=part), by)
        done += len(part)
        await report_progress(done / len(person.sales))


def _erase_sales(tx: Transaction, person: Person, ids: Sequence[str]) -> None:
    """Put a word that leads nowhere in the customer's place: sums and bindings stay what they were."""
    opaque = {sale_id: ledger.sales.opaque_customer(tx, sale_id) for sale_id in ids}
    ledger.operations.erase_customers(tx, ids, person.hashes, person.cards, opaque)
    ledger.sales.erase_customers(tx, ids, person.hashes)
    ledger.claims.erase(tx, ids, person.cards)


def _journal_erasure(tx: Transaction, person: Person) -> None:
    """Write a line in the journal of each connection that is not removed, which does not say who it was."""
    for connection in person.connections:
        if connection.health is not Health.removed:
            ledger.journal.write(tx, connection.id, Message("connection.forgot"))
