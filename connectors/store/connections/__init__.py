"""Connections: the registry, their rules and businesses, when each is read next, drafts, and alerts by email."""

from connectors.store.connections import alerts, businesses, drafts, registry, rules, schedule

__all__ = ["alerts", "businesses", "drafts", "registry", "rules", "schedule"]
