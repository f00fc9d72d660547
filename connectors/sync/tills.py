"""The connectors of the connections, each built once from its decrypted settings and kept while those hold.

Owns instances and their shared connection pool; which connectors there are is `connectors.plugins`'.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, get_args

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import ConnectorError
from connector_sdk.http import production_transport
from connectors.domain.connection import Connection
from connectors.store.vault import Vault

Classes = Mapping[str, type[Connector[Any]]]
_AT_MOST = 5000
NEEDED = "this is needed"
STRANGE = "this is not written as it should be: see the example"


class NoConnector(ConnectorError):
    """The connection's plugin is not here (set aside, or not installed)."""


class Tills:
    """Connector instances by connection."""

    def __init__(self, classes: Classes, vault: Vault, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.classes = classes
        self._vault = vault
        self._transport = transport
        self._kept: dict[str, tuple[int, Connector[Any]]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, connection: Connection) -> Connector[Any]:
        """The connector of a connection. Raises `NoConnector`."""
        kept = self._kept.get(connection.id)
        if kept is not None and kept[0] == connection.generation:
            return kept[1]
        values = json.loads(self._vault.decrypt(connection.settings))
        made = self.build(connection.connector, values, connection.account)
        if kept is not None:
            self._retire(kept[1])
        elif len(self._kept) >= _AT_MOST:
            self._retire(self._kept.pop(next(iter(self._kept)))[1])
        self._kept[connection.id] = (connection.generation, made)
        return made

    def build(self, name: str, values: Mapping[str, Any], account: TillAccount | None = None) -> Connector[Any]:
        """A connector from settings in the clear. Raises `NoConnector`; `pydantic.ValidationError` for settings."""
        found = self.classes.get(name)
        if found is None:
            raise NoConnector(f"the connector {name!r} is not here: see `connectors plugins`")
        if self._transport is None:
            self._transport = production_transport()
        settings: BaseModel = found.settings_model.model_validate(dict(values))
        return found(settings, app=app_settings(found), account=account, transport=self._transport)

    def _retire(self, connector: Connector[Any]) -> None:
        task = asyncio.get_running_loop().create_task(connector.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        for _, connector in self._kept.values():
            await connector.aclose()
        if self._transport is not None:
            await self._transport.aclose()


def app_settings(found: type[Connector[Any]]) -> Any:
    """What the operator set for all of a connector's connections, from its own environment variables."""
    return found.app_model() if found.app_model is not None else None


def secret_fields(connector_class: type[Connector[Any]]) -> set[str]:
    """Return the names of the settings that are stored encrypted and never shown again."""
    return {
        name
        for name, field in connector_class.settings_model.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    }


def plain_reason(error: Any) -> str:
    """What pydantic says of one field, as a sentence for whoever typed it."""
    if error["type"] == "missing":
        return NEEDED
    if error["type"] == "string_pattern_mismatch":  # a pattern says nothing to whoever types
        return STRANGE
    return str(error["msg"]).removeprefix("Value error, ").removesuffix(".")


def located(error: Any) -> tuple[str, str]:
    """The field that one of pydantic's errors is about, and why; a model's own check says it as "field: why"."""
    why, name = plain_reason(error), ".".join(str(part) for part in error["loc"])
    if not name and (said := re.fullmatch(r"([a-z_]+): (.+)", why)):
        return said[1], said[2]
    return name, why


def wrong_fields(error: ValidationError, *, prefix: str = "") -> str:
    """What is wrong with settings, a field each (an environment variable with `prefix`); never their values."""
    said: list[str] = []
    for one in error.errors(include_input=False):
        name, why = located(one)
        name = name or "settings"
        shown = (prefix + name).upper() if prefix else repr(name)
        said.append(f"{shown} is missing" if why == NEEDED else f"{shown} is not right ({why[:1].lower()}{why[1:]})")
    return "; ".join(said)
