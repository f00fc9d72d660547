"""Any till that can send JSON: its own request proves itself, and a mapping says where a sale's fields are in it.

Owns the registration of the connector and its commands with the host; everything else is in the modules beside.
"""

import typer

from connector_sdk.hookspecs import Register, hookimpl
from webhook_connector.commands import mapping
from webhook_connector.connector import WebhookConnector

__all__ = ["WebhookConnector", "register_commands", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    register(WebhookConnector)


@hookimpl
def register_commands(cli: typer.Typer) -> None:
    """Add `connectors mapping` to the commands."""
    cli.add_typer(mapping, name="mapping")
