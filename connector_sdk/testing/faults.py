"""Faults for any stub: a transport in front of the stub's own, which answers with them first.

Owns how a till fails over HTTP; the suite decides when it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from connector_sdk.testing.stub import Fault

ORDINARY: Mapping[Fault, Callable[[], httpx.Response]] = {
    Fault.unavailable: lambda: httpx.Response(503),
    # one second is the shortest pause that the header can ask for, and the suite sits it out
    Fault.rate_limited: lambda: httpx.Response(429, headers={"Retry-After": "1"}),
    Fault.garbage: lambda: httpx.Response(200, content=b"<html>"),
    Fault.refused: lambda: httpx.Response(401, json={}),
}
"""The answers of tills that tell failures by HTTP status; a stub whose till has words of its own brings others."""


class Faulty(httpx.AsyncBaseTransport):
    """A stub's transport whose next answers can be faults: `TillStub.fail_next` calls its `fail`."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, answers: Mapping[Fault, Callable[[], httpx.Response]] = ORDINARY
    ) -> None:
        self._inner = inner
        self._answers = answers
        self._next: list[Fault] = []

    def fail(self, fault: Fault, times: int = 1) -> None:
        """Answer the next `times` requests with this fault, instead of any faults still to come; none where it is 0."""
        self._next = [fault] * times

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer with the next fault, or pass the request on."""
        # before the inner transport: while it fails, a till does not see the request either
        if self._next:
            return self._answers[self._next.pop(0)]()
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()
