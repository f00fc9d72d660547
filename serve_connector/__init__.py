"""Serve POS: whole checks by hook, and read back by cursor. Built against an assumed contract (`openapi.yaml`).

Owns the registration of the connector with the host; everything else is in the modules beside.
"""

from typing import TYPE_CHECKING

from connector_sdk.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from serve_connector.connector import ServeConnector

__all__ = ["ServeConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    from serve_connector.connector import ServeConnector

    register(ServeConnector)


def __getattr__(name: str) -> object:
    """Import the connector at its first use: a command that only asks which plugins there are does not wait for it."""
    if name != "ServeConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from serve_connector.connector import ServeConnector

    return ServeConnector
