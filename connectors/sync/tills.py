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

from connector_sdk.connector import Connector, OperatorSettings, TillAccount
from connector_sdk.errors import ConnectorError
from connector_sdk.http import production_transport
from connectors.domain.connection import Connection
from connectors.store.vault import Vault

ConnectorClasses = Mapping[str, type[Connector[BaseModel]]]
_MOST_INSTANCES = 5000
"""Instances kept at once: one takes some kilobytes, and decrypting settings anew is cheap."""


class NoConnector(ConnectorError):
    """The connection's plugin is not here: it was set aside, or is not installed."""


@dataclass(frozen=True, slots=True)
class _Instance:
    """A connector, and the generation of the connection's settings that it was built from."""

    generation: int
    connector: Connector[BaseModel]


class Tills:
    """Connector instances by connection."""

    def __init__(
        self, classes: ConnectorClasses, vault: Vault, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.classes = classes
        self._vault = vault
        self._transport = transport
        self._instances: dict[str, _Instance] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, connection: Connection) -> Connector[BaseModel]:
        """Return the connector of a connection, as its settings are in `connection`.

        Raises `NoConnector`, and `pydantic.ValidationError` where the settings do not fit the connector any more.
        """
        former = self._instances.get(connection.id)
        if former is not None and former.generation == connection.generation:
            return former.connector
        values: dict[str, object] = json.loads(self._vault.decrypt(connection.settings))
        # built before the former one goes: where the new settings do not fit, that one stays
        connector = self.build(connection.connector, values, connection.account)
        if former is not None:
            self._close_later(former.connector)
        elif len(self._instances) >= _MOST_INSTANCES:
            self._close_later(self._instances.pop(next(iter(self._instances))).connector)
        self._instances[connection.id] = _Instance(connection.generation, connector)
        return connector

    def build(
        self, name: str, values: Mapping[str, object], account: TillAccount | None = None
    ) -> Connector[BaseModel]:
        """Build a connector from settings in the clear. Raises `NoConnector`, and `pydantic.ValidationError`."""
        connector_class = self.classes.get(name)
        if connector_class is None:
            raise NoConnector(f"the connector {name!r} is not here: see `connectors plugins`")
        if self._transport is None:
            self._transport = production_transport()
        settings = connector_class.settings_model.model_validate(dict(values))
        app = app_settings(connector_class)
        return connector_class(settings, app=app, account=account, transport=self._transport)

    def _close_later(self, connector: Connector[BaseModel]) -> None:
        """Close a connector in a task of its own: whoever asked for the new one does not wait for it."""
        task = asyncio.get_running_loop().create_task(connector.aclose())
        self._closing.add(task)  # the loop itself keeps only weak references to tasks
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all connectors, and the transport that they share."""
        for instance in self._instances.values():
            await instance.connector.aclose()
        if self._transport is not None:
            await self._transport.aclose()


def app_settings(connector_class: type[Connector[BaseModel]]) -> OperatorSettings:
    """Return what the operator set for all of a connector's connections, from its own environment variables.

    `None` where the connector has no such settings.
    """
    return connector_class.app_model() if connector_class.app_model is not None else None


def secret_fields(connector_class: type[Connector[BaseModel]]) -> set[str]:
    """Return the names of the settings that are stored encrypted and never shown again."""
    return {
        name
        for name, field in connector_class.settings_model.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }
