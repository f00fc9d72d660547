"""Forgotten customers in what arrives: their names are stripped before anything is compared or stored.

Owns which snapshots name a forgotten customer; the marks are `connectors.store.ledger.forgotten_customers`'.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from connector_sdk.sale import Sale
from connectors.domain.clock import micros
from connectors.domain.connection import Connection
from connectors.domain.person import Reference, TillId, references
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.sync.snapshots import Snapshot, Source


def sale_id_of(tx: Transaction, snapshot: Snapshot) -> str:
    """Return the ledger's id of a snapshot's receipt."""
    connection = snapshot.connection
    return ledger.sales.sale_id_of(
        tx, connection.business_id, connection.connector, connection.account.id, snapshot.sale.receipt_id
    )


def strip_forgotten(
    tx: Transaction, ids: Sequence[str], snapshots: Sequence[Snapshot], anonymous: Collection[str]
) -> list[Snapshot]:
    """Strip the customers who were forgotten: those of `anonymous` sales, and whoever has a mark.

    A mark counts for receipts that were closed before it was made, and for open ones: who comes back and gives their
    name anew is a customer like any other.
    """
    names = _names_by_snapshot(tx, snapshots)
    marks = ledger.forgotten_customers.marks(tx, {mark for hashes in names for mark in hashes})
    return [
        _without_customer(snapshot) if sale_id in anonymous or _is_marked(snapshot, hashes, marks) else snapshot
        for sale_id, snapshot, hashes in zip(ids, snapshots, names, strict=True)
    ]


def _without_customer(snapshot: Snapshot) -> Snapshot:
    if snapshot.sale.customer is None:
        return snapshot
    return replace(snapshot, sale=snapshot.sale.model_copy(update={"customer": None}))


def _is_marked(snapshot: Snapshot, hashes: Sequence[str], marks: Mapping[str, int]) -> bool:
    """Say whether a snapshot's customer was marked after the receipt was closed, by the youngest of their marks."""
    marked_at = max((marks[mark] for mark in hashes if mark in marks), default=None)
    closed_at = snapshot.sale.closed_at
    return marked_at is not None and (closed_at is None or micros(closed_at) <= marked_at)


def _names_by_snapshot(tx: Transaction, snapshots: Sequence[Snapshot]) -> list[list[str]]:
    """For each snapshot, the hashes under which its customer would be marked; none where its business has no marks."""
    businesses = ledger.forgotten_customers.businesses_with_marks(
        tx, {snapshot.connection.business_id for snapshot in snapshots}
    )
    return [
        _marks_of(tx, snapshot, businesses[snapshot.connection.business_id])
        if snapshot.connection.business_id in businesses
        else []
        for snapshot in snapshots
    ]


def _marks_of(tx: Transaction, snapshot: Snapshot, country: str) -> list[str]:
    connection, customer = snapshot.connection, snapshot.sale.customer
    if customer is None:
        return []
    # a phone without its country's code is of the account's country, or else the business's
    names: list[Reference | TillId] = [*references(customer, connection.account.country or country)]
    if customer.till_id:
        names.append(TillId(connection.connector, connection.account.id, customer.till_id))
    return [ledger.forgotten_customers.mark_hash(tx, connection.business_id, name) for name in names]


def names_forgotten(tx: Transaction, connection: Connection, sales: Sequence[Sale]) -> bool:
    """Say whether some of these sales name a customer who was forgotten since."""
    snapshots = [Snapshot(connection, sale, Source.push, None) for sale in sales]
    ids = [sale_id_of(tx, snapshot) for snapshot in snapshots]
    stored = ledger.sales.digests_of(tx, ids)
    anonymous = {sale_id for sale_id, digest in stored.items() if digest.is_anonymous}
    stripped = strip_forgotten(tx, ids, snapshots, anonymous)
    return any(after.sale.customer != before.sale.customer for after, before in zip(stripped, snapshots, strict=True))
