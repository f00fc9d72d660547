"""What others notice of an attack: how long `/healthz` takes, how soon a sale is a stamp, and what the host uses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from connector_sdk.signatures import BodyHmac
from tests.attacks.deployment import Deployment
from tests.attacks.target import HONEST_KEY, HONEST_SECRET, POSTER_KEY

HEALTH_EVERY = 0.1
SALE_EVERY = 1.0
_POSTER_PHONE, _HONEST_PHONE = "+380501110001", "+34600111222"
_LOOK_EVERY = 0.05
_SEND_AGAIN = 1.0
"""How long the honest till waits before it sends a refused hook again."""


@dataclass(slots=True)
class Measurements:
    """What was measured; times in seconds, memory in bytes."""

    health: list[float] = field(default_factory=list)
    unhealthy: list[str] = field(default_factory=list)
    """What `/healthz` answered, or how it failed, where that was not 200."""
    stamps: list[float] = field(default_factory=list)
    """From each sale to its stamp."""
    sent_again: int = 0
    """How often the honest till was told to send a hook again later."""
    lost: list[str] = field(default_factory=list)
    """Sales that did not become stamps in time, by cafe and number."""
    host_memory: int = 0
    workers_memory: int = 0
    processor_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(slots=True)
class Cafe:
    """An honest cafe: sells to one customer, whose card holds as many stamps as there were sales."""

    deployment: Deployment
    client: httpx.AsyncClient
    key: str
    phone: str
    sold: int = 0

    async def sell(self, measurements: Measurements) -> None:
        """Sell; the till tells the host, and tells it again if it is asked to."""
        raise NotImplementedError

    async def stamps(self) -> int:
        """How many stamps the customer has."""
        answer = await self.client.get(
            f"{self.deployment.sevenstamp}/v1/cards",
            params={"phone": self.phone},
            headers={"Authorization": f"Bearer {self.key}"},
        )
        return sum(card["stamps"] for card in answer.raise_for_status().json())

    async def sell_and_wait(self, measurements: Measurements, patience: float) -> bool:
        """Sell once and wait for the stamp; whether it came within `patience` seconds."""
        began = time.perf_counter()
        self.sold += 1
        try:
            async with asyncio.timeout(patience):
                await self.sell(measurements)
                while await self.stamps() < self.sold:  # noqa: ASYNC110 - another process counts them
                    await asyncio.sleep(_LOOK_EVERY)
        except TimeoutError:
            measurements.lost.append(f"{type(self).__name__} {self.sold}")
            return False
        measurements.stamps.append(time.perf_counter() - began)
        return True


class PosterCafe(Cafe):
    """A cafe with Poster: a hook only names the receipt, which the host then fetches."""

    async def sell(self, measurements: Measurements) -> None:
        """Sell at the sandbox, whose Poster posts the hook."""
        body = {"phone": self.phone, "paid": 2750}
        (await self.client.post(f"{self.deployment.poster}/_sandbox/sell", json=body)).raise_for_status()


class WebhookCafe(Cafe):
    """A cafe whose till sends its receipts as JSON, by the same connector as the attacker's."""

    async def sell(self, measurements: Measurements) -> None:
        """Post a receipt until the host accepts it."""
        at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        body = {"no": f"honest-{self.sold}", "sum": "2.50", "at": at, "phone": self.phone, "status": "paid"}
        content = json.dumps(body).encode()
        headers = {"X-Signature": BodyHmac(HONEST_SECRET).sign(content)}
        while not await self._is_accepted(content, headers):
            measurements.sent_again += 1
            await asyncio.sleep(_SEND_AGAIN)

    async def _is_accepted(self, content: bytes, headers: dict[str, str]) -> bool:
        url = f"{self.deployment.origin}{self.deployment.honest_hook}"
        try:
            answer = await self.client.post(url, content=content, headers=headers)
        except httpx.HTTPError:
            return False
        if answer.status_code not in (200, 429, 503):
            raise RuntimeError(f"an honest hook was answered {answer.status_code}: {answer.text}")
        return answer.status_code == 200


