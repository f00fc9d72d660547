"""An installation for tests: a Poster cafe, a 7stamp and a host between them, all real, over HTTP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakKeyDictionary

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp

from connector_sdk.authorisation import Consent, Grant, Returned
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.cli.servers import serving
from connectors.domain.clock import Clock
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.services import ConnectOptions
from connectors.services.consents import code_challenge_of
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Sandbox
from connectors.store import connections, ledger, queries
from connectors.web.app import application
from poster_connector.sandbox import Account, PosterSandbox
from serve_connector.sandbox import ServeSandbox
from square_connector.sandbox import SquareSandbox
from tests.databases import new_database

KEY = "7loc_sc_test_key_9f81"
ANNA, BORYS, CHRYSTYNA = "+380501112201", "+380501112202", "+380501112203"


@dataclass
class Installation:
    """What a test needs of it."""

    cafe: Any
    till: Any
    sevenstamp: Sandbox
    host: Host
    settings: Settings
    environment: dict[str, str]
    connector: str = "poster"
    connection: Connection = field(init=False)

    def reach_at(self, url: str) -> None:
        """Have the operator say where the world reaches the host."""
        self.host.settings.public_url = self.host.public_url = url

    async def connect(self, rule: StampRule | None = None, **more: Any) -> Connection:
        chosen = rule or StampRule(unknown_customer=UnknownCustomer.issue)
        values = {} if more.get("grant") else self.till.settings()
        self.connection = await self.host.services.onboarding.connect(
            self.connector, values, KEY, lambda _account: chosen, ConnectOptions(**more)
        )
        return self.connection

    async def consent(self) -> Grant:
        """What Square's seller grants on the consent page, traded as the host trades it."""
        onboarding, application = self.host.services.onboarding, self.till.square_application
        verifier = "verifier-of-the-tests-which-is-long-enough-for-pkce"
        consent = Consent(self.host.services.consents.redirect_uri, "state", code_challenge_of(verifier))
        url = onboarding.authorise_url("square", consent)
        query = {name: values[0] for name, values in parse_qs(urlsplit(str(url)).query).items()}
        code = application.allow(application.read_consent(query), self.cafe.merchant_id)
        returned = Returned({"code": code, "state": "state"}, consent.redirect_uri, verifier)
        return await onboarding.exchange_consent("square", returned)

    async def sync(self) -> dict[str, Any]:
        return (await self.host.services.sync.run(self.connection.id)).as_json()

    async def sync_quietly(self) -> None:
        """Read the till whatever comes of it."""
        for due in await self.host.store.write(lambda tx: connections.schedule.lease_polls(tx, 1, self.connection.id)):
            await self.host.reader.poll(due)

    def applied(self, *kinds: str) -> list[dict[str, Any]]:
        """What 7stamp really did, of these kinds (or of stamps)."""
        wanted = kinds or ("stamps_added", "stamps_reversed")
        return [one for one in self.sevenstamp.state.operations if one["kind"] in wanted]

    def stamps(self, phone: str) -> int:
        """The stamps that a customer's card got, less those taken back."""
        cards = [card.id for card in self.sevenstamp.state.cards.values() if card.phone == phone]
        signs = {"stamps_added": 1, "stamps_reversed": -1}
        return sum(signs[one["kind"]] * one["count"] for one in self.applied() if one["card_id"] in cards)

    async def journal(self) -> list[str]:
        lines = await self.host.store.read(lambda tx: ledger.journal.of_connection(tx, self.connection.id))
        return [self.host.words.word(line.message) for line in lines]

    async def operations(self) -> list[ledger.operations.Operation]:
        return await self.host.store.read(lambda tx: queries.operations.list_newest(tx, self.connection.id))

    async def hook(self, body: bytes, *, path: str = "/hooks/tills/poster", **more: Any) -> httpx.Response:
        """Post a hook to the host's web application."""
        return await post_hook(self.host, path, body, **more)


# making one takes longer than a hook
_applications: WeakKeyDictionary[Host, ASGIApp] = WeakKeyDictionary()


async def post_hook(host: Host, path: str, body: bytes, **more: Any) -> httpx.Response:
    """Post a hook to a host's web application, without a server between."""
    if host not in _applications:
        _applications[host] = application(host)
    transport = httpx.ASGITransport(app=_applications[host])
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        return await client.post(path, content=body, **more)


@asynccontextmanager
async def served_together(*apps: ASGIApp) -> AsyncIterator[list[str]]:
    """Serve applications at origins of their own, and end them at once: each takes its time for it."""
    servers = [serving(app) for app in apps]
    origins = [await server.__aenter__() for server in servers]
    try:
        yield origins
    finally:
        await asyncio.gather(*(server.__aexit__(None, None, None) for server in servers))


@asynccontextmanager
async def build(
    folder: Path,
    monkeypatch: Any,
    *accounts: Account,
    serve: ServeSandbox | None = None,
    square: SquareSandbox | None = None,
    time: Clock | None = None,
    **settings: Any,
) -> AsyncIterator[Installation]:
    """Build an installation whose host is open but does not run by itself. Its till is Poster, Serve or Square."""
    async with AsyncExitStack() as stack:
        till: Any = serve or square or PosterSandbox(*accounts)
        sevenstamp = Sandbox(goal=1_000_000)
        till_origin, sevenstamp_url = await stack.enter_async_context(served_together(till.application(), sevenstamp))
        environment = dict(till.environment(till_origin))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        values: dict[str, Any] = {
            "database_url": "",
            "sevenstamp_url": sevenstamp_url,
            "secret_key": SecretStr("a key that only tests use"),
            "settle_seconds": 0.5,
            "call_deadline_seconds": 5.0,
            "plugin_workers": 0,  # a process for each of hundreds of hosts: those about isolation ask for it
        }
        values |= settings
        # one whose key is in a file beside the database makes both
        values["database_url"] = values["database_url"] or new_database(folder, keyless=values["secret_key"] is None)
        chosen = Settings(**values)
        host = await stack.enter_async_context(Host(chosen, clock=time))
        cafe, connector = (
            (till.cafe, "serve") if serve else (till.account, "poster") if not square else (till.seller, "square")
        )
        yield Installation(cafe, till, sevenstamp, host, chosen, environment, connector)
