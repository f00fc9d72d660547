"""Connections: the registry, their rules and businesses, when each is read next, drafts, and alerts by email."""

from connectors.store.connections import (
    alerts,
    businesses,
    drafts,
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
    "registry",
    "renewals",
    "rules",
    "schedule",
    "stored_grants",
    "subscriptions",
    "till_index",
]
