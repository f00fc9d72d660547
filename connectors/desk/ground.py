"""What all of the desk stands on: the parts it works with, and in whose name it writes."""

from __future__ import annotations

import asyncio
import copy
import difflib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Self, TypeVar

from connector_sdk.connector import Connector
from connector_sdk.rule import StampRule
from connectors.desk.refusal import Refusal
from connectors.domain.connection import Connection
from connectors.isolation import PluginRunner
from connectors.sevenstamp.client import SevenStamp
from connectors.store import connections
from connectors.store.engine import Store, Transaction
from connectors.sync.delivering import Deliverer
from connectors.sync.hooking import HookDoor
from connectors.sync.identifying import Identifier
from connectors.sync.reading import Reader
from connectors.sync.tills import Tills, app_settings

T = TypeVar("T")
EMAIL = re.compile(r"(?=.{6,254}$)[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")


class Ground:
    """The parts; the actions are its subclasses'."""

    def __init__(
        self,
        store: Store,
        tills: Tills,
        sevenstamp: SevenStamp | None,
        reader: Reader,
        identifier: Identifier | None,
        deliverer: Deliverer | None,
        hooks: HookDoor,
        runner: PluginRunner,
        public_url: Callable[[], str],
        without_sevenstamp: str | None = None,
    ) -> None:
        self._store = store
        self._tills = tills
        self._sevenstamp = sevenstamp
        self._reader = reader
        self._identifier = identifier
        self._deliverer = deliverer
        self._hooks = hooks
        self._runner = runner
        self._public_url = public_url
        self._without_sevenstamp = without_sevenstamp
        self._by: str | None = None
        self._rotation = asyncio.Lock()
        self._rotated: dict[str, Any] | None = None

    def by(self, who: str) -> Self:
        """The same desk for somebody: what changes is journalled with that name."""
        theirs = copy.copy(self)
        theirs._by = who
        return theirs

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        return await self._store.write(work, self._by)

    def connector(self, name: str) -> type[Connector[Any]]:
        """The connector of that name. Raises `Refusal` that names the known ones, nearest first."""
        found = self._tills.classes.get(name)
        if found is None:
            known = ", ".join(nearest(name, self._tills.classes))
            raise Refusal("there is no connector '{name}'; known: {known}", name=name, known=known)
        return found

    def offered(self) -> list[type[Connector[Any]]]:
        """The connectors for which the operator has set what they cannot do without, by name."""
        classes = self._tills.classes
        return [classes[name] for name in sorted(classes) if classes[name].offered(app_settings(classes[name]))]

    @property
    def sevenstamp(self) -> SevenStamp:
        """The client of 7stamp. Raises `Refusal` where its address is not set."""
        if self._sevenstamp is None:
            raise Refusal(self._without_sevenstamp or "CONNECTORS_SEVENSTAMP_URL is not set")
        return self._sevenstamp

    def needs_sevenstamp(self) -> None:
        """Refuse what cannot be done where the operator has not said where 7stamp is. Raises `Refusal`."""
        _ = self.sevenstamp

    def settings_of(self, one: Connection) -> dict[str, Any]:
        """A connection's settings in the clear: never to be shown."""
        found: dict[str, Any] = json.loads(self._store.vault.decrypt(one.settings))
        return found

    async def get(self, connection_id: str) -> Connection:
        return await self._store.read(lambda tx: connections.get(tx, connection_id))

    async def rule(self, one: Connection) -> StampRule:
        """The rule in force now."""
        return (await self._store.read(lambda tx: connections.rules(tx, one.id)))[-1].rule


def nearest(wanted: str, known: Iterable[str]) -> list[str]:
    """The known names, those most like `wanted` first."""
    return sorted(known, key=lambda one: (-difflib.SequenceMatcher(None, wanted, one).ratio(), one))
