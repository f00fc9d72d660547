"""Checks of how a host is set up: modes of files, addresses in the clear, proxies, and whether its address leads to it.

Owns these findings and their sentences; their order and how they are shown is `doctor`'s.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from connector_sdk.http import exchange, production_transport
from connectors.domain.finding import Finding
from connectors.domain.plain_http import in_the_clear
from connectors.plugins import Plugins
from connectors.runtime.counter_names import STARTED, UNTRUSTED_PROXY
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sync.tills import app_settings

_DEADLINE_SECONDS = 5.0


def files(settings: Settings) -> Iterator[Finding]:
    """Find files of the database, or of the key to it, that others on this machine can read."""
    database = settings.database_file
    if database is None or os.name != "posix":
        return
    beside = [Path(f"{database}{end}") for end in ("", "-wal", "-shm")]
    for what, paths in (("key file", [Path(f"{database}.key")]), ("database file", beside)):
        for file in paths:
            if file.exists() and file.stat().st_mode & 0o077:
                mode = f"{file.stat().st_mode & 0o777:04o}"
                yield Finding(what, False, f"{file} has mode {mode}, so others can read it: chmod 600 {file}")


def addresses(settings: Settings, plugins: Plugins) -> Iterator[Finding]:
    """Find addresses, ours and the connectors', at which what is sent can be read on the way."""
    ok = None if settings.allow_http else False
    ours = {"CONNECTORS_SEVENSTAMP_URL": settings.sevenstamp_url, "CONNECTORS_PUBLIC_URL": settings.public_url}
    for variable, url in ours.items():
        if url and in_the_clear(url):
            yield _read_on_the_way("addresses", ok, variable)
    for name, connector_class in sorted(plugins.classes.items()):
        app = app_settings(connector_class)
        for field in type(app).model_fields if app is not None else ():
            value = getattr(app, field)
            if isinstance(value, str) and in_the_clear(value):
                variable = f"{app.model_config.get('env_prefix', '')}{field}".upper()
                yield _read_on_the_way(f"connector {name}", ok, variable)


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
    if not running:
        return Finding("public address", None, f"{url} can be tried only while the host runs")
    why = await _unreached(url, counted.get(STARTED))
    if why is None:
        return Finding("public address", True, f"{url} reaches this host")
    return Finding("public address", False, f"{url} does not reach this host: {why}")


async def _unreached(url: str, started: int | None) -> str | None:
    """Say why an address does not lead to the host that started then; `None` where it does."""
    transport = production_transport(1)
    try:
        reply = await exchange(transport, "GET", f"{url}/healthz", deadline=_DEADLINE_SECONDS)
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        return f"nobody answers ({type(error).__name__}); does its name lead here, and does the proxy run?"
    finally:
        await transport.aclose()
    if reply.status_code != 200:
        return f"it answers {reply.status_code}; does the proxy lead to the address that `serve` listens on?"
    try:
        health: object = json.loads(reply.content)
    except ValueError:
        health = None
    if not isinstance(health, dict) or health.get("started") != str(started):
        return "something else answers there, or another host"
    return None
