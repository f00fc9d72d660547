"""Read models: each is one query, bounded, and goes by an index. Nothing here writes."""

from connectors.store.queries import days, due, installation, load, numbers, operations, overviews, receipts

__all__ = ["days", "due", "installation", "load", "numbers", "operations", "overviews", "receipts"]
