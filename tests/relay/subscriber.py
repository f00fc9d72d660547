"""A subscriber: an endpoint that keeps what it is sent, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from connectors.cli.servers import serving


@dataclass(frozen=True)
class Received:
    """A request: its path, headers (lower-case names) and body, and the status that it was answered with."""

    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Subscriber:
    """The ASGI application; `answer` gives the status of each request, `text` its body, `seconds` its pause."""

    answer: Callable[[Received], int] = lambda _received: 200
    text: bytes = b"thanks"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    seconds: float = 0.0
    received: list[Received] = field(default_factory=list)
    origin: str = ""

    @property
    def taken(self) -> list[Received]:
        return [one for one in self.received if one.status == 200]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        asked = Received(scope["path"], headers, body, 0)
        status = self.answer(asked)
        self.received.append(Received(asked.path, headers, body, status))
        await asyncio.sleep(self.seconds)
        await send({"type": "http.response.start", "status": status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.text})


@asynccontextmanager
async def subscribing(**more: Any) -> AsyncIterator[Subscriber]:
    """Serve a subscriber on loopback."""
    subscriber = Subscriber(**more)
    async with serving(subscriber) as origin:
        subscriber.origin = origin
        yield subscriber
