"""Keep what arrives: hints, bodies that cannot be read, requests of tills being taught, and what 7stamp tells."""

from connectors.store.inbox import captured, card_totals, hints, loyalty_events, unreadable

__all__ = ["captured", "card_totals", "hints", "loyalty_events", "unreadable"]
