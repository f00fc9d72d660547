"""Connections: the registry, their rules and businesses, when each is read next, drafts, alerts, event sources."""

from connectors.store.connections import (
    alerts,
    businesses,
    drafts,
    loyalty_sources,
    push_alerts,
    registry,
    renewals,
    rules,
    schedule,
    stored_grants,
    subscriptions,
    till_index,
)

__all__ = [
    "alerts",
    "businesses",
    "drafts",
    "loyalty_sources",
    "push_alerts",
    "registry",
    "renewals",
    "rules",
    "schedule",
    "stored_grants",
    "subscriptions",
    "till_index",
]
