"""How many attempts to sign in, or to confirm with a key or password, are checked: by address, network and business.

Owns the bounds and nothing else; what an attempt is checked against is `credentials`'. No bound here is one for
everybody.

What a stranger with many addresses can cost, and what they cannot:

- An attempt with a key costs a call of 7stamp, one with the operator's password costs argon2's work. An address has
  four attempts, then growing delays up to five minutes; a network (/24 of IPv4, /32 of IPv6) has twenty, then one a
  second. So a stranger with N addresses has 4 N attempts at once and about N / 300 a second from then on. The delays
  are those of all hosts together, the bounds of a network each host's own.
- Whatever N is, `FairQueue` checks few of them at once, by turns of their networks: strangers together never have more
  than `credentials`' `_KEYS_AT_ONCE` calls on the wire and one argon2 at work. Waiting costs a connection and some
  bytes.
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
from dataclasses import dataclass

from connectors.domain.clock import MINUTE, SECOND
from connectors.store import console_items
from connectors.store.console_items import ItemKind
from connectors.store.engine import Store, Transaction

MAX_REMEMBERED = 10_000
"""How many addresses, networks or keys a limit remembers, the last used; about a megabyte."""
_FREE_ATTEMPTS = 3  # the fourth is still checked at once, and makes the fifth wait
_LONGEST_DELAY = 5 * MINUTE
_FORGOTTEN_AFTER = 30 * MINUTE  # so long after its last delay an address begins anew
_CROWDED_DELAY = 5.0
_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE = 1.0, 20  # of a stranger's network, or of a business


class TooManyAttempts(Exception):
    """Something is refused until `seconds` have passed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} seconds")
        self.seconds = max(1, round(seconds))


@dataclass(frozen=True, slots=True)
class _Attempts:
    """How often a name has tried, and until when it must not try again (UTC microseconds)."""

    count: int = 0
    not_before: int = 0


class AttemptDelays:
    """Growing delays for each name, which is an address, a session or a browser, at all hosts of a cluster together.

    An attempt counts before it is known to be wrong: else many that are sent at once would all be free. Names are of
    one kind of `secret`, and only hashes of them are stored.
    """

    def __init__(self, store: Store, secret: str) -> None:
        self._store, self._secret = store, secret

    async def check(self, name: str) -> None:
        """Raise `TooManyAttempts` where the name must still wait; count nothing."""
        item = self._item_of(name)
        await self._store.read(lambda tx: _attempts(tx, item))

    async def count(self, name: str) -> None:
        """Count an attempt, which may make the next one wait. Raises `TooManyAttempts` like `check`."""
        item = self._item_of(name)

        def work(tx: Transaction) -> None:
            tx.alone("attempts", item)  # many may be sent to several hosts at once
            previous = _attempts(tx, item)
            count = 0 if tx.now > previous.not_before + _FORGOTTEN_AFTER else previous.count
            delay = 0 if count < _FREE_ATTEMPTS else min(2 ** (count - _FREE_ATTEMPTS + 1) * SECOND, _LONGEST_DELAY)
            content = f"{count + 1} {tx.now + delay}"
            console_items.put(tx, ItemKind.attempts, item, self._secret, content)

        await self._store.write(work)

    async def reset(self, name: str) -> None:
        """Forget the attempts of a name, after one that was right."""
        item = self._item_of(name)
        await self._store.write(lambda tx: console_items.drop(tx, ItemKind.attempts, item))

    def _item_of(self, name: str) -> str:
        return self._store.vault.hash("attempts", self._secret, name)


def _attempts(tx: Transaction, item: str) -> _Attempts:
    """Return what a name has tried. Raises `TooManyAttempts` where it must still wait."""
    found = console_items.find(tx, ItemKind.attempts, item)
    if found is None:
        return _Attempts()
    count, not_before = map(int, found.content.split())
    # further off than any delay is: the clock was put back since
    if tx.now < not_before <= tx.now + _LONGEST_DELAY:
        raise TooManyAttempts((not_before - tx.now) / SECOND)
    return _Attempts(count, not_before)


class RateLimit:
    """A token bucket: at most so many a second, after a burst."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._tokens, self._filled_at = float(burst), time.monotonic()

    def take(self) -> None:
        """Take a token. Raises `TooManyAttempts` where there is none."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            raise TooManyAttempts((1 - self._tokens) / self._per_second)
        self._tokens -= 1


