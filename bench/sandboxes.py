"""Both sandboxes in a process of their own, with many Poster accounts, for other benchmarks.

Both answer after the seconds that a second argument says. `POST /_bench/sell` closes receipts in every account;
`POST /_bench/applied` answers once so many more stamps were applied; `POST /_bench/taken` is a subscriber that takes
everything.
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from connectors.cli.servers import listening, serve
from connectors.sevenstamp.sandbox import Sandbox
from poster_connector.sandbox import Account, PosterSandbox

PEOPLE = 10
_HANGING, _HANG_SECONDS = b"token=16", 600.0
"""Accounts from number 900,000 on are of tills that hang."""


def token(number: int) -> str:
    """Return the access token of the account with this number."""
    return f"{700000 + number}:02391570ff9af128e93c5a771055ba88"


class Both:
    """7stamp and Poster behind one address, as fast as they go."""

    def __init__(self, accounts: int, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.sevenstamp = Sandbox(goal=10**9)
        self.cafes = [Account(token=token(number)) for number in range(accounts)]
        self.counted = self.looked = 0
        self.poster = PosterSandbox(*self.cafes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/_bench/"):
            await self._control(scope, receive, send)
        elif scope["type"] == "http" and scope["path"].startswith("/api/"):
            if self.seconds:
                await asyncio.sleep(_HANG_SECONDS if _HANGING in scope["query_string"] else self.seconds)
            await self.poster(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _live(receive, send)
        else:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            await self.sevenstamp(scope, receive, send)

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        answer: object
        if scope["path"] == "/_bench/taken":
            answer = {}
        elif scope["path"] == "/_bench/sell":
            each = json.loads(message["body"])["each"]
            answer = {cafe.token: [self._sell(cafe, number) for number in range(each)] for cafe in self.cafes}
        else:
            answer = await self._applied_after(json.loads(message["body"])["more"])
        body = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _applied_after(self, more: int) -> int:
        """Wait until so many more stamps are applied, and return how many there are."""
        target = self._applied() + more
        while (applied := self._applied()) < target:
            await asyncio.sleep(0.02)
        return applied

    def _applied(self) -> int:
        """Count the stamps applied so far, on from the last look: looking must cost nothing."""
        operations = self.sevenstamp.state.operations
        self.counted += sum(operation["kind"] == "stamps_added" for operation in operations[self.looked :])
        self.looked = len(operations)
        return self.counted

    @staticmethod
    def _sell(cafe: Account, number: int) -> int:
        client = cafe.client(f"+3806{cafe.number}{number % PEOPLE:02d}")
        return cafe.sell(client, 2750)


async def _live(receive: Receive, send: Send) -> None:
    """Start and end without the sandbox's webhooks: the host under measure does not listen for them."""
    for moment in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{moment}.complete"})


async def main() -> None:
    """Print the origin, then serve until the process is ended."""
    sock = listening("127.0.0.1", 0)
    print(f"http://127.0.0.1:{sock.getsockname()[1]}", flush=True)
    await serve(Both(int(sys.argv[1]), *map(float, sys.argv[2:])), sock)


if __name__ == "__main__":
    uvloop.run(main())
