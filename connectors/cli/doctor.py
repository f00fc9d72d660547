"""`connectors doctor`: looks whether everything that a host needs is here, and says what is not.

Owns the order of the checks and how findings are shown; checks of files, addresses and proxies are in `findings`.
"""

from __future__ import annotations

import platform
from collections.abc import AsyncIterator, Iterator

import typer

from connector_sdk.errors import ConnectorError
from connectors.cli import findings
from connectors.cli.options import AsJson
from connectors.cli.output import console, escape, run, show_json
from connectors.domain.connection import Health
from connectors.domain.finding import Finding
from connectors.plugins import Plugins
from connectors.runtime.counter_names import REFUSED
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.client import InvalidKey, SevenStamp, SevenStampError
from connectors.store import counters
from connectors.store.errors import StoreError
from connectors.sync.hooks import UNKNOWN_ACCOUNT
from connectors.sync.tills import app_settings

_MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]•[/yellow]"}
_UNKNOWN_KEY = "7loc_sc_doctor"
"""A key that 7stamp does not know: that it is refused shows that 7stamp answers."""


def doctor(as_json: AsJson = False) -> None:
    """Look whether everything a host needs is here; ends with 1 where something is wrong."""
    results: list[Finding] = []

    async def work() -> None:
        async for finding in _examine():
            results.append(finding)

    run(work)
    if as_json:
        show_json([{"check": finding.check, "ok": finding.ok, "text": finding.text} for finding in results])
    else:
        for finding in results:
            line = f"{_MARKS[finding.ok]} {escape(finding.check)}: {escape(finding.text)}"
            console.print(line, highlight=False)
    if any(finding.ok is False for finding in results):
        raise typer.Exit(1)


async def _examine() -> AsyncIterator[Finding]:
    """Yield the findings, from what needs nothing to what needs an open database and 7stamp."""
    yield Finding("python", True, platform.python_version())
    loaded = Plugins()
    for plugin in loaded.plugins:
        text = plugin.set_aside or ", ".join(plugin.connectors) or "loaded"
        yield Finding(f"plugin {plugin.name}", plugin.set_aside is None, text)
    for finding in _operator_settings(loaded):
        yield finding
    try:
        settings = Settings()
        for finding in findings.addresses(settings, loaded):
            yield finding
        async with Host(settings, plugins=loaded) as host:
            async for finding in _examine_host(host):
                yield finding
    except StoreError as error:
        yield Finding("database", False, str(error))


def _operator_settings(loaded: Plugins) -> Iterator[Finding]:
    """Point out what a connector's operator may set and did not: all of it is optional."""
    for name, connector in sorted(loaded.classes.items()):
        app = app_settings(connector)
        missing = [
            f"{app.model_config.get('env_prefix', '')}{field}".upper()
            for field in (type(app).model_fields if app is not None else {})
            if getattr(app, field) is None
        ]
        if missing:
            text = f"{', '.join(missing)} not set: hooks are not taken, polling works"
            yield Finding(f"connector {name}", None, text)


async def _examine_host(host: Host) -> AsyncIterator[Finding]:
    """Yield what an open host shows: its database and keys, counters, 7stamp, connections, and the way to it."""
    counted = await host.store.read(counters.read_counters)
    file = host.settings.database_file
    yield Finding("database", True, f"{file or 'server'}, schema up to date, key {host.store.vault.key_id}")
    for finding in await host.key_findings():
        yield finding
    running = host.lock.is_held_by_host()
    yield Finding("host", True if running else None, "running" if running else "not running on this database")
    for finding in _counted(counted):
        yield finding
    if host.sevenstamp is None:
        yield Finding("7stamp", False, str(host.settings.without_sevenstamp))
    else:
        yield await _sevenstamp_answers(host.sevenstamp)
        for finding in await _connections(host):
            yield finding
    for finding in (*findings.files(host.settings), *findings.proxies(counted)):
        yield finding
    reached = await findings.public_address(host, counted, running)
    if reached is not None:
        yield reached


def _counted(counted: dict[str, int]) -> Iterator[Finding]:
    """Point out refused requests and hooks for strangers, which the host counted since it first ran."""
    if unknown := counted.get(UNKNOWN_ACCOUNT):
        yield Finding("hooks", None, f"{unknown} hooks came for accounts that are not connected here")
    for name, count in sorted(counted.items()):
        if name.startswith(REFUSED):
            yield Finding("limits", None, f"{name} ({count} times)")


async def _sevenstamp_answers(sevenstamp: SevenStamp) -> Finding:
    try:
        await sevenstamp.with_key(_UNKNOWN_KEY).me()
    except InvalidKey:
        return Finding("7stamp", True, "answers")
    except SevenStampError as error:
        return Finding("7stamp", False, f"{error}: is CONNECTORS_SEVENSTAMP_URL right?")
    return Finding("7stamp", True, "answers")


async def _connections(host: Host) -> list[Finding]:
    results: list[Finding] = []
    for connection in await host.services.connections.list_all():
        name = f"connection {connection.id}"
        try:
            host.tills.of(connection)
            good = connection.health in (Health.active, Health.paused)
            results.append(Finding(name, good, connection.health.value))
        except (ConnectorError, ValueError) as error:  # no plugin for it, or settings that do not fit its model now
            results.append(Finding(name, False, str(error)))
    return results
