"""The pluggy hooks of the host, which a plugin implements to decide something or to be notified.

Owns their signatures, one sentence and one use each; the host owns when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pluggy

# for type checkers only: a plugin that is no till needs neither the connector's imports nor the command line's
if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from connector_sdk.connector import Connector
    from connector_sdk.loyalty import LoyaltyEvent
    from connector_sdk.rule import StampRule
    from connector_sdk.sale import Sale

PROJECT = "sevenstamp_connectors"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[["type[Connector[BaseModel]]"], None]
"""Registers one connector class."""


@dataclass(frozen=True, slots=True)
class ConnectionFacts:
    """A connection as plugins see it, without secrets and customers.

    `zone` is that of the sale's location where the call is about a sale, and the account's elsewhere.
    """

    id: str
    connector: str
    account: str
    title: str
    business_id: str
    zone: str
    currency: str


@dataclass(frozen=True, slots=True)
class OperationFacts:
    """An operation that was settled: `state` is applied, held or rejected; `count` is a number of stamps."""

    id: str
    receipt_id: str
    kind: str
    count: int
    state: str
    code: str


@hookspec
def register_connectors(register: Register) -> None:
    """Register connector classes: `register(MyTill)`."""


# `firstresult`: pluggy asks plugin after plugin until one answers, and that answer stands
@hookspec(firstresult=True)
def stamps_for_sale(connection: ConnectionFacts, sale: Sale, rule: StampRule, stamps: int) -> int | None:
    """Decide a sale's stamps instead of the rule, which would give `stamps`; pure; `None` leaves it to others."""


@hookspec
async def sale_ingested(connection: ConnectionFacts, sale: Sale) -> None:
    """A new version of a sale was committed."""


@hookspec
async def operation_settled(connection: ConnectionFacts, operation: OperationFacts) -> None:
    """An operation was applied, held or rejected, and that was committed."""


@hookspec
async def loyalty_event(event: LoyaltyEvent) -> None:
    """7stamp told of something that happened to a card, and its effects were committed."""


@hookspec
async def connection_health_changed(connection: ConnectionFacts, state: str, reason: str) -> None:
    """A connection's state changed; `reason` is one English sentence."""


@hookspec
def register_commands(cli: typer.Typer) -> None:
    """Add commands to the `typer.Typer` application."""
