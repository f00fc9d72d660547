"""Poster POS: receipts by poll and by thin hook.

Owns the registration of the connector with the host; everything else is in the modules beside.
"""

from connector_sdk.hookspecs import Register, hookimpl
from poster_connector.connector import PosterConnector

__all__ = ["PosterConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    register(PosterConnector)
