"""Domain events: what a committed transaction changed, for plugins and for whoever waits for work.

Owns their shapes; a transaction collects them, and the store hands them to its listeners after the commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from connector_sdk.hookspecs import ConnectionFacts, OperationFacts
from connector_sdk.loyalty import LoyaltyEvent
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.connection import Health


# A wake-up saves waiting and carries nothing: what is due stands in the database, and a host that missed one (another
# process made the commit) finds the same work when it looks next.
class Wakeup(StrEnum):
    """A kind of work that a commit made due, or that a look at the database found due."""

    poll = "poll"
    """A till is to be read: a poll or a second look."""
    hints = "hints"
    """Receipts that hooks named are to be fetched."""
    identify = "identify"
    """Customers' cards are to be found."""
    deliver = "deliver"
    """Operations are pending."""
    resolve = "resolve"
    """Operations in doubt are to be looked up in their cards' history."""
    renew = "renew"
    """What tills' consents gave is to be renewed."""
    loyalty = "loyalty"
    """Events of 7stamp arrived, and are to take effect."""
    relay = "relay"
    """Events wait for subscribers."""
    vouchers = "vouchers"
    """Vouchers asked for apart from receipts are to be looked up, or sent again."""
    gifts = "gifts"
    """Vouchers are to be found for gifts that were given without a redeem code."""
    commands = "commands"
    """Commands left work to the running host."""
    journal = "journal"
    """Lines were written: open pages have news."""


@dataclass(frozen=True, slots=True)
class SaleIngested:
    """A new version of a sale was stored."""

    connection: ConnectionFacts
    sale: Sale


@dataclass(frozen=True, slots=True)
class OperationSettled:
    """An operation ended, or was held: applied, held or rejected."""

    connection_id: str
    operation: OperationFacts
    business_id: str
    card_id: str | None
    """The card it is for, where one is known."""
    reason: Message | None
    """Why it is held or was rejected."""


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """A connection's health is another than before; `reason` says why where there is a reason."""

    connection: ConnectionFacts
    health: Health
    reason: Message | None


@dataclass(frozen=True, slots=True)
class LoyaltyEventReceived:
    """7stamp told of something that happened to a card of a business."""

    business_id: str
    event: LoyaltyEvent


@dataclass(frozen=True, slots=True)
class ReconciliationDiffers:
    """Till, ledger and cards did not agree about some days of a connection (`2026-11-23`), of so many `receipts`."""

    connection: ConnectionFacts
    days: tuple[str, ...]
    receipts: int
    mended: int
    """How many differences were mended."""
    still_open: int
    """How many need a person."""


DomainEvent = SaleIngested | OperationSettled | HealthChanged | LoyaltyEventReceived | ReconciliationDiffers
