"""A program that uses the API of an installation, in this process, with a token of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from connectors.web.app import application
from tests.installation import Installation

EVERYTHING = ("read", "act", "subscribe", "sell")


class Program:
    """Calls `/api/v1` with a bearer token."""

    def __init__(self, client: httpx.AsyncClient, token: str) -> None:
        self.client, self.token = client, token

    async def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.call("POST", path, json=json, **more)

    def with_token(self, token: str) -> Program:
        return Program(self.client, token)


async def token_for(installation: Installation, *scopes: str, business: str | None = None) -> str:
    """Make a token with these rights, or with all."""
    owner = business or installation.connection.business_id
    _, token = await installation.host.services.tokens.make(owner, "A test", scopes or EVERYTHING)
    return token


@asynccontextmanager
async def programming(installation: Installation, *scopes: str) -> AsyncIterator[Program]:
    """A program with these rights, or with all."""
    transport = httpx.ASGITransport(app=application(installation.host), client=("198.51.100.9", 4000))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        yield Program(client, await token_for(installation, *scopes))
