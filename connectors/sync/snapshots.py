"""Snapshots: receipts as a till reports them, and which of two is the younger.

Owns the order of snapshots; what a snapshot changes is `ingest`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from connector_sdk.sale import Sale, SaleStatus
from connectors.domain.connection import Connection
from connectors.store.ledger.sales import SaleRow


class Source(StrEnum):
    """How a snapshot came; stored with each version."""

    poll = "poll"
    """The fast read of what changed since the checkpoint."""
    lookback = "lookback"
    """The second look at the last business days."""
    hint = "hint"
    """A fetch of one receipt, which a hook or a doubt asked for."""
    push = "push"
    """A hook that carries the whole receipt."""
    backfill = "backfill"
    """History that a person asked for: it admits what came before the connection."""
    imported = "import"
    """A row of a file: it admits as history does, and like a push it says nothing of its age."""

    @property
    def admits(self) -> bool:
        """Whether receipts from before the connection are admitted by it."""
        return self in (Source.backfill, Source.imported)


class Outcome(StrEnum):
    """What a snapshot did."""

    unchanged = "unchanged"
    """It says what is known already: nothing was written."""
    stored = "stored"
    """It is the receipt's new version, and planned."""
    lost = "lost"
    """It is older than what is known, or would undo it; the journal says so, the first time."""
    kept = "kept"
    """It could not be taken in: it is kept for a person."""
    hinted = "hinted"
    """It cannot be ordered: the till is asked for the receipt."""
    elsewhere = "elsewhere"
    """Its location is another connection's, or its connection is removed."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A receipt as the till knew it at some moment.

    `ticket` orders what was read of the till; a push has none. `fetches` says whether the till can be asked for one
    receipt. `arrived_at` (UTC microseconds) is for a stored body that is read again; `None` for what arrives now.
    """

    connection: Connection
    sale: Sale
    source: Source
    ticket: int | None
    fetches: bool = True
    arrived_at: int | None = None

    @property
    def is_push(self) -> bool:
        """Whether nobody read it of the till just now: the moment it arrives says nothing of its age."""
        return self.source in (Source.push, Source.imported)


def are_ordered(row: SaleRow, snapshot: Snapshot) -> bool:
    """Say whether the till's own versions tell which of the two is younger.

    They do not where one has none (it may have been taught only now), or where both are the same: many tills write
    whole seconds, and an order is paid and refunded within one.
    """
    ours, theirs = row.version, snapshot.sale.version
    return ours is not None and theirs is not None and ours != theirs


def is_newer(row: SaleRow, snapshot: Snapshot) -> bool:
    """Say whether a snapshot is younger than what is stored: by the till's own version, or else by the ticket."""
    # the till's own word counts more than when we happened to read
    if are_ordered(row, snapshot):
        return (snapshot.sale.version or 0) > (row.version or 0)
    # tickets are issued when a read is claimed, so an older read that ends later is still older
    return snapshot.ticket is not None and snapshot.ticket > row.ticket


def undoes(row: SaleRow, sale: Sale) -> bool:
    """Say whether a snapshot shrinks what was refunded or reopens what was voided.

    A void counts whatever it says of refunds.
    """
    # some tills empty the refund of what they void: the void is what is true of it
    if sale.status is SaleStatus.voided:
        return False
    return sale.refunded.minor < row.refunded or row.status == SaleStatus.voided