class RateLimits:
    """A `RateLimit` for each name, of the names last used."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()

    def take(self, name: str) -> None:
        """Take a token of a name. Raises `TooManyAttempts` where it has none."""
        limit = self._limits.setdefault(name, RateLimit(self._per_second, self._burst))
        self._limits.move_to_end(name)
        while len(self._limits) > MAX_REMEMBERED:
            self._limits.popitem(last=False)
        limit.take()


class FairQueue:
    """Lets `at_once` run; the others wait, and are let in by turns of their networks, each in the order of arrival.

    An address has at most two here, one that runs and one that waits, and a network at most `max_of_network` that wait.
    Where all `max_waiting` places are taken, the network that takes most of them gives one up. Nobody waits longer than
    `patience`, in seconds.

    Each place is a future. Whoever ends a turn sets the result of the next place, which from then on holds the turn;
    the queue is only touched between awaits, so it needs no lock.
    """

    def __init__(
        self, at_once: int, *, max_of_network: int = 8, max_waiting: int = 1000, patience: float = 30.0
    ) -> None:
        self._free_turns = at_once
        self._max_of_network, self._max_waiting, self._patience = max_of_network, max_waiting, patience
        self._present: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, address: str, network: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it meanwhile. Raises `TooManyAttempts` where there is no place, or no patience."""
        if self._present[address] >= 2:
            raise TooManyAttempts(1)
        self._present[address] += 1
        try:
            if self._free_turns:  # then nobody waits
                self._free_turns -= 1
            else:
                await self._wait(network)
            try:
                yield
            finally:
                self._pass_on_turn()
        finally:
            self._present[address] -= 1
            if not self._present[address]:
                del self._present[address]

    async def _wait(self, network: str) -> None:
        self._make_room(network)
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(network, deque()).append(place)
        try:
            async with asyncio.timeout(self._patience):
                await place
        except TimeoutError:
            self._give_up(network, place)
            raise TooManyAttempts(_CROWDED_DELAY) from None
        except (asyncio.CancelledError, TooManyAttempts):
            self._give_up(network, place)
            raise

    def _make_room(self, network: str) -> None:
        """See that one more of a network may wait, at the cost of a fuller one. Raises `TooManyAttempts`."""
        own_places = len(self._waiting.get(network, ()))
        if own_places >= self._max_of_network:
            raise TooManyAttempts(_CROWDED_DELAY)
        if sum(len(places) for places in self._waiting.values()) < self._max_waiting:
            return
        fullest = max(self._waiting, key=lambda other: len(self._waiting[other]))
        if len(self._waiting[fullest]) <= own_places + 1:  # taking its place would only make this one the fullest
            raise TooManyAttempts(_CROWDED_DELAY)
        place = self._waiting[fullest].pop()
        if not place.done():
            place.set_exception(TooManyAttempts(_CROWDED_DELAY))

    def _give_up(self, network: str, place: asyncio.Future[None]) -> None:
        """Give up a place, or the turn that it was given in this very moment."""
        places = self._waiting.get(network)
        if places is not None and place in places:
            places.remove(place)
            if not places:
                del self._waiting[network]
        elif place.done() and not place.cancelled() and place.exception() is None:
            # the turn was given between the end of another's and this task's being woken: it must not be lost
            self._pass_on_turn()

    def _pass_on_turn(self) -> None:
        """Give a turn that has ended to the first of the next network."""
        while self._waiting:
            network, places = self._waiting.popitem(last=False)
            place = places.popleft()
            if places:
                self._waiting[network] = places  # behind all others
            if not place.done():
                place.set_result(None)
                return
        self._free_turns += 1


@dataclass(frozen=True, slots=True)
class AttemptOrigin:
    """Where an attempt is from.

    Wrong attempts count for its `name`, and it waits by turns of its `network`. One that `is_known` is from a session,
    or from a browser in which somebody signed in before.
    """

    name: str
    network: str
    is_known: bool


class AttemptLimits:
    """All bounds on the attempts with one kind of secret, of which `at_once` are checked at the same time."""

    def __init__(self, store: Store, secret: str, at_once: int) -> None:
        self._delays = AttemptDelays(store, secret)
        self._networks = RateLimits(_ATTEMPTS_PER_SECOND, _ATTEMPTS_AT_ONCE)
        # strangers wait for strangers only: whoever this host knows has a queue of their own
        self._known, self._strangers = FairQueue(at_once), FairQueue(at_once)

    @asynccontextmanager
    async def attempt(self, origin: AttemptOrigin) -> AsyncIterator[None]:
        """Wait until an attempt may be checked, and count it. Raises `TooManyAttempts`.

        The delay is looked at before the queue, so that whoever has to wait takes no place in it, and counted after
        it, so that giving up in the queue costs nothing.
        """
        await self._delays.check(origin.name)
        self._networks.take(origin.network)
        queue = self._known if origin.is_known else self._strangers
        async with queue.turn(origin.name, origin.network):
            await self._delays.count(origin.name)
            yield

    async def forgive(self, origin: AttemptOrigin) -> None:
        """Forget the wrong attempts before a right one."""
        await self._delays.reset(origin.name)


def network_of(address: str) -> str:
    """Return the network of a client's address, of which a stranger has fewer than of addresses."""
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return address
    return str(network.supernet(new_prefix=32 if network.version == 6 else 24))
