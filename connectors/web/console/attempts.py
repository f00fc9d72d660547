"""How many tries to sign in, or to confirm with a key or password, are checked: by address, network and business.

Owns the bounds and nothing else; what a try is checked against is `gate`'s. No bound here is one for everybody.

What a stranger with many addresses can cost, and what they cannot:

- A try at a key costs a call of 7stamp, a try at the operator's password costs argon2's work. An address has four
  tries, then growing pauses up to five minutes; a network (/24 of IPv4, /32 of IPv6) has twenty, then one a second. So
  a stranger with N addresses has 4 N tries at once and about N / 300 a second from then on.
- Whatever N is, `FairQueue` checks few of them at once, by turns of their networks: strangers together never have more
  than `gate`'s `_KEYS_AT_ONCE` calls on the wire and one argon2 at work. Who waits costs a connection and some bytes.
- An honest stranger waits for one turn of each network that has somebody waiting, so to shut them out takes hundreds of
  networks that all keep trying. It does not shut out whoever this host knows already: a key that a session or a
  connection has is asked about by itself, whatever its address does; a browser that was signed in before, and a session
  that confirms, wait in another queue, by turns of businesses. The operator has `connectors console link` besides.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_REMEMBERED = 10_000
_FREE_TRIES = 3
_LONGEST_DELAY = 300.0
_FORGOTTEN = 1800.0  # so long after the last delay an address begins anew
_CROWDED = 5.0


class TooMany(Exception):
    """Wait so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} seconds")
        self.seconds = max(1, round(seconds))


class Delays:
    """Growing delays for each address, session or browser; a try counts before it is known to be wrong."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def try_(self, address: str) -> None:
        """Raises `TooMany`."""
        now = time.monotonic()
        count, not_before = self._tries.get(address, (0, 0.0))
        if now < not_before:
            raise TooMany(not_before - now)
        if now > not_before + _FORGOTTEN and count:
            count = 0
        delay = 0.0 if count < _FREE_TRIES else min(2.0 ** (count - _FREE_TRIES + 1), _LONGEST_DELAY)
        self._tries[address] = (count + 1, now + delay)
        self._tries.move_to_end(address)
        while len(self._tries) > _REMEMBERED:
            self._tries.popitem(last=False)

    def wait(self, address: str) -> None:
        """Whether it must wait, without counting. Raises `TooMany`."""
        _, not_before = self._tries.get(address, (0, 0.0))
        if time.monotonic() < not_before:
            raise TooMany(not_before - time.monotonic())

    def right(self, address: str) -> None:
        self._tries.pop(address, None)


class Bound:
    """At most so many a second, after a burst."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._at = float(burst), time.monotonic()

    def take(self) -> None:
        """Raises `TooMany`."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            raise TooMany((1 - self._left) / self._per_second)
        self._left -= 1


class Bounds:
    """A `Bound` for each name, of the names last used."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._bounds: OrderedDict[str, Bound] = OrderedDict()

    def take(self, name: str) -> None:
        """Raises `TooMany`."""
        bound = self._bounds.setdefault(name, Bound(self._per_second, self._burst))
        self._bounds.move_to_end(name)
        while len(self._bounds) > _REMEMBERED:
            self._bounds.popitem(last=False)
        bound.take()


class FairQueue:
    """Lets `at_once` run; the others wait, and are let in by turns of their networks, each in the order of arrival.

    An address has at most two here, one that runs and one that waits, and a network at most `of_network` that wait.
    Where all places to wait are taken, the network that takes most of them gives one up.
    """

    def __init__(self, at_once: int, *, of_network: int = 8, waiting: int = 1000, patience: float = 30.0) -> None:
        self._free = at_once
        self._of_network, self._most, self._patience = of_network, waiting, patience
        self._here: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: str, network: str) -> AsyncIterator[None]:
        """Wait for a turn, and have it meanwhile. Raises `TooMany`."""
        if self._here[address] >= 2:
            raise TooMany(1)
        self._here[address] += 1
        try:
            if self._free:  # then nobody waits
                self._free -= 1
            else:
                await self._wait(network)
            try:
                yield
            finally:
                self._next()
        finally:
            self._here[address] -= 1
            if not self._here[address]:
                del self._here[address]

    async def _wait(self, network: str) -> None:
        self._make_room(network)
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(place)
        try:
            async with asyncio.timeout(self._patience):
                await place
        except TimeoutError:
            self._leave(network, place)
            raise TooMany(_CROWDED) from None
        except (asyncio.CancelledError, TooMany):
            self._leave(network, place)
            raise

    def _make_room(self, network: str) -> None:
        mine = len(self._waiting.get(network, ()))
        if mine >= self._of_network:
            raise TooMany(_CROWDED)
        if sum(len(places) for places in self._waiting.values()) < self._most:
            return
        fullest = max(self._waiting, key=lambda other: len(self._waiting[other]))
        if len(self._waiting[fullest]) <= mine + 1:
            raise TooMany(_CROWDED)
        place = self._waiting[fullest].pop()
        if not place.done():
            place.set_exception(TooMany(_CROWDED))

    def _leave(self, network: str, place: asyncio.Future[None]) -> None:
        """Give up a place, or the turn that it was given in this very moment."""
        places = self._waiting.get(network)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[network]
        elif place.done() and not place.cancelled() and place.exception() is None:
            self._next()

    def _next(self) -> None:
        """Give a turn that has ended to the next network's first."""
        while self._waiting:
            network, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[network] = places  # behind all others
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


def network_of(address: str) -> str:
    """The network of a client's address, of which a stranger has fewer than of addresses."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return address
    return str(network.supernet(new_prefix=32 if network.version == 6 else 24))
