"""A browser as far as HTTP goes: its cookies, the CSRF tokens in forms, and no more."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from connectors.runtime.host import Host
from connectors.store import access
from connectors.web.app import application
from tests.installation import KEY, Installation
from tests.served_installation import PASSWORD, PASSWORD_HASH


class Browser:
    """One browser on one console."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    async def csrf_token(self) -> str:
        """Return the token that forms of this browser carry, from the first page that shows one."""
        for path in ("/sign-in", "/devices"):  # whoever is signed in is sent on from the first
            match = re.search(r'name="proof" value="(\w+)"', (await self.get(path)).text)
            if match is not None:
                return match[1]
        raise AssertionError("no page shows a form")

    async def post(self, path: str, /, csrf_token: str | None = None, **values: Any) -> httpx.Response:
        token = csrf_token if csrf_token is not None else await self.csrf_token()
        return await self.client.post(path, data={"proof": token, **values})

    async def post_and_follow(self, path: str, /, **values: Any) -> str:
        """Post a form, and return the text of the page that it leads to."""
        answer = await self.post(path, **values)
        assert answer.status_code == 303, answer.text
        return (await self.get(answer.headers["location"])).text

    async def sign_in(self, key: str = KEY, **values: str) -> Browser:
        answer = await self.post("/sign-in", key=key, next="/", **values)
        assert answer.status_code == 303, answer.text
        return self

    async def as_operator(self) -> Browser:
        answer = await self.post("/sign-in/operator", password=PASSWORD, next="/")
        assert answer.status_code == 303, answer.text
        return self

    async def make_link(self) -> str:
        """Make a sign-in link for another device, and return its path."""
        match = re.search(r'(/link/[\w-]+)" readonly', await self.post_and_follow("/devices/link"))
        assert match
        return match[1]

    async def is_signed_in(self) -> bool:
        return (await self.get("/devices")).status_code == 200


class Browsers:
    """Opens browsers on the console of a host."""

    def __init__(self, host: Host) -> None:
        self.app = application(host)
        self.clients: list[httpx.AsyncClient] = []

    def new(self, *, address: str = "198.51.100.7", base: str = "http://host") -> Browser:
        transport = httpx.ASGITransport(app=self.app, client=(address, 40000))
        client = httpx.AsyncClient(transport=transport, base_url=base)
        self.clients.append(client)
        return Browser(client)


@asynccontextmanager
async def open_browsers(installation: Installation) -> AsyncIterator[Browsers]:
    """Open the console of an installation, whose operator has a password, to browsers; close them in the end."""
    await installation.host.store.write(lambda tx: access.operator_password.set_password_hash(tx, PASSWORD_HASH))
    installation.host.listens_on("http://host")
    browsers = Browsers(installation.host)
    yield browsers
    for client in browsers.clients:
        await client.aclose()
