"""Any till that can send JSON: its own request proves itself, and a mapping says where a sale's fields are in it."""

from typing import TYPE_CHECKING, Any

from connector_sdk.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    from webhook_connector.connector import WebhookConnector

__all__ = ["WebhookConnector", "register_commands", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    from webhook_connector.connector import WebhookConnector

    register(WebhookConnector)


@hookimpl
def register_commands(cli: Any) -> None:
    from webhook_connector.commands import mapping

    cli.add_typer(mapping, name="mapping")


def __getattr__(name: str) -> object:
    """Import the connector at its first use: a command that only asks which plugins there are does not wait for it."""
    if name != "WebhookConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from webhook_connector.connector import WebhookConnector

    return WebhookConnector
