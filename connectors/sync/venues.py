"""Venues: which connection of a till account a receipt belongs to, by where it was closed.

Owns the choice for what one read of a till brings, and what is said of a receipt whose venue nobody has; that two
connections never share a venue is `lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.sale import Sale, SaleStatus
from connectors.domain.clock import micros
from connectors.domain.connection import Connection
from connectors.store import connections, ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.journal import NewLine
from connectors.store.ledger.sales import sale_id_of

_MOST_TOLD = 100
"""Lines about receipts of venues that are nobody's, for one page of a read."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Whom the receipts of a read belong to: each with a connection that takes it in, and those that nobody has."""

    taken: Sequence[tuple[Connection, Sale]] = ()
    uncovered: Sequence[Sale] = ()


def targets(tx: Transaction, readers: Sequence[Connection], sales: Sequence[Sale]) -> Targets:
    """Choose for each receipt the connection that takes it in, of those for which one read serves: its own first.

    That is the one that covers its venue, or else one that has the receipt already: it stays with whom it was given to,
    wherever its venue is now.
    """
    reader = readers[0]
    if len(readers) == 1 and not reader.scope:
        return Targets([(reader, sale) for sale in sales])
    taken: list[tuple[Connection, Sale]] = []
    left: list[Sale] = []
    for sale in sales:
        covering = next((connection for connection in readers if connection.covers(sale.location_id)), None)
        if covering is not None:
            taken.append((covering, sale))
        else:
            left.append(sale)
    if not left:
        return Targets(taken)
    owners = _owners(tx, readers, left)
    taken += [(owners[sale.receipt_id], sale) for sale in left if sale.receipt_id in owners]
    account = connections.registry.of_account(tx, reader.connector, reader.account.id)
    uncovered = [
        sale
        for sale in left
        if sale.receipt_id not in owners and not any(other.covers(sale.location_id) for other in account)
    ]
    return Targets(taken, uncovered)


def _owners(tx: Transaction, readers: Sequence[Connection], sales: Sequence[Sale]) -> dict[str, Connection]:
    """Map receipt id to the reader that has the receipt in the ledger already."""
    by_id = {connection.id: connection for connection in readers}
    receipts = {_sale_id(tx, readers[0], sale): sale.receipt_id for sale in sales}
    owners = ledger.sales.connections_of(tx, list(receipts))
    return {receipts[sale_id]: by_id[owner] for sale_id, owner in owners.items() if owner in by_id}


def _sale_id(tx: Transaction, reader: Connection, sale: Sale) -> str:
    return sale_id_of(tx, reader.business_id, reader.connector, reader.account.id, sale.receipt_id)


def note_uncovered(tx: Transaction, reader: Connection, sales: Sequence[Sale]) -> None:
    """Write a line for each receipt whose venue is nobody's, once; a backfill brings it when somebody takes the venue.

    Not for what a person left to nobody, nor for receipts from before the connection; nor while nobody knows what was
    left out, which the next check of the account shows.
    """
    if reader.scope and reader.left_out is None:
        return
    left_out = set(reader.left_out or ())
    news = {
        _sale_id(tx, reader, sale): sale
        for sale in sales
        if sale.location_id not in left_out and _is_news(reader, sale)
    }
    told = ledger.journal.sales_with_lines(tx, list(news))
    lines = [
        NewLine(reader.id, _uncovered(reader, sale), sale.receipt_id, sale_id)
        for sale_id, sale in news.items()
        if sale_id not in told
    ]
    ledger.journal.write_lines(tx, lines[:_MOST_TOLD])


def _uncovered(reader: Connection, sale: Sale) -> Message:
    params = {"receipt": sale.receipt_id, "place": name_of(reader.account, sale.location_id)}
    return Message("sale.uncovered", params)


def _is_news(reader: Connection, sale: Sale) -> bool:
    return sale.status is SaleStatus.closed and sale.closed_at is not None and reader.admits(micros(sale.closed_at))


def name_of(account: TillAccount, location_id: str | None) -> str:
    """Return what people call a venue: its name, or its id where it is not listed (yet)."""
    return next((venue.name for venue in account.locations if venue.id == location_id), location_id or "?")
