"""Any till that can send JSON: its own request proves itself, and a mapping says where a sale's fields are in it."""

from typing import Any

from connector_sdk.hookspecs import Register, hookimpl
from webhook_connector.commands import mapping
from webhook_connector.connector import WebhookConnector

__all__ = ["WebhookConnector", "register_commands", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    register(WebhookConnector)


@hookimpl
def register_commands(cli: Any) -> None:
    cli.add_typer(mapping, name="mapping")
