"""Square: orders, refunds and customers of a seller, read by its public API and told of by its webhooks.

What could not be verified without a real seller's account is listed in `docs/howto/square.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connector_sdk.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from square_connector.connector import SquareConnector

__all__ = ["SquareConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Register the Square connector with the host."""
    from square_connector.connector import SquareConnector

    register(SquareConnector)


def __getattr__(name: str) -> object:
    if name == "SquareConnector":
        from square_connector.connector import SquareConnector

        return SquareConnector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
