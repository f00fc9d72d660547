"""`connectors plugins` and `connectors db upgrade`: what is installed, and the schema of the database.

Owns how they are shown; finding plugins is `connectors.plugins`', the steps of the schema are the store's.
"""

from __future__ import annotations

from dataclasses import dataclass

import typer

from connectors.cli.options import AsJson
from connectors.cli.output import run_with_host, say, show_json, show_table
from connectors.plugins import Plugin, Plugins, checked
from connectors.runtime.host import Host

database = typer.Typer(no_args_is_help=True, help="The database.")


@dataclass(frozen=True, slots=True)
class _PluginRow:
    """A plugin as `connectors plugins` shows it."""

    plugin: Plugin
    conformance: dict[str, str]
    """What each of its connectors' packages says of its conformance, by the connector's name."""

    @property
    def status(self) -> str:
        """Word whether the plugin takes part; scripts compare these two words."""
        return "set aside" if self.plugin.set_aside else "ready"

    def as_json(self) -> dict[str, object]:
        """Return the row for scripts."""
        return {
            "name": self.plugin.name,
            "package": self.plugin.package,
            "connectors": self.plugin.connectors,
            "status": self.status,
            "reason": self.plugin.set_aside,
            "checked": self.conformance,
        }

    def cells(self) -> list[str]:
        """Return the row for people, one text for each column."""
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
    # without a host: what is installed can be asked before there is a database, and when its key is lost
    loaded = Plugins()
    rows = [_plugin_row(loaded, plugin) for plugin in loaded.plugins]
    if as_json:
        show_json([row.as_json() for row in rows])
        return
    columns = ["plugin", "package", "connectors", "status", "reason", "checked"]
    show_table(columns, [row.cells() for row in rows], "No plugins are installed.")


def _plugin_row(loaded: Plugins, plugin: Plugin) -> _PluginRow:
    return _PluginRow(plugin, {name: _conformance(loaded, name) for name in plugin.connectors})


def _conformance(loaded: Plugins, name: str) -> str:
    """Word what the connector's package says of its conformance."""
    result = checked(loaded.classes[name])
    if result is None:
        return "not checked"
    verdict = "conforms" if result.conforms else "does not conform"
    text = f"{verdict}: {result.shown} of {result.asked}"
    # a stub alone proves consistency; recordings of a real account are what makes the verdict worth more
    return f"{text}, {result.recordings} recordings" if result.recordings else text


@database.command()
def upgrade() -> None:
    """Bring the database to this version's schema; a host does so at its start where the database is a file."""
    run_with_host(_say_upgraded, upgrading=True)


async def _say_upgraded(_host: Host) -> None:
    # opening the host is what upgrades: whoever comes here has an upgraded database
    say("✓ The database is up to date.")
