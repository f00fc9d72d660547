"""A simulated year with access that ends after thirty days, and hosts that are killed at every step of a renewal."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from connector_sdk.errors import ConnectorError
from connectors.domain.clock import DAY, MINUTE, SteadyClock, moment
from connectors.domain.connection import Health
from connectors.domain.renewal import LEASE
from connectors.store import connections
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_seller import Seller
from tests.installation import Installation, build
from tests.processes import forking
from tests.sync import renewing
from tests.sync.renewing import STEPS, StoppedClock

A_WEEK = 7


class _Year:
    """An installation of Square in which only this test moves the time; it counts each showing of a refresh token."""

    def __init__(self, installation: Installation, clock: StoppedClock) -> None:
        self.installation, self.clock = installation, clock
        self.shown: Counter[str] = Counter()
        application = installation.till.square_application
        refresh = application._refresh

        def counted(form: Mapping[str, object]) -> Any:
            self.shown[str(form.get("refresh_token"))] += 1
            return refresh(form)

        application._refresh = counted
        self._processes = forking()

    async def renew(self) -> None:
        """Renew to the end, as another host would."""
        with suppress(ConnectorError):
            await self.installation.host.tills.renewer.renew(self.id)

    async def is_killed(self, step: str) -> bool:
        """Renew in a process of its own that is to be killed at a step; return whether it was."""
        arguments = (self.installation.settings, self.installation.environment, self.clock.at, self.id, step)
        process = self._processes.Process(target=renewing.renew, args=arguments)
        process.start()
        await asyncio.to_thread(process.join, 60)
        assert process.exitcode in (0, -9), "the renewal did not end"
        return process.exitcode == -9

    @property
    def id(self) -> str:
        return self.installation.connection.id

    async def is_due(self) -> bool:
        return bool(await self.installation.host.store.read(lambda tx: connections.renewals.due(tx, 1)))

    async def asks_for_consent(self) -> bool:
        """Whether the cafe is told by now that its consent ends."""
        connection = await self.installation.host.services.connections.get(self.id)
        return connection.consent_trouble_at is not None and connection.consent_trouble_at <= self.clock.at

    async def reads(self) -> None:
        """Read the till, and see that it lets us in."""
        host = self.installation.host
        for due in await host.store.write(lambda tx: connections.schedule.lease_polls(tx, 1, self.id)):
            await host.reader.poll(due)
        connection = await self.installation.host.services.connections.get(self.id)
        assert connection.health is Health.active, f"it stopped on {moment(self.clock.at)}: {connection.reason}"


@asynccontextmanager
async def a_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, secret: bool) -> AsyncIterator[_Year]:
    # a year of reads within a minute: they are paced by another clock than the one that this test moves
    monkeypatch.setattr("square_connector.connector.CALLS_PER_SECOND", 10_000.0)
    clock = StoppedClock(SteadyClock().now())
    square = SquareSandbox(Seller(now=lambda: moment(clock.at)), now=lambda: moment(clock.at))
    async with build(tmp_path, monkeypatch, square=square, time=clock) as installation:
        if not secret:
            monkeypatch.delenv("SQUARE_APPLICATION_SECRET")
            del installation.environment["SQUARE_APPLICATION_SECRET"]
        await installation.connect(grant=await installation.consent())
        yield _Year(installation, clock)


@pytest.mark.slow
async def test_a_refresh_token_that_stays_the_same_lasts_a_year_of_kills_without_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_year(tmp_path, monkeypatch, secret=True) as year:
        steps, killed = cycle(STEPS), Counter[str]()
        for _ in range(365):
            year.clock.at += DAY
            if await year.is_due():
                step = next(steps)
                killed[step] += await year.is_killed(step)
                year.clock.at += LEASE + MINUTE
                await year.renew()
                assert not await year.is_due(), f"it is not renewed after a kill at {step!r}"
            await year.reads()
            assert not await year.asks_for_consent()
        assert set(killed) == set(STEPS)
        assert min(killed.values()) >= 5, killed


@pytest.mark.slow
async def test_a_refresh_token_that_is_good_once_is_never_shown_twice_in_a_year_of_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_year(tmp_path, monkeypatch, secret=False) as year:
        steps, consents, told_on = cycle(STEPS), 0, 0
        for day in range(365):
            year.clock.at += DAY
            if await year.is_due():
                await year.is_killed(next(steps))
                year.clock.at += LEASE + MINUTE
                await year.renew()
            if await year.asks_for_consent():
                told_on = told_on or day
                # the owner reads the email a week later, and presses the button
                if day >= told_on + A_WEEK:
                    grant = await year.installation.consent()
                    await year.installation.host.services.connections.edit(year.id, {}, grant=grant)
                    consents, told_on = consents + 1, 0
            await year.reads()
        assert year.shown
        assert max(year.shown.values()) == 1, "a refresh token that is good once was shown twice"
        # asked of the cafe only where a kill fell between the till's answer and the database, and no oftener
        assert 5 <= consents <= len(year.shown)
