"""Tills that never answer: they keep the calls that are theirs, and others' are made meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from connector_sdk.http import ConnectionShare, production_transport, send
from connectors import descriptors
from connectors.cli.servers import serving
from tests.installation import Installation, build

AnswerT = TypeVar("AnswerT")
SECRET_PART = ":02391570ff9af128e93c5a771055ba88"


@dataclass
class Tills:
    """Accounts of Poster behind one address; those whose token begins with 9 never answer."""

    origin: str = ""
    waiting: list[str] = field(default_factory=list)
    """Tokens of calls that wait."""

    async def answer(self, request: Request) -> JSONResponse:
        token = request.query_params["token"]
        if token.startswith("9"):
            self.waiting.append(token)
            await asyncio.Event().wait()
        return JSONResponse({"response": []})

    async def until_waiting(self, calls: int) -> None:
        async with asyncio.timeout(20):
            while len(self.waiting) < calls:  # noqa: ASYNC110 - another process could not say more
                await asyncio.sleep(0.01)


@pytest.fixture
async def tills() -> AsyncIterator[Tills]:
    made = Tills()
    async with serving(Starlette(routes=[Route("/{path:path}", made.answer)])) as made.origin:
        yield made


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tills: Tills) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch) as one:
        monkeypatch.setenv("POSTER_API_URL", f"{tills.origin}/api")
        yield one


@asynccontextmanager
async def hanging(*calls: Awaitable[object]) -> AsyncIterator[list[asyncio.Task[object]]]:
    """Make calls that never end, and cancel them at the end."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        yield tasks  # type: ignore[misc]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def receipt(installation: Installation, token: str) -> Awaitable[object]:
    """Ask one account for a receipt."""
    return installation.host.tills.build("poster", {"access_token": token}).fetch("1")


async def test_hundreds_of_tills_that_hang_hold_up_no_other(installation: Installation, tills: Tills) -> None:
    tokens = [f"{900_000 + number}{SECRET_PART}" for number in range(300)]
    async with hanging(*(receipt(installation, token) for token in tokens)) as calls:
        await tills.until_waiting(len(tokens))
        async with asyncio.timeout(10):
            assert await receipt(installation, f"861052{SECRET_PART}") is None
        assert not any(call.done() for call in calls)


async def test_the_tills_of_one_vendor_leave_half_of_all_calls_to_those_of_others(
    installation: Installation, tills: Tills, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "_MOST_TILL_CALLS", 20)
    tokens = [f"{900_000 + number}{SECRET_PART}" for number in range(30)]
    async with hanging(*(receipt(installation, token) for token in tokens)):
        await tills.until_waiting(10)
        serve = installation.host.tills.transport("serve")
        answer = await send(serve, "GET", f"{tills.origin}/api", params={"token": "1"}, deadline=10)
        assert answer.is_success
        assert len(tills.waiting) == 10


async def test_one_till_that_hangs_keeps_no_more_than_its_share(tills: Tills) -> None:
    pool = production_transport(8)
    one, other = ConnectionShare(pool, 3), ConnectionShare(pool, 3)
    calls = [send(one, "GET", tills.origin, params={"token": "9"}, deadline=60) for _ in range(20)]
    async with hanging(*calls):
        await tills.until_waiting(3)
        for _ in range(10):
            assert (await send(other, "GET", tills.origin, params={"token": "1"}, deadline=10)).is_success
        assert len(tills.waiting) == 3
    await pool.aclose()


@pytest.mark.parametrize(("soft", "hard", "calls", "clients"), [(256, 1024, 256, 640), (1024, 65536, 1000, 4000)])
def test_file_descriptors_are_divided_between_clients_and_tills(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, calls: int, clients: int
) -> None:
    resource = pytest.importorskip("resource")
    limits = [soft, hard]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, now: limits.__setitem__(slice(None), now))
    assert descriptors.till_calls() == calls
    assert descriptors.client_connections(4000) == clients
