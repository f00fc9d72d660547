"""One client's requests wait for each other, and nobody else's for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from starlette.responses import Response

from connectors.web.console.concurrency_limit import AT_ONCE
from connectors.web.console.routing import Role, Router, mount
from connectors.web.console.state import build_console
from connectors.web.console.visit import Visit
from tests.installation import Installation
from tests.served_installation import until


class SlowPages:
    """A console with one page, whose requests are in work until `go_on` is set."""

    def __init__(self, installation: Installation) -> None:
        self.working: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.go_on = asyncio.Event()
        router = Router()
        router.get("/slow", Role.anyone)(self._slow)
        self.app = FastAPI()
        mount(self.app, build_console(installation.host), router)

    async def _slow(self, visit: Visit) -> Response:
        address = visit.console.clients.address(visit.request)
        self.working[address] += 1
        self.most[address] = max(self.most[address], self.working[address])
        await self.go_on.wait()
        self.working[address] -= 1
        return Response("slow")

    @asynccontextmanager
    async def browser(self, address: str) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=self.app, client=(address, 40000))
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            yield client


async def test_one_client_has_few_pages_in_work_at_once_and_another_is_answered_meanwhile(
    installation: Installation,
) -> None:
    pages, greedy, honest = SlowPages(installation), "198.51.100.7", "203.0.113.5"
    async with pages.browser(greedy) as greedy_browser, pages.browser(honest) as honest_browser:
        requests = [asyncio.create_task(greedy_browser.get("/slow")) for _ in range(20)]
        await until(lambda: _is(pages.working[greedy] == AT_ONCE))
        last = asyncio.create_task(honest_browser.get("/slow"))
        await until(lambda: _is(pages.working[honest] == 1))
        assert pages.working[greedy] == AT_ONCE
        pages.go_on.set()
        assert [answer.status_code for answer in await asyncio.gather(*requests, last)] == [200] * 21
    assert pages.most == {greedy: AT_ONCE, honest: 1}


async def test_a_client_that_stops_waiting_leaves_the_turn_to_others(installation: Installation) -> None:
    pages, address = SlowPages(installation), "198.51.100.7"
    async with pages.browser(address) as browser:
        cancelled = [asyncio.create_task(browser.get("/slow")) for _ in range(AT_ONCE + 2)]
        await until(lambda: _is(pages.working[address] == AT_ONCE))
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        pages.go_on.set()
        assert (await browser.get("/slow")).status_code == 200


async def _is(condition: bool) -> bool:
    return condition
