"""The parts that services work with, and in whose name they write.

Owns no decision: each service composes these parts; the host puts them together.
"""

from __future__ import annotations

import asyncio
import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from connector_sdk.rule import StampRule
from connectors.domain.connection import Connection
from connectors.domain.receipt_links import receipt_token
from connectors.isolation import PluginRunner
from connectors.plugins import ConnectorClass
from connectors.relay.addresses import AddressPolicy
from connectors.relay.delivering import RelayDeliverer
from connectors.services.refusal import Refusal
from connectors.services.results import RotationResult
from connectors.sevenstamp.client import SevenStamp
from connectors.store import connections
from connectors.store.engine import Store, Transaction
from connectors.sync.agreement import Reconciler
from connectors.sync.card_lookups import CardLookups
from connectors.sync.delivery import Deliverer
from connectors.sync.gift_vouchers import GiftVouchers
from connectors.sync.hooks import HookReceiver
from connectors.sync.identification import Identifier
from connectors.sync.ingest import Ingestor
from connectors.sync.loyalty_subscriptions import LoyaltySubscriber
from connectors.sync.operator_settings import app_settings
from connectors.sync.rechecks import Rechecker
from connectors.sync.subscriptions import Subscriber
from connectors.sync.till_reader import TillReader
from connectors.sync.tills import Tills
from connectors.sync.vouchers import Vouchers

ResultT = TypeVar("ResultT")
SettingValues = Mapping[str, object]
"""The settings of a connector by field, in the clear."""
EMAIL = re.compile(r"(?=.{6,254}$)[A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
"""An email address that people have: linear to match, 254 characters at most (RFC 5321)."""


@dataclass(slots=True)
class RotationState:
    """Lets one rotation of the secret key run at a time; `result` is the last one's, `None` where it failed."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    result: RotationResult | None = None


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """The parts of a host that services use; `by` is who asks, `None` for the host itself."""

    store: Store
    tills: Tills
    sevenstamp_client: SevenStamp | None
    reader: TillReader
    identifier: Identifier | None
    deliverer: Deliverer | None
    hooks: HookReceiver
    subscriber: Subscriber
    loyalty_subscriber: LoyaltySubscriber | None
    vouchers: Vouchers | None
    gifts: GiftVouchers | None
    lookups: CardLookups | None
    reconciler: Reconciler | None
    rechecker: Rechecker | None
    addresses: AddressPolicy
    relay: RelayDeliverer
    runner: PluginRunner
    ingestor: Ingestor
    public_url: Callable[[], str]
    """Asked each time: where the host is reached is known for good only once it listens."""
    without_sevenstamp: str | None = None
    """Why nothing can be asked of 7stamp; `None` where it can."""
    by: str | None = None
    rotation: RotationState = field(default_factory=RotationState)

    def on_behalf_of(self, person: str) -> ServiceContext:
        """Return a context whose writes are journalled with the name of this person."""
        return dataclasses.replace(self, by=person)

    async def write(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """Run `work` in a transaction that is journalled in the name of whoever asks."""
        return await self.store.write(work, self.by)

    def connector_class(self, name: str) -> ConnectorClass:
        """Return the connector of that name. Raises `Refusal`, which names the known ones, nearest first."""
        # a plugin that is set aside is not among them: `connectors plugins` says why
        connector_class = self.tills.classes.get(name)
        if connector_class is None:
            known = ", ".join(nearest(name, self.tills.classes))
            raise Refusal("there is no connector '{name}'; known: {known}", name=name, known=known)
        return connector_class

    def offered_connectors(self) -> list[ConnectorClass]:
        """List the connectors for which the operator has set what they cannot do without, by name."""
        classes = self.tills.classes
        return [classes[name] for name in sorted(classes) if classes[name].offered(app_settings(classes[name]))]

    @property
    def sevenstamp(self) -> SevenStamp:
        """The client of 7stamp. Raises `Refusal` where its address is not set."""
        if self.sevenstamp_client is None:
            raise self.refusal_without_sevenstamp()
        return self.sevenstamp_client

    def require_sevenstamp(self) -> None:
        """Refuse what cannot be done where the operator has not said where 7stamp is. Raises `Refusal`."""
        _ = self.sevenstamp

    def refusal_without_sevenstamp(self) -> Refusal:
        """Return the refusal of what needs 7stamp, which says how to set its address."""
        return Refusal(self.without_sevenstamp or "CONNECTORS_SEVENSTAMP_URL is not set")

    def settings_of(self, connection: Connection) -> dict[str, object]:
        """Decrypt a connection's settings: never to be shown."""
        settings: dict[str, object] = json.loads(self.store.vault.decrypt(connection.settings))
        return settings

    async def connection(self, connection_id: str) -> Connection:
        """Read a connection. Raises `NotFound`, which names the known ones."""
        return await self.store.read(lambda tx: connections.registry.get(tx, connection_id))

    def link_token(self, sale_id: str) -> str:
        """Return the token of the link by which a receipt is claimed."""
        return receipt_token(sale_id, self.store.vault.hash)

    async def current_rule(self, connection: Connection) -> StampRule:
        """Read the rule that is in force now."""
        versions = await self.store.read(lambda tx: connections.rules.of_connection(tx, connection.id))
        return versions[-1].rule


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Sort the known names, those most like `name` first."""
    return sorted(known, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))
