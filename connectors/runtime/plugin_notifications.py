"""Calls of plugins' hooks after a commit: what was stored, settled, or went wrong.

Owns which event calls which hook, and that nobody waits for plugins; `connectors.plugins` guards each call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from connector_sdk.loyalty import LoyaltyEvent
from connector_sdk.messages import Catalogue, Message
from connectors.domain.events import DomainEvent, HealthChanged, OperationSettled, SaleIngested, Wakeup
from connectors.plugins import Plugins
from connectors.store import connections
from connectors.store.engine import Store

# of loyalty events plugins are told from disk, by `sync.loyalty_effects`: they may be told again, and never lost
_HOOK_OF: Mapping[type[DomainEvent], str] = {
    SaleIngested: "sale_ingested",
    OperationSettled: "operation_settled",
    HealthChanged: "connection_health_changed",
}


_LOYALTY_SECONDS = 10.0


class PluginCalls:
    """Tells plugins of committed events, each commit's in their order."""

    def __init__(self, store: Store, plugins: Plugins, catalogue: Catalogue) -> None:
        self._store = store
        self._plugins = plugins
        self._catalogue = catalogue
        self._tasks: set[asyncio.Task[None]] = set()

    def on_commit(self, _wakeups: set[Wakeup], events: Sequence[DomainEvent]) -> None:
        """Begin to tell plugins of a commit's events; a listener of the store."""
        # most installations have no such plugin: no task is made for events that nobody hears
        heard = [event for event in events if self._is_heard(event)]
        if heard:
            task = asyncio.get_running_loop().create_task(self._call_hooks(heard))
            self._tasks.add(task)  # the event loop itself holds tasks only weakly
            task.add_done_callback(self._tasks.discard)

    async def tell_of_loyalty_event(self, event: LoyaltyEvent, but_not: Collection[str]) -> Mapping[str, bool]:
        """Tell plugins of an event, but those of these names; map each one's name to whether it took it."""
        return await self._plugins.call_within("loyalty_event", _LOYALTY_SECONDS, but_not, event=event)

    def _is_heard(self, event: DomainEvent) -> bool:
        hook = _HOOK_OF.get(type(event))
        return hook is not None and self._plugins.has_hook(hook)

    async def wait(self) -> None:
        """Wait until plugins have been told of everything so far, and of what they caused by that."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # One task for all events of a commit, awaited one after the other: plugins hear them in the order in which they
    # happened. Events of different commits may overtake each other where a plugin is slow.
    async def _call_hooks(self, events: Sequence[DomainEvent]) -> None:
        for event in events:
            match event:
                case SaleIngested(connection, sale):
                    await self._plugins.call("sale_ingested", connection=connection, sale=sale)
                case OperationSettled():
                    await self._call_operation_settled(event)
                case HealthChanged(connection, health, reason):
                    text = self._worded(reason)
                    await self._plugins.call(
                        "connection_health_changed", connection=connection, state=health.value, reason=text
                    )

    async def _call_operation_settled(self, event: OperationSettled) -> None:
        """Tell of a settled operation with its connection, unless that is unknown."""
        by_id = await self._store.read(partial(connections.registry.by_ids, ids=[event.connection_id]))
        connection = by_id.get(event.connection_id)
        if connection is not None:
            facts = connection.facts()
            await self._plugins.call("operation_settled", connection=facts, operation=event.operation)

    def _worded(self, reason: Message | None) -> str:
        return self._catalogue.word(reason) if reason is not None else ""
