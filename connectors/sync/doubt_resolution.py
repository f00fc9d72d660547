"""Resolution: looks up in 7stamp's own records what became of operations in doubt.

Owns when an absence proves something. Presence of the code in the card's history settles at once. Absence settles only
if the reading began later than the call's deadline and the settling time after it was sent: an earlier reading may
have overtaken the request. In a cluster it must be as much later than the beginning of this process, or than the last
jump of the clock: what others wrote by the time before seems older than it is.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import MINUTE, SECOND
from connectors.domain.connection import Connection
from connectors.domain.operation import Kind
from connectors.sevenstamp.client import (
    Applied,
    Limited,
    NotSent,
    Outcome,
    Refused,
    SevenStamp,
    SevenStampClient,
    SevenStampError,
)
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import NotFound
from connectors.store.ledger.operations import Operation
from connectors.sync.health import report_key_failure
from connectors.sync.settlement import Answer, settle

_OPERATIONS_AT_ONCE = 200
_CALLS_AT_ONCE = 8
_SOON = 0.5
"""Seconds: the shortest pause between two looks."""
_LONGEST_FACTOR = 100
_UNKNOWN_THINGS = {(404, "card_not_found"), (404, "voucher_not_found")}


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: `deadline` of a whole call, `settle` after which it surely took effect or never will."""

    deadline: float = 15.0
    settle: float = 10.0

    def horizon(self, sent_at: int | None, comparable_since: int = 0) -> int:
        """Return from when on a reading without its effect proves that a request had none (UTC microseconds).

        `comparable_since` is the store's: before that `sent_at` may be of another time than the reading.
        """
        return self._later(max(sent_at or 0, comparable_since))

    def look_at(self, horizon: int, now: int) -> int:
        """Return when to look once more for something whose absence proves something from `horizon` on.

        A horizon that is further away than any can be is of a clock that has jumped meanwhile: nobody waits for it.
        """
        return min(horizon, self._later(now))

    def _later(self, moment: int) -> int:
        return moment + int((self.deadline + self.settle) * SECOND)


class Resolver:
    """Settles operations in doubt by their cards' history, or their vouchers' state; calls `settled` after each."""

    def __init__(
        self, store: Store, sevenstamp: SevenStamp, timing: Timing, settled: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self._timing = timing
        self._settled = settled

    async def resolve(self, only: str | None = None) -> int:
        """Look up what is in doubt and due (of one connection); return how many operations that were."""
        operations = await self._store.write(
            lambda tx: ledger.operations.lease_uncertain(tx, _OPERATIONS_AT_ONCE, only)
        )
        if not operations:
            return 0
        ids = list({operation.connection_id for operation in operations})
        owners = await self._store.read(lambda tx: connections.registry.by_ids(tx, ids))
        slots = asyncio.Semaphore(_CALLS_AT_ONCE)

        async def look_up(operation: Operation) -> None:
            async with slots:
                await self._look_up(owners[operation.connection_id], operation)

        async with asyncio.TaskGroup() as group:
            for operation in operations:
                group.create_task(look_up(operation))
        return len(operations)

    async def _look_up(self, connection: Connection, operation: Operation) -> None:
        # before the call: a reading proves an absence only as of the moment it was asked for
        began = self._store.clock.now()
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        try:
            outcome = await recorded_outcome(client, operation)
        except (SevenStampError, RuntimeError, ValueError) as error:
            failure = error
            await self._store.write(lambda tx: _postpone_after(tx, connection, operation, failure))
            return
        if outcome is None and began <= self._horizon(operation):
            await self._postpone_to_horizon(operation, began)
            return
        if outcome is None:
            await self._store.write(lambda tx: self._settle_absent(tx, connection, operation, began))
        else:
            # settled like any answer: its try is checked again in the transaction
            answer = Answer(operation, outcome, connection.key_hash)
            await self._store.write(lambda tx: settle(tx, [answer]))
        self._settled()

    def _settle_absent(self, tx: Transaction, connection: Connection, operation: Operation, began: int) -> None:
        """Settle an operation that a reading did not show, which `began` when that proves something."""
        # The clock may have been put forward since the operation was read. When it was sent has moved with it, and
        # only by that can a reading be late enough whose beginning was told by the new time. And a beginning that was
        # told by a clock which was put back since, or should have been, proves nothing.
        current = _as_it_is_now(tx, operation)
        if current is None:
            return
        if began <= self._horizon(current) or not tx.is_past(began):
            _look_later(tx, current, _SOON)
            return
        absence = NotSent("the history shows that it was not applied")
        settle(tx, [Answer(operation, absence, connection.key_hash)])

    def _horizon(self, operation: Operation) -> int:
        """Return from when on a reading without the operation proves here that it was not applied."""
        return self._timing.horizon(operation.sent_at, self._store.comparable_since)

    async def _postpone_to_horizon(self, operation: Operation, began: int) -> None:
        """Look again halfway to the moment from which on an absence proves something: presence may show before."""
        left = (self._timing.look_at(self._horizon(operation), began) - began) / SECOND
        pause = max(_SOON, left / 2 + 0.05)
        await self._store.write(lambda tx: _look_later(tx, operation, pause))


async def recorded_outcome(client: SevenStampClient, operation: Operation) -> Outcome | None:
    """Return what 7stamp's records say of an operation; `None` where they do not show it. Raises `SevenStampError`."""
    try:
        if operation.kind is Kind.voucher_redeemed:
            return _redeemed(operation, (await client.voucher(operation.redeem_code or "")).redeemed_by_code)
        return Applied({}) if await client.history(operation.card_id or "", operation.code) else None
    except Refused as refusal:
        # only "there is no such thing" is a reading; any other refusal says nothing about what was applied
        if (refusal.status, refusal.code) in _UNKNOWN_THINGS:
            return None
        raise


def _redeemed(operation: Operation, by_code: str | None) -> Outcome | None:
    """Say what a voucher's state means: redeemed with our code, it was us."""
    if by_code is None:
        return None
    return Applied({}) if by_code == operation.code else Refused(409, "already_redeemed", {})


def _postpone_after(tx: Transaction, connection: Connection, operation: Operation, error: Exception) -> None:
    """Look again later, since the records could not be read; pauses grow with the time that it has been in doubt."""
    # when it was sent moves with a clock that is put forward
    current = _as_it_is_now(tx, operation)
    if current is None:
        return
    # by how long it has been in doubt, not by how often it was asked: a restart does not begin anew
    minutes = max(0, (tx.now - max(current.sent_at or 0, current.updated_at)) // MINUTE)
    pause = random.uniform(3, 6) * min(2**minutes, _LONGEST_FACTOR)  # noqa: S311 - spreads load
    if isinstance(error, Limited):
        pause = error.retry_after
    report_key_failure(tx, connection.key_hash, error)
    _look_later(tx, operation, pause)


def _as_it_is_now(tx: Transaction, operation: Operation) -> Operation | None:
    """Read an operation once more; `None` where it is another connection's by now, which looks it up."""
    try:
        return ledger.operations.get(tx, operation.connection_id, operation.id)
    except NotFound:
        return None


def _look_later(tx: Transaction, operation: Operation, seconds: float) -> None:
    ledger.operations.look_later(tx, operation, tx.now + int(seconds * SECOND))
