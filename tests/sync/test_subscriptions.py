"""Hooks that a till is told of by its API: when a connection begins, its address changes, and it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connector_sdk.errors import TillUnavailable
from connectors.domain.clock import MINUTE
from serve_connector import ServeConnector
from serve_connector.sandbox import ServeSandbox
from serve_connector.sandbox_cafe import Cafe
from tests.installation import Installation, build
from tests.web.clock import MovableClock


class _Till:
    """The addresses to which a till posts, as its API has them."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.fails = False

    async def subscribe(self, address: str) -> None:
        if self.fails:
            raise TillUnavailable("not now")
        if address not in self.addresses:
            self.addresses.append(address)

    async def unsubscribe(self, address: str) -> None:
        if address in self.addresses:
            self.addresses.remove(address)


@pytest.fixture
def till(monkeypatch: pytest.MonkeyPatch) -> _Till:
    till = _Till()
    monkeypatch.setattr(ServeConnector, "subscribe", lambda _self, address: till.subscribe(address))
    monkeypatch.setattr(ServeConnector, "unsubscribe", lambda _self, address: till.unsubscribe(address))
    return till


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    clock = MovableClock()
    async with build(tmp_path, monkeypatch, serve=ServeSandbox(Cafe()), time=clock) as installation:
        installation.reach_at("https://host.test")
        yield installation


async def address(serve: Installation) -> str:
    connection = await serve.host.services.connections.get(serve.connection.id)
    return str(serve.host.services.connections.hook_url(connection))


async def test_a_connection_begins_changes_and_ends_with_its_address_at_the_till(
    serve: Installation, till: _Till
) -> None:
    await serve.connect()
    assert till.addresses == [await address(serve)]
    await serve.host.services.connections.renew_hook_address(serve.connection.id)
    assert till.addresses == [await address(serve)]
    await serve.host.services.connections.remove(serve.connection.id)
    assert till.addresses == []


async def test_another_public_address_is_told_with_the_next_reads(serve: Installation, till: _Till) -> None:
    await serve.connect()
    serve.reach_at("https://other.test")
    _ahead(serve).ahead += 11 * MINUTE
    await serve.sync()
    assert till.addresses == [await address(serve)]
    assert till.addresses[0].startswith("https://other.test/")


async def test_a_till_that_could_not_be_told_is_told_later_and_not_at_every_read(
    serve: Installation, till: _Till
) -> None:
    till.fails = True
    await serve.connect()
    till.fails = False
    await serve.sync()
    assert till.addresses == []  # not yet: a till that fails is not pressed
    _ahead(serve).ahead += 11 * MINUTE
    await serve.sync()
    assert till.addresses == [await address(serve)]


def _ahead(serve: Installation) -> MovableClock:
    clock = serve.host.store.clock
    assert isinstance(clock, MovableClock)
    return clock
