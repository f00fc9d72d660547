"""`connectors plugins` and `connectors db upgrade`: what is installed, and the schema of the database.

Owns how they are shown; finding plugins is `connectors.plugins`', the steps of the schema are the store's.
"""

from __future__ import annotations

from dataclasses import dataclass

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run, say, show_json, show_table, the_host
from connectors.plugins import Plugin, Plugins, checked

database = typer.Typer(no_args_is_help=True, help="The database.")


@dataclass(frozen=True, slots=True)
class _PluginRow:
    """A plugin as `connectors plugins` shows it."""

    plugin: Plugin
    conformance: dict[str, str]
    """What each of its connectors' packages says of its conformance, by the connector's name."""

    @property
    def status(self) -> str:
        return "set aside" if self.plugin.set_aside else "ready"

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.plugin.name,
            "package": self.plugin.package,
            "connectors": self.plugin.connectors,
            "status": self.status,
            "reason": self.plugin.set_aside,
            "checked": self.conformance,
        }

    def cells(self) -> list[str]:
        plugin = self.plugin
        return [
            plugin.name,
            plugin.package,
            ", ".join(plugin.connectors),
            self.status,
            plugin.set_aside or "",
            "; ".join(self.conformance.values()),
        ]


def plugins(as_json: AsJson = False) -> None:
    """The connectors found, and plugins that are set aside with the reason."""
    loaded = Plugins()
    rows = [_PluginRow(plugin, {name: _conformance(loaded, name) for name in plugin.connectors})
            for plugin in loaded.plugins]  # fmt: skip
    if as_json:
        show_json([row.as_json() for row in rows])
        return
    columns = ["plugin", "package", "connectors", "status", "reason", "checked"]
    show_table(columns, [row.cells() for row in rows], "No plugins are installed.")


def _conformance(loaded: Plugins, name: str) -> str:
    """Word what the connector's package says of its conformance."""
    result = checked(loaded.classes[name])
    if result is None:
        return "not checked"
    text = f"{'conforms' if result.conforms else 'does not conform'}: {result.shown} of {result.asked}"
    return f"{text}, {result.recordings} recordings" if result.recordings else text


@database.command()
def upgrade() -> None:
    """Bring the database to this version's schema; done at every start anyway."""

    async def work() -> None:
        async with the_host():  # opening it is what upgrades
            say("✓ The database is up to date.")

    run(work)
