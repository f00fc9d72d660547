"""A browser as far as HTTP goes: cookies, the proofs in forms, and no more."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from argon2 import PasswordHasher

from connectors.runtime.host import Host
from connectors.store import access
from connectors.web.app import application
from tests.stage import PASSWORD
from tests.town import KEY, Town


class Visitor:
    """One browser on one console."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.client.get(path, **more)

    async def proof(self) -> str:
        """The proof that forms of this browser carry."""
        found = re.search(r'name="proof" value="(\w+)"', (await self.get("/sign-in")).text)
        if found is None:
            found = re.search(r'name="proof" value="(\w+)"', (await self.client.get("/devices")).text)
        assert found
        return found[1]

    async def post(self, path: str, /, proof: str | None = None, **values: Any) -> httpx.Response:
        given = {"proof": proof if proof is not None else await self.proof(), **values}
        return await self.client.post(path, data=given)

    async def sign_in(self, key: str = KEY, **more: str) -> Visitor:
        answer = await self.post("/sign-in", key=key, next="/", **more)
        assert answer.status_code == 303, answer.text
        return self

    async def as_operator(self) -> Visitor:
        answer = await self.post("/sign-in/operator", password=PASSWORD, next="/")
        assert answer.status_code == 303, answer.text
        return self


class Browsers:
    """Makes visitors, each a browser of its own."""

    def __init__(self, host: Host) -> None:
        self.app = application(host)
        self.clients: list[httpx.AsyncClient] = []

    def new(self, *, address: str = "198.51.100.7", base: str = "http://host") -> Visitor:
        transport = httpx.ASGITransport(app=self.app, client=(address, 40000))
        client = httpx.AsyncClient(transport=transport, base_url=base)
        self.clients.append(client)
        return Visitor(client)


@asynccontextmanager
async def browsers(town: Town) -> AsyncIterator[Browsers]:
    hashed = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
    await town.host.store.write(lambda tx: access.operator_password.set_password_hash(tx, hashed))
    town.host.listens_on("http://host")
    made = Browsers(town.host)
    yield made
    for client in made.clients:
        await client.aclose()
