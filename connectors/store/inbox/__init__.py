"""Keep what arrives: hints, bodies that cannot be read, requests of tills being taught, and events of 7stamp."""

from connectors.store.inbox import captured, hints, loyalty_events, unreadable

__all__ = ["captured", "hints", "loyalty_events", "unreadable"]
