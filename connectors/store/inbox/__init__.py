"""Keep what arrives before it is a sale: hints, bodies that cannot be read, and requests of tills being taught."""

from connectors.store.inbox import captured, hints, unreadable

__all__ = ["captured", "hints", "unreadable"]
