"""The relay: who is told of events, and each event on its way to each of them."""

from connectors.store.relay import deliveries, subscriptions

__all__ = ["deliveries", "subscriptions"]
