"""Measures: what parts tell of how long things take; whoever runs them decides where that goes.

Owns the names of what is measured. Nothing here is about a cafe or a customer: a connector's name is the most that is
said.
"""

from __future__ import annotations

from typing import Protocol


class Measures(Protocol):
    """Takes what is measured; all times in seconds."""

    def read_late(self, seconds: float) -> None:
        """Take how long after it was due a read of a till began."""

    def till_call(self, connector: str, call: str, seconds: float) -> None:
        """Take how long a till took for a `poll`, a `look-back` or a `fetch`."""

    def hook_to_sale(self, seconds: float) -> None:
        """Take how long after a hook its receipt was in the ledger."""

    def sale_to_stamp(self, seconds: float) -> None:
        """Take how long after it was planned an operation was applied."""

    def sevenstamp_call(self, outcome: str, seconds: float) -> None:
        """Take how long 7stamp took for an operation, and how it ended."""


class NoMeasures:
    """Drops everything: for commands and tests."""

    def read_late(self, seconds: float) -> None:
        """Drop it."""

    def till_call(self, connector: str, call: str, seconds: float) -> None:
        """Drop it."""

    def hook_to_sale(self, seconds: float) -> None:
        """Drop it."""

    def sale_to_stamp(self, seconds: float) -> None:
        """Drop it."""

    def sevenstamp_call(self, outcome: str, seconds: float) -> None:
        """Drop it."""
