"""The table of commands: their names and one-line helps, and where each one's code is.

Owns that a command's module is imported when the command is used and not before, and that commands of plugins join
the table. What a command does, and its options, is with its module.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, ClassVar

import pluggy
import typer
from typer.core import TyperCommand, TyperGroup

from connector_sdk import hookspecs
from connector_sdk.hookspecs import PROJECT

if TYPE_CHECKING:  # Typer brings Click along, but does not export its names
    from typer._click import Context, HelpFormatter
    from typer._click.core import Command

log = logging.getLogger(__name__)

OUR_DISTRIBUTION = "sevenstamp-connectors"


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A command that has not been imported yet; `location` is `module:attribute` of a function or a `typer.Typer`."""

    name: str
    location: str
    help: str
    """The first line of the command's own help: `connectors --help` shows it without an import."""

    def load(self) -> Command:
        """Import the command's module and build the command with all its options."""
        module, _, attribute = self.location.partition(":")
        target = getattr(import_module(module), attribute)
        if isinstance(target, typer.Typer):
            return self._group_of(target)
        return self._command_of(target)

    def _group_of(self, target: typer.Typer) -> Command:
        group = typer.main.get_group(target)
        group.name = self.name  # Typer knows a group's name only from the group it is added to
        return group

    def _command_of(self, target: Callable[..., object]) -> Command:
        # an application of one command: the only way in which Typer turns a function into a command
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(target)
        return typer.main.get_command(app)

    def summary(self) -> Command:
        """Build a stand-in that knows its name and help only, for the list of commands."""
        return TyperCommand(name=self.name, help=self.help)


def _keep_imported() -> None:
    """Take what a process has imported for its command out of the search for garbage, and begin that search.

    To look through it, while it is imported and at the end, would be a fifth of what a short command costs. Does
    nothing where `main` did not put the search off: the process is somebody else's then.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class CommandTable(MutableMapping[str, "Command"]):
    """Commands by name: ours are imported when they are looked up, those of plugins when ours do not have the name."""

    def __init__(self, entries: Sequence[CommandEntry]) -> None:
        self._entries = {entry.name: entry for entry in entries}
        self._commands: dict[str, Command] = {}

    @cached_property
    def _of_plugins(self) -> Mapping[str, Command]:
        return plugin_commands()

    def __getitem__(self, name: str) -> Command:
        if name not in self._commands:
            self._commands[name] = self._load(name)
            _keep_imported()
        return self._commands[name]

    def _load(self, name: str) -> Command:
        # ours first: no plugin can take a command's place, and none is imported to look one of ours up
        entry = self._entries.get(name)
        return entry.load() if entry is not None else self._of_plugins[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        # ours first, in their own order: what a plugin is called must not move them in the help
        return iter({**self._entries, **self._of_plugins, **self._commands})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def summaries(self) -> dict[str, Command]:
        """Build what the list of commands shows, without importing any module of ours."""
        unloaded = {name: entry for name, entry in self._entries.items() if name not in self._commands}
        summaries = {name: entry.summary() for name, entry in unloaded.items()}
        return {**self._of_plugins, **self._commands} | summaries


class LazyGroup(TyperGroup):
    """A group over the entries of a `CommandTable`; a subclass names them."""

    entries: ClassVar[Sequence[CommandEntry]] = ()

    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # whatever Typer gives every group
        self.table = CommandTable(self.entries)
        self.commands = self.table

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the help from the one-line helps: formatting the commands themselves would import every module."""
        # a copy, for Typer reads `self.commands`, and the command that runs next needs the table itself
        listing = copy(self)
        listing.commands = {name: self.table.summaries()[name] for name in self.table}
        super(LazyGroup, listing).format_help(ctx, formatter)


def plugin_commands() -> Mapping[str, Command]:
    """Collect the commands that plugins register.

    A plugin that cannot be imported or raises adds nothing; `connectors plugins` says why it is set aside.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    # by name, not as they were installed: two machines show the same help
    for point in sorted(entry_points(group=PROJECT), key=lambda point: point.name):
        _register(manager, point)
    return _registered_commands(manager)


def _register(manager: pluggy.PluginManager, point: EntryPoint) -> None:
    try:
        _check_requirements(point)
        manager.register(point.load(), name=point.name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a plugin may raise anything while it is imported
        # at DEBUG: it is no fault of the command that somebody runs, and `connectors plugins` says it in full
        log.debug("plugin %s adds no command: %s", point.name, type(error).__name__)


def _registered_commands(manager: pluggy.PluginManager) -> Mapping[str, Command]:
    app = typer.Typer()
    for implementation in manager.hook.register_commands.get_hookimpls():
        implementation.function(cli=app)
    return typer.main.get_group(app).commands


def _check_requirements(point: EntryPoint) -> None:
    """Raise `MissingRequirement` for a plugin made for other versions than are here; what we ship fits itself."""
    if point.dist is not None and point.dist.name == OUR_DISTRIBUTION:
        return
    from connectors.plugins import refuse_unmet  # imports the whole SDK, which ours need not wait for

    refuse_unmet(point)
