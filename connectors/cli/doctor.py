"""`connectors doctor`: looks whether everything that a host needs is here, and says what is not.

Owns the order of the checks and how findings are shown; checks of files, addresses and proxies are in `findings`.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Iterator

import typer
from pydantic_settings import BaseSettings

from connector_sdk.errors import ConnectorError
from connectors.cli import setup_checks
from connectors.cli.options import AsJson
from connectors.cli.output import console, escape, run, show_json
from connectors.domain.clock import moment
from connectors.domain.connection import Connection, Health
from connectors.domain.finding import Finding
from connectors.plugins import ConnectorClass, Plugins
from connectors.runtime.counter_names import REFUSED
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.client import InvalidKey, SevenStamp, SevenStampError
from connectors.store import counters
from connectors.store.errors import StoreError
from connectors.sync.hooks import REFUSED_HOOKS, UNKNOWN_ACCOUNT
from connectors.sync.operator_settings import app_settings

_MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]•[/yellow]"}
_UNKNOWN_KEY = "7loc_sc_doctor"
"""A key that 7stamp does not know: that it is refused shows that 7stamp answers."""


def doctor(as_json: AsJson = False) -> None:
    """Look whether everything a host needs is here; ends with 1 where something is wrong."""
    results = run(_collect)
    if as_json:
        show_json([_as_json(finding) for finding in results])
    else:
        for finding in results:
            _show(finding)
    # `None` is a remark and no failure: a set-up without hooks, or beside a host that is stopped, passes in a script
    if any(finding.ok is False for finding in results):
        raise typer.Exit(1)


async def _collect() -> list[Finding]:
    return [finding async for finding in _examine()]


def _as_json(finding: Finding) -> dict[str, str | bool | None]:
    return {"check": finding.check, "ok": finding.ok, "text": finding.text}


def _show(finding: Finding) -> None:
    line = f"{_MARKS[finding.ok]} {escape(finding.check)}: {escape(finding.text)}"
    console.print(line, highlight=False)


async def _examine() -> AsyncIterator[Finding]:
    """Yield the findings, from what needs nothing to what needs an open database and 7stamp."""
    yield Finding("python", True, platform.python_version())
    loaded = Plugins()
    for finding in (*_plugins(loaded), *_operator_settings(loaded)):
        yield finding
    try:
        async for finding in _examine_installation(loaded):
            yield finding
    except StoreError as error:
        # a finding, not the end: what was found before it is shown all the same
        yield Finding("database", False, str(error))


def _plugins(loaded: Plugins) -> Iterator[Finding]:
    for plugin in loaded.plugins:
        text = plugin.set_aside or ", ".join(plugin.connectors) or "loaded"
        yield Finding(f"plugin {plugin.name}", plugin.set_aside is None, text)


async def _examine_installation(loaded: Plugins) -> AsyncIterator[Finding]:
    """Yield what the settings show, and then the host that they describe. Raises `StoreError` where it cannot open."""
    settings = Settings()
    for finding in setup_checks.addresses(settings, loaded):
        yield finding
    # with the plugins that were examined: loading them again might find others
    async with Host(settings, plugins=loaded) as host:
        async for finding in _examine_host(host):
            yield finding


def _operator_settings(loaded: Plugins) -> Iterator[Finding]:
    """Point out what a connector's operator may set and did not: all of it is optional."""
    for name, connector in sorted(loaded.classes.items()):
        missing = [setup_checks.variable_of(app, field) for app, field in _unset_settings(connector)]
        if missing:
            text = f"{', '.join(missing)} not set: hooks are not taken, polling works"
            yield Finding(f"connector {name}", None, text)


def _unset_settings(connector: ConnectorClass) -> Iterator[tuple[BaseSettings, str]]:
    app = app_settings(connector)
    for field in type(app).model_fields if app is not None else ():
        if getattr(app, field) is None:
            yield app, field


async def _examine_host(host: Host) -> AsyncIterator[Finding]:
    """Yield what an open host shows: its database and keys, counters, 7stamp, connections, and the way to it."""
    counted = await host.store.read(counters.read_counters)
    running = host.lock.is_held_by_host()
    yield _database(host)
    for finding in (*await host.database_findings(), _running(running), *_counted(counted)):
        yield finding
    async for finding in _examine_services(host):
        yield finding
    for finding in (*setup_checks.files(host.settings), *setup_checks.proxies(counted)):
        yield finding
    reached = await setup_checks.public_address(host, counted, running)
    if reached is not None:
        yield reached


def _database(host: Host) -> Finding:
    # the schema is up to date because the host opened: opening it is what upgrades
    file = host.settings.database_file
    return Finding("database", True, f"{file or 'server'}, schema up to date, key {host.store.vault.key_id}")


def _running(running: bool) -> Finding:
    # that no host runs is a remark: `doctor` is also for before the first start
    return Finding("host", True if running else None, "running" if running else "not running on this database")


async def _examine_services(host: Host) -> AsyncIterator[Finding]:
    """Yield whether 7stamp answers, and the connections; without an address of 7stamp there can be none."""
    if host.sevenstamp is None:
        yield Finding("7stamp", False, str(host.settings.without_sevenstamp))
        return
    yield await _sevenstamp_answers(host.sevenstamp)
    for connection in await host.services.connections.list_all():
        yield _connection(host, connection)


def _counted(counted: dict[str, int]) -> Iterator[Finding]:
    """Point out refused requests and hooks for strangers, which the host counted since it first ran."""
    if unknown := counted.get(UNKNOWN_ACCOUNT):
        yield Finding("hooks", None, f"{unknown} hooks came for accounts that are not connected here")
    for name, count in sorted(counted.items()):
        if name.startswith(REFUSED_HOOKS):
            when = f"{moment(count):%Y-%m-%d %H:%M} UTC"
            why = (
                "is the secret that signs them the one set here, and the address entered there this one, to the letter?"
            )
            yield Finding("hooks", None, f"{name}, the last {when}: {why}")
        if name.startswith(REFUSED):
            yield Finding("limits", None, f"{name} ({count} times)")


async def _sevenstamp_answers(sevenstamp: SevenStamp) -> Finding:
    # no key of a business is used: a check must not count as its traffic, nor fail for one cafe's revoked key
    try:
        await sevenstamp.with_key(_UNKNOWN_KEY).me()
    except InvalidKey:
        return Finding("7stamp", True, "answers")
    except SevenStampError as error:
        return Finding("7stamp", False, f"{error}: is CONNECTORS_SEVENSTAMP_URL right?")
    return Finding("7stamp", True, "answers")


def _connection(host: Host, connection: Connection) -> Finding:
    name = f"connection {connection.id}"
    try:
        host.tills.of(connection)
    except (ConnectorError, ValueError) as error:  # no plugin for it, or settings that do not fit its model now
        return Finding(name, False, str(error))
    # paused is what a person wanted, so it is as good as active
    good = connection.health in (Health.active, Health.paused)
    return Finding(name, good, connection.health.value)
