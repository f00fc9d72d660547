"""Checks of how a host is set up: modes of files, addresses in the clear, proxies, and whether its address leads to it.

Owns these findings and their sentences; their order and how they are shown is `doctor`'s.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import httpx
from pydantic_settings import BaseSettings

from connector_sdk.http import Reply, production_transport, send
from connectors.domain.finding import Finding
from connectors.domain.plain_http import in_the_clear
from connectors.plugins import ConnectorClass, Plugins
from connectors.runtime.counter_names import STARTED, UNTRUSTED_PROXY
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sync.operator_settings import app_settings

_DEADLINE_SECONDS = 5.0


def files(settings: Settings) -> Iterator[Finding]:
    """Find files of the database, or of the key to it, that others on this machine can read."""
    database = settings.database_file
    if database is None or os.name != "posix":  # Windows has no such modes, and a server no file of ours
        return
    yield from _readable("key file", [Path(f"{database}.key")])
    # SQLite's write-ahead log holds what was written last, in the same form as the database
    yield from _readable("database file", [Path(f"{database}{end}") for end in ("", "-wal", "-shm")])


def _readable(what: str, paths: Iterable[Path]) -> Iterator[Finding]:
    """Find those of the files that exist and that a group or others may touch."""
    for file in paths:
        if file.exists() and file.stat().st_mode & 0o077:
            mode = f"{file.stat().st_mode & 0o777:04o}"
            yield Finding(what, False, f"{file} has mode {mode}, so others can read it: chmod 600 {file}")


def addresses(settings: Settings, plugins: Plugins) -> Iterator[Finding]:
    """Find addresses, ours and the connectors', at which what is sent can be read on the way."""
    # whoever allowed http has decided: it is then a remark, which does not fail a script
    ok = None if settings.allow_http else False
    for variable in _our_clear_addresses(settings):
        yield _read_on_the_way("addresses", ok, variable)
    for name, connector_class in sorted(plugins.classes.items()):
        for variable in _clear_addresses_of(connector_class):
            yield _read_on_the_way(f"connector {name}", ok, variable)


def _our_clear_addresses(settings: Settings) -> Iterator[str]:
    ours = {"CONNECTORS_SEVENSTAMP_URL": settings.sevenstamp_url, "CONNECTORS_PUBLIC_URL": settings.public_url}
    for variable, url in ours.items():
        if url and in_the_clear(url):
            yield variable


def _clear_addresses_of(connector_class: ConnectorClass) -> Iterator[str]:
    app = app_settings(connector_class)
    for field in type(app).model_fields if app is not None else ():
        # nothing marks a setting as an address, so any text may be one: what is no URL is not in the clear
        value: object = getattr(app, field)
        if isinstance(value, str) and in_the_clear(value):
            yield variable_of(app, field)


def variable_of(app: BaseSettings, field: str) -> str:
    """Return the environment variable that sets a field of the operator's settings."""
    return f"{app.model_config.get('env_prefix', '')}{field}".upper()


def _read_on_the_way(check: str, ok: bool | None, variable: str) -> Finding:
    return Finding(check, ok, f"{variable} begins with http://: whoever is on the way reads along; use https://")


def proxies(counted: Mapping[str, int]) -> Iterator[Finding]:
    """Find requests that come through a proxy which no setting names."""
    if counted.get(UNTRUSTED_PROXY):
        yield Finding(
            "proxies",
            None,
            "requests with X-Forwarded-For came, but CONNECTORS_TRUSTED_PROXIES is not set: behind a proxy all "
            "visitors count as one, and one who guesses makes all of them wait; set it to the proxy's address",
        )


async def public_address(host: Host, counted: Mapping[str, int], running: bool) -> Finding | None:
    """Ask the public address who is there: this host, at this start of it, or somebody else. `None` without one."""
    url = host.settings.public_url
    if not url:
        return None
    if not running:  # then a proxy's error says nothing of the set-up
        return Finding("public address", None, f"{url} can be tried only while the host runs")
    why = await _unreached(url, counted.get(STARTED))
    if why is None:
        return Finding("public address", True, f"{url} reaches this host")
    return Finding("public address", False, f"{url} does not reach this host: {why}")


async def _unreached(url: str, started: int | None) -> str | None:
    """Say why an address does not lead to the host that started then; `None` where it does."""
    try:
        reply = await _health_at(url)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        return f"nobody answers ({type(error).__name__}); does its name lead here, and does the proxy run?"
    if reply.status_code != 200:
        return f"it answers {reply.status_code}; does the proxy lead to the address that `serve` listens on?"
    # the moment of the start tells this host from a second one, or a copy of it on another machine
    if _start_in(reply.content) != str(started):
        return "something else answers there, or another host"
    return None


async def _health_at(url: str) -> Reply:
    # as connectors ask tills: no redirect is followed, and no proxy of the environment stands between
    transport = production_transport(1)
    try:
        return await send(transport, "GET", f"{url}/healthz", deadline=_DEADLINE_SECONDS)
    finally:
        await transport.aclose()


def _start_in(body: bytes) -> object:
    """Return the start that an answer of `/healthz` names; `None` for an answer of something else."""
    try:
        health: object = json.loads(body)
    except ValueError:
        return None
    return health.get("started") if isinstance(health, dict) else None
