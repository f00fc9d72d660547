"""Looking a card up while somebody waits at the till: 7stamp's answer where it comes in time, else the last one.

Owns the memory of what 7stamp answered last, how long a till is kept waiting, and how many questions of a business are
under way at once. A till is never told an error for what it cannot help: it gets an old answer, marked as such, or
none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from dataclasses import dataclass

from connectors.domain.clock import DAY
from connectors.domain.connection import Connection
from connectors.domain.person import Reference
from connectors.sevenstamp.client import SevenStamp, SevenStampError
from connectors.sevenstamp.models import Card
from connectors.store import ledger
from connectors.store.engine import Store, Transaction

log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds for the first answer about a customer: so long a cashier waits."""
_PATIENCE_WITH_ANSWER = 0.1
"""Seconds where there is an older answer to give instead."""
_DEADLINE = 5.0
"""Seconds until a question is given up: one that goes on keeps another from being asked."""
_MOST_REMEMBERED = 10_000
_REMEMBERED_FOR = DAY
_AT_ONCE = 16
"""Questions of a business; more are answered from memory, or not at all."""


@dataclass(frozen=True, slots=True)
class CardLookup:
    """The cards of a name as of a moment (UTC microseconds), the oldest first.

    `as_of` is `None` where 7stamp has said nothing; `stale` where it did not say so just now.
    """

    cards: tuple[Card, ...]
    as_of: int | None
    stale: bool


@dataclass(frozen=True, slots=True)
class _Answer:
    cards: tuple[Card, ...]
    at: int


class CardLookups:
    """Asks 7stamp for cards, and remembers its last answers: in memory, a day at most, of the names last asked for."""

    def __init__(self, store: Store, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self._answers: OrderedDict[tuple[str, Reference], _Answer] = OrderedDict()
        self._tasks: dict[tuple[str, Reference], asyncio.Task[_Answer | None]] = {}
        self._under_way: Counter[str] = Counter()

    async def find(self, connection: Connection, name: Reference) -> CardLookup:
        """Find the active cards of a name, within a second; never raises for 7stamp's sake."""
        place = (connection.business_id, name)
        former = self._remembered(place)
        task = self._tasks.get(place) or self._begin(connection, place)
        if task is not None:
            await asyncio.wait({task}, timeout=_PATIENCE if former is None else _PATIENCE_WITH_ANSWER)
            # one that goes on is remembered when it ends: the next to ask has it
            if task.done() and not task.cancelled() and (answer := task.result()) is not None:
                return CardLookup(answer.cards, answer.at, stale=False)
        if former is None:
            return CardLookup((), None, stale=True)
        return CardLookup(former.cards, former.at, stale=True)

    def forget(self, business_id: str) -> None:
        """Forget everything of a business: one of its customers is erased."""
        for place in [place for place in self._answers if place[0] == business_id]:
            del self._answers[place]

    async def aclose(self) -> None:
        """End the questions that are under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remembered(self, place: tuple[str, Reference]) -> _Answer | None:
        answer = self._answers.get(place)
        if answer is None or answer.at < self._store.clock.now() - _REMEMBERED_FOR:
            return None
        self._answers.move_to_end(place)
        return answer

    def _begin(self, connection: Connection, place: tuple[str, Reference]) -> asyncio.Task[_Answer | None] | None:
        """Begin to ask, unless too many of the business are asked already."""
        if self._under_way[connection.business_id] >= _AT_ONCE:
            return None
        self._under_way[connection.business_id] += 1
        task = asyncio.create_task(self._ask(connection, place), name="card look-up")
        self._tasks[place] = task
        task.add_done_callback(lambda _task: self._end(place))
        return task

    def _end(self, place: tuple[str, Reference]) -> None:
        del self._tasks[place]
        self._under_way[place[0]] -= 1
        if not self._under_way[place[0]]:
            del self._under_way[place[0]]

    async def _ask(self, connection: Connection, place: tuple[str, Reference]) -> _Answer | None:
        """Ask 7stamp and remember the answer; `None` where there is none that can be used."""
        name = place[1]
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        try:
            async with asyncio.timeout(_DEADLINE):
                cards = tuple(card for card in await client.cards(**{name.kind: name.value}) if card.active)
        except (SevenStampError, TimeoutError) as error:
            log.info("connection %s: a card could not be looked up: %s", connection.id, error)
            return None
        except Exception as error:
            log.exception("connection %s: a look-up raised %s", connection.id, type(error).__name__)
            return None
        answer = _Answer(cards, self._store.clock.now())
        self._answers[place] = answer
        self._answers.move_to_end(place)
        while len(self._answers) > _MOST_REMEMBERED:
            self._answers.popitem(last=False)
        await self._learn_vouchers(connection.business_id, cards)
        return answer

    async def _learn_vouchers(self, business_id: str, cards: tuple[Card, ...]) -> None:
        """Learn the redeem codes of what these cards can redeem, so that one is known however it is typed."""
        codes = [voucher.redeem_code for card in cards for voucher in card.good_vouchers]
        if not codes:
            return
        new = await self._store.read(lambda tx: ledger.voucher_states.unknown(tx, business_id, codes))
        if new:

            def learn(tx: Transaction) -> None:
                ledger.voucher_states.learn(tx, business_id, new)

            await self._store.write(learn)
