"""Serve POS: whole checks by hook, and read back by cursor. Built against an assumed contract (`openapi.yaml`)."""

from connector_sdk.hookspecs import Register, hookimpl
from serve_connector.connector import ServeConnector

__all__ = ["ServeConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    register(ServeConnector)
