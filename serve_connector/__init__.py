"""Serve POS: whole checks by hook, and read back by cursor. Built against an assumed contract (`openapi.yaml`).

Owns the registration of the connector with the host; everything else is in the modules beside.
"""

from connector_sdk.hookspecs import Register, hookimpl
from serve_connector.connector import ServeConnector

__all__ = ["ServeConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    register(ServeConnector)
