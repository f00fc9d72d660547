"""Delivery: ordered per card, concurrent across cards, at least once on the wire, exactly once in effect.

Owns what is sent when. What is about to be sent is on disk before its first byte leaves; what an answer means is
`verdicts`', what follows from it `settlement`'s, and an ambiguous one is settled by `resolution`.

The loop, as one turn of `_pump` makes it:

1. Choose: from the queue of due operations take as many as there are free places, at most one of each lane (a card,
   a voucher, a customer without a card) that has none on the wire, and none whose key was asked to slow down.
2. Write, in one transaction: settle the answers that came back since the last turn, then claim the chosen ones. A claim
   is `sending` on disk, with the moment it was made. The database refuses two of one lane, whoever claims.
3. Send what was claimed, each in a task of its own. Its answer joins the next turn's transaction, so that a busy
   loop settles and claims many operations with one commit.

In a cluster the loop of each worker sends only for the businesses whose job it has (`deliver`), so that two workers do
not choose the same operations.

There are more claims on disk than calls on the wire (`_AHEAD`), so that nobody waits for a commit; a claim that gets
its turn late gives up before it sends, for a reading of the history may have settled it meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from connector_sdk.messages import Message
from connectors.domain.clock import SECOND
from connectors.domain.connection import Connection
from connectors.domain.holds import HOLDS
from connectors.domain.operation import Hold, Kind
from connectors.log_lines import about
from connectors.sevenstamp.client import (
    Applied,
    InDoubt,
    Limited,
    NotSent,
    Outcome,
    Refused,
    SevenStamp,
    redeem_path,
    stamps_path,
)
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.ledger.delivery_queue import Candidate, Lane
from connectors.store.ledger.operations import Operation
from connectors.sync import plans
from connectors.sync.call_window import CallWindow
from connectors.sync.doubt_resolution import Resolver, Timing
from connectors.sync.key_pacing import Pace
from connectors.sync.settlement import Answer, settle
from connectors.tracing import Step, step

log = logging.getLogger(__name__)

_AHEAD = 3
"""Claims on disk for each call on the wire."""
_LOOK_AHEAD = 1000
_PATIENCE = 5.0
"""Seconds to wait when nothing is due: the scheduler looks every second, so this is for when nobody wakes us."""


@dataclass(slots=True)
class _Sender:
    """What sending for a connection takes, as of its `generation`; `cap` is of stamps a card and day."""

    connection: Connection
    key: str = field(repr=False)
    cap: int | None


@dataclass(slots=True)
class _InProgress:
    """What this process has on the wire, and what came back but is not yet written down."""

    lanes: set[Lane] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    candidates: deque[Candidate] = field(default_factory=deque)
    answers: list[Answer] = field(default_factory=list)
    unsure: set[str] = field(default_factory=set)
    """Operations whose claim may or may not have been committed: they were surely not sent."""


class Deliverer:
    """Sends what is pending, of each card one operation at a time."""

    def __init__(self, store: Store, sevenstamp: SevenStamp, timing: Timing | None = None) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self.timing = timing or Timing()
        self._resolver = Resolver(store, sevenstamp, self.timing, self.wake)
        self._window = CallWindow()
        self._senders: dict[str, _Sender] = {}
        self._paces: dict[str, Pace] = {}
        self._flight = _InProgress()
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._runs = False
        self._stopping = False
        self._served: dict[str, list[asyncio.Future[None]]] | None = None
        """Of a cluster's worker: the businesses it sends for, with who waits until nothing of them is due."""

    # Running

    def wake(self) -> None:
        """Have the loop look again: something became due, or came back."""
        self._woken.set()

    async def run(self, *, asked_only: bool = False) -> None:
        """Deliver until `stop`; pause while nothing is due, until `wake`.

        With `asked_only` only for businesses that `deliver` is asked for.
        """
        self._runs, self._stopping = True, False
        self._served = {} if asked_only else None
        while not self._stopping:
            try:
                was_busy = await self._pump(None)
            except StoreError as error:  # delivery outlives a full disk or a lock: everything is still in the database
                log.error("delivery: %s; trying again in a second", error)
                await asyncio.sleep(1)
                continue
            except Exception as error:
                log.exception("delivery raised %s; trying again in a second", type(error).__name__)
                await asyncio.sleep(1)
                continue
            if not was_busy:
                await self._pause(self._patience())
        self._runs = False

    def stop(self) -> None:
        """End `run` between two transactions: nothing is claimed and then not sent."""
        self._stopping = True
        for business_id in list(self._served or ()):
            self._release(business_id)
        self.wake()

    async def deliver(self, business_id: str) -> None:
        """Have the loop deliver for a business, and return when nothing of it is due now and nothing on the wire."""
        if self._served is None or self._stopping:
            return
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._served.setdefault(business_id, []).append(idle)
        self.wake()
        await idle

    def _release(self, business_id: str) -> None:
        """Tell whoever waits for a business that nothing of it is due."""
        for idle in (self._served or {}).pop(business_id, ()):
            if not idle.done():  # its job was cancelled
                idle.set_result(None)

    def _patience(self) -> float:
        """Return how many seconds to wait unless somebody wakes us: less where a paced key may send sooner."""
        now = asyncio.get_running_loop().time()
        turns = [max(pace.next, pace.not_before) - now for pace in self._paces.values() if not pace.ready(now)]
        return max(0.01, min([_PATIENCE, *turns]))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def drain(self, only: str | None = None) -> None:
        """Deliver until nothing (of one connection) is due now and nothing of it is on the wire."""
        if self._runs:  # the loop does the work: wait until it has
            while await self._store.read(lambda tx: ledger.delivery_queue.is_busy(tx, only)):
                for business_id in await self._store.read(lambda tx: _businesses_of(tx, only)):
                    await self.deliver(business_id)
                self.wake()
                await asyncio.sleep(0.05)
            return
        while await self._pump(only) or self._flight.tasks:
            if self._flight.tasks and not self._flight.answers:
                await asyncio.wait(set(self._flight.tasks), return_when=asyncio.FIRST_COMPLETED)

    def is_behind(self) -> bool:
        """Say whether there is more to send than may be on the wire."""
        return bool(self._flight.candidates) or len(self._flight.lanes) >= self._window.size

    def on_the_wire(self) -> set[asyncio.Task[None]]:
        """Return the calls that are under way."""
        return set(self._flight.tasks)

    async def close(self) -> None:
        """Wait for what is on the wire (its calls have deadlines) and write down what came back."""
        if self._flight.tasks:
            await asyncio.wait(set(self._flight.tasks))
        async with self._turn:
            await self._settle_and_claim([])

    async def resolve(self, only: str | None = None) -> int:
        """Look up what is in doubt and due (of one connection); return how many operations that were."""
        return await self._resolver.resolve(only)

    async def check_plans(self) -> None:
        """Ask 7stamp about the plans of businesses that are due, and let go on whose plan was raised or begins anew."""
        await plans.check_plans(self._store, self._sevenstamp)

    # A turn of the loop

    async def _pump(self, only: str | None) -> bool:
        """Make one turn (of one connection); say whether there was anything to do."""
        async with self._turn:
            self._woken.clear()
            flight = self._flight
            had_answers = bool(flight.answers)
            chosen = await self._choose(self._window.size * _AHEAD - len(flight.lanes), only)
            for operation in await self._settle_and_claim(chosen):
                task = asyncio.create_task(self._send(operation))
                flight.tasks.add(task)
                task.add_done_callback(flight.tasks.discard)
            return bool(chosen) or had_answers

    async def _choose(self, free: int, only: str | None) -> list[Candidate]:
        """Choose what to claim next; its lanes are taken from here on."""
        flight = self._flight
        if free <= 0:
            return []
        if not flight.candidates:
            await self._look(only)
        now = asyncio.get_running_loop().time()
        chosen: list[Candidate] = []
        while flight.candidates and len(chosen) < free:
            candidate = flight.candidates.popleft()
            if candidate.lane not in flight.lanes and self._take_turn(candidate, now):
                flight.lanes.add(candidate.lane)
                chosen.append(candidate)
        return chosen

    async def _look(self, only: str | None) -> None:
        """Read what is due (of one connection), and release the businesses of which nothing is."""
        slowed = self._slowed_connections()
        businesses = list(self._served) if self._served is not None and only is None else None
        if businesses == []:
            return
        found = await self._store.read(
            lambda tx: ledger.delivery_queue.due(tx, _LOOK_AHEAD, only, without=slowed, businesses=businesses)
        )
        self._flight.candidates.extend(found)
        busy = {candidate.lane.business_id for candidate in found} | {lane.business_id for lane in self._flight.lanes}
        # whose key was asked to slow down stays here, where its pace is known
        busy |= {self._senders[connection_id].connection.business_id for connection_id in slowed}
        for business_id in set(businesses or ()) - busy:
            self._release(business_id)

    def _take_turn(self, candidate: Candidate, now: float) -> bool:
        """Count a claim against its key's pace; say whether the key may send now."""
        sender = self._senders.get(candidate.connection_id)
        pace = self._paces.get(sender.connection.key_hash) if sender else None
        if pace is None:
            return True
        if not pace.ready(now):
            return False
        pace.take(now)
        return True

    def _slowed_connections(self) -> list[str]:
        """List connections whose key was asked to slow down: what others have to send does not queue behind theirs."""
        now = asyncio.get_running_loop().time()
        slowed = {key_hash for key_hash, pace in self._paces.items() if not pace.ready(now)}
        if not slowed:
            return []
        senders = self._senders.items()
        return [connection_id for connection_id, sender in senders if sender.connection.key_hash in slowed]

    async def _settle_and_claim(self, chosen: Sequence[Candidate]) -> list[Operation]:
        """Settle the answers that came back and claim what was chosen, in one transaction; return what was claimed.

        Lanes are free again once their answer is on disk, or their claim was refused; after an error the answers stay
        for the next turn, unless one of them is itself the error.
        """
        flight = self._flight
        answers, flight.answers = flight.answers, []
        if not answers and not chosen and not flight.unsure:
            return []
        unsure = sorted(flight.unsure)
        try:
            claimed = await self._store.write(lambda tx: self._settle_and_claim_in(tx, unsure, answers, chosen))
            flight.unsure.clear()
        except BaseException as error:
            flight.lanes -= {candidate.lane for candidate in chosen}
            flight.candidates.clear()
            flight.unsure |= {candidate.id for candidate in chosen}
            if not isinstance(error, Exception) or isinstance(error, StoreError):
                flight.answers = answers + flight.answers
                raise
            log.exception("delivery: a result could not be settled; the others are, one by one")
            await self._settle_one_by_one(answers)
            claimed = []
        flight.lanes -= {candidate.lane for candidate in chosen} - {_lane(operation) for operation in claimed}
        flight.lanes -= {_lane(answer.operation) for answer in answers}
        return claimed

    async def _settle_one_by_one(self, answers: Sequence[Answer]) -> None:
        """Settle answers apart, so that one that cannot be settled blocks only its own receipt.

        That one stays in doubt, and its card's history is asked.
        """
        for number, answer in enumerate(answers):
            try:
                await self._store.write(partial(settle, answers=[answer]))
            except StoreError:
                self._flight.answers = [*answers[number:], *self._flight.answers]
                raise
            except Exception as error:
                log.exception("operation %s: settling raised %s", answer.operation.id, type(error).__name__)
                doubt = replace(answer, outcome=InDoubt("its result could not be settled"))
                await self._store.write(partial(settle, answers=[doubt]))

    # In a transaction

    def _settle_and_claim_in(
        self, tx: Transaction, unsure: Sequence[str], answers: Sequence[Answer], chosen: Sequence[Candidate]
    ) -> list[Operation]:
        # the connection was lost at a commit: what it claimed, if it did, is let go
        ledger.operations.unclaim(tx, unsure)
        # answers first: an answer may free the lane of what is claimed next
        settle(tx, answers)
        claimed = ledger.operations.claim(tx, [candidate.id for candidate in chosen])
        if not claimed:
            return []
        sendable = self._read_senders(tx, {operation.connection_id for operation in claimed})
        stopped = [operation.id for operation in claimed if operation.connection_id not in sendable]
        ledger.operations.unclaim(tx, stopped)
        return self._hold_beyond_caps(tx, [operation for operation in claimed if operation.id not in stopped])

    def _read_senders(self, tx: Transaction, connection_ids: Collection[str]) -> Collection[str]:
        """Read what sending takes for connections that are new or were changed; return those that may send now.

        A connection may have been paused, or its key refused, since its operations were read as due.
        """
        generations = connections.registry.sendable(tx, connection_ids)
        for connection_id, generation in generations.items():
            sender = self._senders.get(connection_id)
            if sender is None or sender.connection.generation != generation:
                self._senders[connection_id] = _read_sender(tx, connection_id)
        return generations.keys()

    def _hold_beyond_caps(self, tx: Transaction, claimed: Sequence[Operation]) -> list[Operation]:
        """Hold what would give a card more stamps than its day allows, whole operations only; return the others."""
        capped = [operation for operation in claimed if self._cap_of(operation) is not None]
        # what is on the wire counts too, and of one card only one is: two claims cannot use up the same cap
        given = ledger.delivery_queue.stamps_of_day(tx, capped)
        beyond = [operation for operation in capped if self._is_beyond_cap(operation, given[operation.id])]
        ledger.operations.unclaim(tx, [operation.id for operation in beyond])
        facts = HOLDS[Hold.cap]
        for operation in beyond:
            reason = Message(facts.reason, {"most": self._cap_of(operation) or 0, "given": given[operation.id]})
            ledger.operations.hold_back(tx, operation, Hold.cap, reason, facts.expires_at(tx.now))
        return [operation for operation in claimed if operation not in beyond]

    def _is_beyond_cap(self, operation: Operation, given: int) -> bool:
        cap = self._cap_of(operation)
        return cap is not None and given + operation.count > cap

    def _cap_of(self, operation: Operation) -> int | None:
        """Return the stamps that a card may be given on a day, where that is bounded for this operation."""
        is_capped = operation.kind is Kind.stamps_added and not operation.waived
        return self._senders[operation.connection_id].cap if is_capped else None

    # On the wire

    async def _send(self, operation: Operation) -> None:
        """Send one operation; whatever happens, its answer joins the next turn."""
        with (
            about(operation.connection_id, operation.receipt_id, operation=operation.id),
            step("send to 7stamp", kind=operation.kind.value) as sending,
        ):
            await self._send_and_answer(operation, sending)

    async def _send_and_answer(self, operation: Operation, sending: Step) -> None:
        sender = self._senders[operation.connection_id]
        outcome: Outcome = InDoubt("the sender failed")
        try:
            async with self._window:
                outcome = await self._post(sender, operation)
            sending.say(outcome=_OUTCOMES.get(type(outcome), "other"))
            log.debug("sent to 7stamp: %s", _OUTCOMES.get(type(outcome), "other"))
        except Exception as error:
            log.exception("operation %s: sending raised %s", operation.id, type(error).__name__)
        finally:
            self._flight.answers.append(Answer(operation, outcome, sender.connection.key_hash))
            self.wake()

    async def _post(self, sender: _Sender, operation: Operation) -> Outcome:
        loop, key_hash = asyncio.get_running_loop(), sender.connection.key_hash
        pace = self._paces.get(key_hash)
        if pace is not None and loop.time() < pace.not_before:
            return NotSent("the key was asked to wait meanwhile")
        waited = (self._store.clock.now() - (operation.sent_at or 0)) / SECOND
        left = self.timing.deadline - waited
        if waited < -1 or left < self.timing.deadline / 2:  # the clock may have been put back meanwhile
            return NotSent("the turn came too late")
        client, began = self._sevenstamp.with_key(sender.key), loop.time()
        outcome = await client.write(
            _path(operation), operation.request, operation.key, min(left, self.timing.deadline)
        )
        took = loop.time() - began
        self._window.answered(took, failed=isinstance(outcome, InDoubt | NotSent))
        self._measure(operation, outcome, took)
        if isinstance(outcome, Limited):
            self._paces.setdefault(key_hash, Pace()).limited(loop.time(), outcome.retry_after)
            self._flight.candidates.clear()  # chosen without knowing of it
        return outcome

    def _measure(self, operation: Operation, outcome: Outcome, seconds: float) -> None:
        measures = self._store.measures
        measures.sevenstamp_call(_OUTCOMES.get(type(outcome), "other"), seconds)
        if isinstance(outcome, Applied):
            measures.sale_to_stamp((self._store.clock.now() - operation.created_at) / SECOND)


_OUTCOMES = {Applied: "applied", InDoubt: "in doubt", Limited: "limited", NotSent: "not sent", Refused: "refused"}


def _read_sender(tx: Transaction, connection_id: str) -> _Sender:
    connection = connections.registry.get(tx, connection_id)
    rule = connections.rules.of_connection(tx, connection_id)[-1].rule
    return _Sender(connection, tx.vault.decrypt(connection.sevenstamp_key), rule.max_per_card_per_day)


def _businesses_of(tx: Transaction, only: str | None) -> list[str]:
    """Return the business of a connection; without one, all for which something is due."""
    if only is None:
        return ledger.delivery_queue.due_businesses(tx, _LOOK_AHEAD)
    return [connections.registry.get(tx, only).business_id]


def _lane(operation: Operation) -> Lane:
    return Lane(operation.business_id, operation.lane)


def _path(operation: Operation) -> str:
    if operation.kind is Kind.voucher_redeemed:
        return redeem_path(operation.redeem_code or "")
    return stamps_path(operation.card_id or "", back=operation.kind is Kind.stamps_reversed)