class Monitor:
    """Measures a deployment, and sells in its honest cafes, while something happens to it."""

    def __init__(self, deployment: Deployment, client: httpx.AsyncClient, patience: float) -> None:
        self.deployment = deployment
        self._client = client
        self._patience = patience
        self.cafes: list[Cafe] = [
            PosterCafe(deployment, client, POSTER_KEY, _POSTER_PHONE),
            WebhookCafe(deployment, client, HONEST_KEY, _HONEST_PHONE),
        ]

    @classmethod
    @asynccontextmanager
    async def of(cls, deployment: Deployment, *, patience: float) -> AsyncIterator[Monitor]:
        """Observe a deployment; a sale that is no stamp after `patience` seconds is lost."""
        async with httpx.AsyncClient(trust_env=False, timeout=patience) as client:
            yield cls(deployment, client, patience)

    async def sell(self, measurements: Measurements) -> None:
        """Sell once in each cafe and wait for the stamps."""
        await asyncio.gather(*(cafe.sell_and_wait(measurements, self._patience) for cafe in self.cafes))

    async def attack(self, name: str, seconds: float) -> tuple[Measurements, dict[str, int]]:
        """Run an attack and look at everything meanwhile; also return what the attacker was answered.

        Every sale that begins during the attack is waited for, though the attack may end before.
        """
        ending = asyncio.create_task(asyncio.to_thread(self.deployment.attack, name, seconds))
        measurements = await self.measure_until(ending)
        return measurements, ending.result()

    async def measure_for(self, seconds: float) -> Measurements:
        """Measure for so many seconds while nobody attacks."""
        return await self.measure_until(asyncio.create_task(asyncio.sleep(seconds)))

    async def measure_until(self, ending: asyncio.Future[Any]) -> Measurements:
        """Measure until a task ends."""
        measurements, began, used = Measurements(), time.perf_counter(), self.processor_seconds()
        watching = [
            asyncio.create_task(work) for work in (self._ask_health(measurements), self._sample_memory(measurements))
        ]
        selling = [asyncio.create_task(self._sell_on(cafe, measurements, ending)) for cafe in self.cafes]
        try:
            await asyncio.gather(ending, *selling)
        finally:
            for task in (*watching, *selling):
                task.cancel()
            await asyncio.gather(*watching, *selling, return_exceptions=True)
        measurements.seconds = time.perf_counter() - began
        measurements.processor_seconds = self.processor_seconds() - used
        return measurements

    async def _sell_on(self, cafe: Cafe, measurements: Measurements, ending: asyncio.Future[Any]) -> None:
        """Sell about once a second until the attack ends, at least once."""
        while True:
            await cafe.sell_and_wait(measurements, self._patience)
            await asyncio.wait([ending], timeout=SALE_EVERY)
            if ending.done():
                return

    async def _ask_health(self, measurements: Measurements) -> None:
        """Ask ten times a second, whether or not there were answers before."""
        asking: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = asyncio.create_task(self._ask_once(measurements))
                asking.add(task)
                task.add_done_callback(asking.discard)
                await asyncio.sleep(HEALTH_EVERY)
        finally:
            for task in asking:
                task.cancel()

    async def _ask_once(self, measurements: Measurements) -> None:
        """Ask on a connection of its own, as who looks from outside does."""
        url = httpx.URL(self.deployment.origin)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._patience):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                with contextlib.closing(writer.transport):
                    writer.write(b"GET /healthz HTTP/1.1\r\nHost: host\r\nConnection: close\r\n\r\n")
                    answer = (await reader.read())[9:12].decode()
        except (OSError, TimeoutError) as error:
            answer = type(error).__name__
        measurements.health.append(time.perf_counter() - began)
        if answer != "200":
            measurements.unhealthy.append(answer)

    # --- the host's process and its workers, where the system tells -------------------------------------------------

    async def _sample_memory(self, measurements: Measurements) -> None:
        while True:
            measurements.host_memory = max(measurements.host_memory, self.memory())
            workers = sum(_resident(worker) for worker in self._workers())
            measurements.workers_memory = max(measurements.workers_memory, workers)
            await asyncio.sleep(0.2)

    def memory(self) -> int:
        """What the host's process has in memory now, in bytes; 0 where the system does not tell."""
        return _resident(self.deployment.process.pid)

    def processor_seconds(self) -> float:
        """What the host and its workers computed so far, those that ended included."""
        return sum(map(_processor_seconds, (self.deployment.process.pid, *self._workers())))

    def _workers(self) -> list[int]:
        pid = self.deployment.process.pid
        with contextlib.suppress(OSError):
            threads = Path(f"/proc/{pid}/task").glob("*/children")
            return [int(child) for thread in threads for child in thread.read_text().split()]
        return []


def _resident(pid: int) -> int:
    """Bytes of a process in memory."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


def _processor_seconds(pid: int) -> float:
    """What a process and its ended children computed."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0
