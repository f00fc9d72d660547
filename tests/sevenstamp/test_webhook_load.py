"""The sandbox's webhooks where nobody listens: they wait their turn, and the sandbox goes on answering."""

from __future__ import annotations

import asyncio

import httpx

from connectors.sevenstamp.sandbox import Sandbox
from connectors.sevenstamp.sandbox.webhooks import _POSTS_AT_ONCE

EVENTS = 500


async def test_however_many_events_there_are_few_are_posted_at_once() -> None:
    under_way = most = posted = 0

    async def taken(_request: httpx.Request) -> httpx.Response:
        nonlocal under_way, most, posted
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        posted += 1
        return httpx.Response(200)

    webhooks = Sandbox().webhooks
    webhooks.transport = httpx.MockTransport(taken)
    webhooks.subscribe("b_1", "http://nobody.test/", ["stamp_added"], "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz")
    webhooks.start()
    try:
        for _ in range(EVENTS):
            webhooks.emit("b_1", {"event": "stamp_added"})
        await asyncio.gather(*webhooks._tasks)
    finally:
        await webhooks.stop()
    assert (posted, most) == (EVENTS, _POSTS_AT_ONCE)
