"""Who waits for a check is let in by turns, and whoever goes away gives the turn up."""

from __future__ import annotations

import asyncio

import pytest

from connectors.web.console.sign_in_limits import FairQueue, TooManyAttempts


class Crowd:
    """People who wait for turns in a queue; each has the turn until it is `let_go`."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.inside: list[str] = []
        self._gone: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, network: str) -> None:
        """Wait for a turn, and come as far as one can now."""
        self._gone[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._turn(name, network))
        await _settled()

    async def _turn(self, name: str, network: str) -> None:
        async with self.queue.turn(name, network):
            self.inside.append(name)
            await self._gone[name].wait()
        self.inside.remove(name)

    def leave(self, name: str) -> None:
        self._gone[name].set()

    async def let_go(self, name: str) -> None:
        self.leave(name)
        await _settled()


async def _settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_go_round_the_networks_however_many_of_one_wait() -> None:
    crowd = Crowd(FairQueue(1))
    for name in ("a1", "a2", "a3", "b1"):
        await crowd.come(name, name[0])
    assert crowd.inside == ["a1"]
    await crowd.let_go("a1")
    assert crowd.inside == ["a2"]
    await crowd.let_go("a2")
    assert crowd.inside == ["b1"]  # before the third of the other network
    await crowd.let_go("b1")
    assert crowd.inside == ["a3"]
    await crowd.let_go("a3")
    await crowd.come("c1", "c")
    assert crowd.inside == ["c1"]
    await crowd.let_go("c1")


async def test_whoever_goes_away_gives_up_the_place_and_the_turn() -> None:
    crowd = Crowd(FairQueue(1))
    for name in ("a1", "b1", "c1", "d1"):
        await crowd.come(name, name[0])
    crowd.tasks["b1"].cancel()  # while it waits
    crowd.tasks["a1"].cancel()  # while it has the turn
    await _settled()
    assert crowd.inside[-1] == "c1"
    crowd.leave("c1")
    await asyncio.sleep(0)
    crowd.tasks["d1"].cancel()  # in the moment in which it is given the turn
    await _settled()
    await crowd.come("e1", "e")
    assert crowd.inside[-1] == "e1"
    await crowd.let_go("e1")


async def test_waiting_is_bounded_by_address_by_network_and_in_all() -> None:
    crowd = Crowd(FairQueue(1, max_of_network=3, max_waiting=5))
    for name in ("a0", "a1", "a2", "a3"):
        await crowd.come(name, "a")
    with pytest.raises(TooManyAttempts):
        await _once(crowd.queue, "a4", "a")
    await crowd.come("b1", "b")
    second = asyncio.create_task(_once(crowd.queue, "b1", "b"))
    await _settled()
    with pytest.raises(TooManyAttempts):
        await _once(crowd.queue, "b1", "b")
    second.cancel()
    await _settled()
    await crowd.come("c1", "c")
    await crowd.come("d1", "d")  # all places are taken: the network with the most gives one up
    assert isinstance(crowd.tasks["a3"].exception(), TooManyAttempts)
    for name in ("a0", "a1", "b1", "c1", "d1", "a2"):
        assert crowd.inside == [name]
        await crowd.let_go(name)


async def _once(queue: FairQueue, address: str, network: str) -> None:
    async with queue.turn(address, network):
        pass


async def test_whoever_waits_too_long_is_told_to_come_again() -> None:
    crowd = Crowd(FairQueue(1, patience=0.01))
    await crowd.come("a1", "a")
    with pytest.raises(TooManyAttempts):
        await _once(crowd.queue, "b1", "b")
    await crowd.let_go("a1")
    await _once(crowd.queue, "b1", "b")
