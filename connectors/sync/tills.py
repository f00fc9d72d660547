"""Tills: the connectors of the connections, each built once from its decrypted settings and kept while those hold.

Owns the instances and the HTTP transport that they share; which connectors there are is `connectors.plugins`'.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk.authorisation import Credentials, Token
from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import ConnectorError
from connector_sdk.http import ConnectionShare, production_transport
from connector_sdk.index import Index, require_short
from connectors.descriptors import till_calls
from connectors.domain.clock import DAY
from connectors.domain.connection import Connection
from connectors.domain.retry_pauses import LOOKBACK_EVERY
from connectors.store import connections
from connectors.store.connections.till_index import IndexOwner
from connectors.store.engine import Store
from connectors.sync.operator_settings import app_settings
from connectors.sync.renewals import RenewedCredentials, Renewer

ConnectorClasses = Mapping[str, type[Connector[BaseModel]]]
_CALLS_OF_A_TILL = 16
"""Calls of one connection at once: a till that hangs keeps those, and none of another's."""
_MOST_INSTANCES = 5000
"""Instances kept at once: one takes some kilobytes, and decrypting settings anew is cheap."""


class NoConnector(ConnectorError):
    """The connection's plugin is not here: it was set aside, or is not installed."""


@dataclass(frozen=True, slots=True)
class _Instance:
    """A connector, and the generation of the connection's settings that it was built from."""

    generation: int
    connector: Connector[BaseModel]


class _StoredIndex(Index):
    """The index of a connection's till account, in the database."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self._store = store
        self._owner = IndexOwner(connection.business_id, connection.connector, connection.account.id)

    async def add(self, key: str, value: str) -> None:
        """Add a value to a key. Raises `ValueError` for texts that are empty or too long."""
        require_short(key, value)
        await self._store.write(lambda tx: connections.till_index.add(tx, self._owner, key, value))

    async def values(self, key: str) -> tuple[str, ...]:
        """Return the values of a key."""
        return await self._store.read(lambda tx: connections.till_index.values(tx, self._owner, key))


class Tills:
    """Connector instances by connection."""

    def __init__(
        self, classes: ConnectorClasses, store: Store, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.classes = classes
        self._store = store
        self._vault = store.vault
        self._transport = transport
        self._shares: dict[str, ConnectionShare] = {}
        """What calls all tills of a connector: half of all calls, should its vendor answer nothing."""
        self.renewer = Renewer(store, classes, self.transport)
        self._instances: dict[str, _Instance] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def lookback_pause(self, connector: str) -> int:
        """Return the microseconds between second looks: a day where polls see every change, else an hour."""
        return DAY if self.classes[connector].poll_sees_every_change else LOOKBACK_EVERY

    def read_key(self, connection: Connection, account: TillAccount) -> str:
        """Return what is the same for connections that read an account in the same way."""
        values: dict[str, object] = json.loads(self._vault.decrypt(connection.settings))
        return self.read_key_of(connection.connector, values, account)

    def read_key_of(self, name: str, values: Mapping[str, object], account: TillAccount) -> str:
        """Return what is the same for settings that read an account in the same way.

        That is so where they agree in all but secrets, and where what lets them in shows them the same venues: one read
        then serves all of them.
        """
        secret = secret_fields(self.classes[name])
        known = {field: str(value) for field, value in values.items() if field not in secret and value is not None}
        venues = sorted(location.id for location in account.locations)
        return self._vault.hash("read key", json.dumps([sorted(known.items()), venues]))

    def of(self, connection: Connection) -> Connector[BaseModel]:
        """Return the connector of a connection, as its settings are in `connection`.

        Raises `NoConnector`, and `pydantic.ValidationError` where the settings do not fit the connector any more.
        """
        former = self._instances.get(connection.id)
        if former is not None and former.generation == connection.generation:
            return former.connector
        values: dict[str, object] = json.loads(self._vault.decrypt(connection.settings))
        # built before the former one goes: where the new settings do not fit, that one stays
        connector = self.build(connection.connector, values, connection.account, self.credentials_of(connection))
        connector.index = _StoredIndex(self._store, connection)
        subscription = connections.subscriptions.of_connection(self._vault, connection)
        connector.hook_key = subscription.key if subscription is not None else None
        if former is not None:
            self._close_later(former.connector)
        elif len(self._instances) >= _MOST_INSTANCES:
            self._close_later(self._instances.pop(next(iter(self._instances))).connector)
        self._instances[connection.id] = _Instance(connection.generation, connector)
        return connector

    def credentials_of(self, connection: Connection) -> Credentials | None:
        """Return what a connection's consent granted, renewed as needed; `None` where a token was pasted."""
        grant = connections.stored_grants.of_connection(self._vault, connection)
        return RenewedCredentials(connection.id, grant, self.renewer) if grant is not None else None

    def build(
        self,
        name: str,
        values: Mapping[str, object],
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
    ) -> Connector[BaseModel]:
        """Build a connector from settings in the clear. Raises `NoConnector`, and `pydantic.ValidationError`."""
        connector_class = self.classes.get(name)
        if connector_class is None:
            raise NoConnector(f"the connector {name!r} is not here: see `connectors plugins`")
        settings = connector_class.settings_model.model_validate(dict(values))
        app = app_settings(connector_class)
        transport = ConnectionShare(self.transport(name), _CALLS_OF_A_TILL)
        return connector_class(settings, app=app, account=account, credentials=credentials, transport=transport)

    def transport(self, name: str) -> httpx.AsyncBaseTransport:
        """Return what calls all tills of a connector, made at its first use."""
        if self._transport is None:
            self._transport = production_transport(till_calls())
        if name not in self._shares:
            self._shares[name] = ConnectionShare(self._transport, max(1, till_calls() // 2))
        return self._shares[name]

    def _close_later(self, connector: Connector[BaseModel]) -> None:
        """Close a connector in a task of its own: whoever asked for the new one does not wait for it."""
        task = asyncio.get_running_loop().create_task(connector.aclose())
        self._closing.add(task)  # the loop itself keeps only weak references to tasks
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all connectors, after what is being renewed, and the transport that they share."""
        await self.renewer.aclose()
        for instance in self._instances.values():
            await instance.connector.aclose()
        if self._transport is not None:
            await self._transport.aclose()


def token_fields(connector_class: type[Connector[BaseModel]]) -> set[str]:
    """Return the names of the settings into which a cafe pastes what lets us in."""
    return {way.field for way in connector_class.authorisation if isinstance(way, Token)}


def without_tokens(connector_class: type[Connector[BaseModel]], values: Mapping[str, object]) -> dict[str, object]:
    """Return settings without what a cafe pasted to let us in: a consent takes its place."""
    tokens = token_fields(connector_class)
    return {name: value for name, value in values.items() if name not in tokens}


def secret_fields(connector_class: type[Connector[BaseModel]]) -> set[str]:
    """Return the names of the settings that are stored encrypted and never shown again."""
    return {
        name
        for name, field in connector_class.settings_model.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
