"""Poster POS: receipts by poll and by thin hook.

Owns the registration of the connector with the host; everything else is in the modules beside.
"""

from typing import TYPE_CHECKING

from connector_sdk.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from poster_connector.connector import PosterConnector

__all__ = ["PosterConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    from poster_connector.connector import PosterConnector

    register(PosterConnector)


def __getattr__(name: str) -> object:
    """Import the connector at its first use: a command that only asks which plugins there are does not wait for it."""
    if name != "PosterConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from poster_connector.connector import PosterConnector

    return PosterConnector
