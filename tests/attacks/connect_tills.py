"""Connects the tills of everybody in one process, by the host's settings in the environment.

Run as a command, for the test plugin must be installed where this runs; connections come out as JSON, by title.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import httpx

from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.runtime.host import Host
from connectors.services import ConnectOptions
from connectors.settings import Settings
from poster_connector.sandbox import Account
from tests.attacks.plugin import KINDS
from tests.attacks.target import ATTACKER_KEY, HONEST_KEY, HONEST_SECRET, POSTER_KEY, SECRET

_SETTINGS = {
    "till_name": "Corner",
    "currency": "EUR",
    "zone": "Europe/Madrid",
    "proof": "hmac",
    "proof_header": "X-Signature",
    "closed_statuses": "paid",
    "open_statuses": "open",
}
_PATHS = {"receipt_id": "no", "paid": "sum", "closed_at": "at", "phone": "phone", "status": "status"}
_MORE_PATHS = ("version", "tip", "refunded", "currency", "email", "number", "codes")
_LONGEST_PATH = 300


@dataclass(frozen=True, slots=True)
class ConnectedTill:
    """A connection that was made: its id, and its hook address as a path."""

    id: str
    hook: str


def _mapping(secret: str) -> dict[str, str]:
    """Return the settings of an ordinary any-till connection."""
    return {**_SETTINGS, "secret": secret, **{f"map_{name}": field for name, field in _PATHS.items()}}


def _costly_mapping(secret: str) -> dict[str, str]:
    """Return the settings of a connection with twelve paths, each as costly as may be saved."""
    paths = {**_PATHS, **{name: name for name in _MORE_PATHS}}
    return {**_mapping(secret), **{f"map_{name}": _costly(field) for name, field in paths.items()}}


def _costly(field: str) -> str:
    """Return a path that compares in every way it can before it ends at a field."""
    condition, more = "a=='b'", "||a=='b'"
    while len(f"x[?{condition}{more}]||{field}") <= _LONGEST_PATH:
        condition += more
    return f"x[?{condition}]||{field}"


async def _connect_all() -> dict[str, ConnectedTill]:
    """Connect everybody's tills; by title."""
    connected: dict[str, ConnectedTill] = {}
    async with Host(Settings()) as host:

        async def add(title: str, connector: str, key: str, values: Mapping[str, str]) -> None:
            rule = StampRule(unknown_customer=UnknownCustomer.issue)
            poll = 10 if connector == "poster" else None
            connection = await host.services.onboarding.connect(
                connector, values, key, lambda _: rule, ConnectOptions(title=title, poll_seconds=poll)
            )
            connected[title] = ConnectedTill(
                connection.id, httpx.URL(host.services.connections.hook_url(connection) or "").path
            )

        await add("poster", "poster", POSTER_KEY, {"access_token": Account().token})
        await add("honest", "webhook", HONEST_KEY, _mapping(HONEST_SECRET))
        await add("attacker", "webhook", ATTACKER_KEY, _mapping(SECRET))
        await add("costly", "webhook", ATTACKER_KEY, _costly_mapping(SECRET))
        for kind in KINDS:
            await add(kind, "bad", ATTACKER_KEY, {"till_id": kind})
    return connected


def main() -> None:
    """Connect the tills and write the connections to standard output."""
    connected = asyncio.run(_connect_all())
    sys.stdout.write(json.dumps({title: asdict(till) for title, till in connected.items()}))


if __name__ == "__main__":
    main()
