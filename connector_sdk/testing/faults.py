"""Faults that any stub can have: put before its transport, they are the till's next answers.

Owns how a till fails over HTTP; when it does is the suite's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from connector_sdk.testing.stub import Fault

ORDINARY: Mapping[Fault, Callable[[], httpx.Response]] = {
    Fault.unavailable: lambda: httpx.Response(503),
    Fault.rate_limited: lambda: httpx.Response(429, headers={"Retry-After": "1"}),
    Fault.garbage: lambda: httpx.Response(200, content=b"<html>"),
    Fault.refused: lambda: httpx.Response(401, json={}),
}
"""What tills answer that say it by HTTP status; one that has words of its own for it gives them instead."""


class Faulty(httpx.AsyncBaseTransport):
    """A stub's transport whose next answers can be faults; a stub's `fail_next` calls its `fail`."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, answers: Mapping[Fault, Callable[[], httpx.Response]] = ORDINARY
    ) -> None:
        self._inner = inner
        self._answers = answers
        self._next: list[Fault] = []

    def fail(self, fault: Fault, times: int = 1) -> None:
        """The next `times` answers are this fault."""
        self._next = [fault] * times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._next:
            return self._answers[self._next.pop(0)]()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()
