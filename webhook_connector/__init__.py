"""Any till that can send JSON: its own request proves itself, and a mapping says where a sale's fields are in it.

Owns the registration of the connector and its commands with the host; everything else is in the modules beside.
"""

from typing import TYPE_CHECKING

from connector_sdk.hookspecs import Register, hookimpl

if TYPE_CHECKING:
    import typer

    from webhook_connector.connector import WebhookConnector

__all__ = ["WebhookConnector", "register_commands", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    """Hand the connector's class to the host."""
    from webhook_connector.connector import WebhookConnector

    register(WebhookConnector)


@hookimpl
def register_commands(cli: "typer.Typer") -> None:
    """Add `connectors mapping` to the commands."""
    from webhook_connector.commands import mapping

    cli.add_typer(mapping, name="mapping")


def __getattr__(name: str) -> object:
    """Import the connector at its first use: a command that only asks which plugins there are does not wait for it."""
    if name != "WebhookConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from webhook_connector.connector import WebhookConnector

    return WebhookConnector
