"""Subscriptions: which hook address a till was told, and the key that it gave for proving its hooks.

Owns how both are kept, encrypted, in a column of the table `connection`; when a till is told is
`connectors.sync.subscriptions`'.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from pydantic import SecretStr

from connectors.domain.connection import Connection
from connectors.store.connections import registry
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table
from connectors.store.vault import Vault


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a till was told, and what it gave: `key` is `None` where its hooks are proven in another way."""

    address: str = field(repr=False)
    key: SecretStr | None = None


def of_connection(vault: Vault, connection: Connection) -> Subscription | None:
    """Return a connection's subscription; `None` where its till was told no address."""
    if connection.subscribed is None:
        return None
    content = json.loads(vault.decrypt(connection.subscribed))
    return Subscription(content["address"], SecretStr(content["key"]) if content["key"] is not None else None)


def record(tx: Transaction, connection_id: str, subscription: Subscription) -> None:
    """Keep what a till was told and gave; whoever reads hooks notices by the generation."""
    key = subscription.key.get_secret_value() if subscription.key is not None else None
    columns = {
        "subscribed": tx.vault.encrypt(json.dumps({"address": subscription.address, "key": key})),
        "generation": connection_table.c.generation + 1,
    }
    registry.update(tx, connection_table.c.id == connection_id, columns)
