"""Delivery: ordered per card, concurrent across cards, at least once on the wire, exactly once in effect.

Owns what is sent when, and what an answer makes of an operation; rows move in `connectors.store.outbox`. What is
about to be sent is on disk before its first byte leaves, and after an ambiguous outcome the card's history decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from zoneinfo import ZoneInfo

from connector_sdk.messages import Message
from connectors.domain.clock import DAY, SECOND, micros, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.operation import Hold, Kind, State
from connectors.sevenstamp.client import (
    Applied,
    InDoubt,
    InvalidKey,
    Limited,
    NotSent,
    Outcome,
    Refused,
    SevenStamp,
    SevenStampClient,
    SevenStampError,
    redeem_path,
    stamps_path,
)
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.ledger.batch import SaleBatch
from connectors.store.ledger.delivery_queue import Candidate
from connectors.store.ledger.operations import Operation, Verdict
from connectors.sync.planner import net_out, rule_for, unclaim

log = logging.getLogger(__name__)

LANES = 16
_AHEAD = 3  # claims on disk for each card on the wire, so that nobody waits for a commit
_LOOK_AHEAD = 1000
_LOOKS_AT_ONCE = 8
_NOT_SENT_PAUSES = (1, 2, 5, 15, 60)
_HOLD_DAYS = 30
_PATIENCE = 5.0  # the clock looks every second and wakes the delivery; this is for when nobody does


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: `deadline` of a whole call, `settle` after which it surely took effect or never will."""

    deadline: float = 15.0
    settle: float = 10.0

    def horizon(self, one: Operation) -> int:
        """When a reading that does not show the operation proves that it was not applied (UTC microseconds)."""
        return (one.sent_at or 0) + int((self.deadline + self.settle) * SECOND)


@dataclass(slots=True)
class _Known:
    """What sending for a connection takes, as of its `generation`."""

    connection: Connection
    key: str
    cap: int | None


@dataclass(slots=True)
class Pace:
    """One key's rate: unlimited until 7stamp says 429, then half of what it was, growing back by a tenth a second.

    Times are seconds of the loop's own clock. `not_before` is what the last 429 asked for: it holds at once, for
    what is claimed already too.
    """

    per_second: float | None = None
    not_before: float = 0.0
    next: float = 0.0
    _second: int = 0
    _sent: int = 0
    _sent_before: int = 0

    def ready(self, now: float) -> bool:
        """Whether one more may be claimed now."""
        return now >= self.not_before and (self.per_second is None or now >= self.next)

    def take(self, now: float) -> None:
        """One more is claimed."""
        if int(now) != self._second:
            self._sent_before = self._sent if int(now) == self._second + 1 else 0
            self._second, self._sent = int(now), 0
            if self.per_second is not None:
                self.per_second = self.per_second * 1.1 if self.per_second < 5000 else None
        self._sent += 1
        if self.per_second is not None:
            self.next = max(self.next, now) + 1 / self.per_second

    def limited(self, now: float, retry_after: float) -> None:
        """7stamp said 429."""
        if now >= self.not_before:  # the others of the same burst say nothing new
            seen = max(self._sent_before, self._sent, 2)
            self.per_second = max(1.0, min(self.per_second or seen, seen) / 2)
        self.not_before = max(self.not_before, now + retry_after)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a try came to, and the key (hashed) it was made with."""

    operation: Operation
    outcome: Outcome
    key_hash: str


@dataclass(slots=True)
class _Flight:
    """What this process has on the wire, and what came back but is not yet written down."""

    lanes: set[tuple[str, str]] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    candidates: deque[Candidate] = field(default_factory=deque)
    answers: list[Answer] = field(default_factory=list)


class Deliverer:
    """Sends what is pending, `lanes` cards at once, and settles what is in doubt."""

    def __init__(
        self, store: Store, sevenstamp: SevenStamp, timing: Timing | None = None, *, lanes: int = LANES
    ) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self.timing = timing or Timing()
        self._lanes = lanes
        self._slots = asyncio.Semaphore(lanes)
        self._known: dict[str, _Known] = {}
        self._paces: dict[str, Pace] = {}
        self._flight = _Flight()
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._runs = False
        self._stopping = False

    def wake(self) -> None:
        """Something became due, or came back."""
        self._woken.set()

    async def run(self) -> None:
        """Deliver until `stop`; pauses while nothing is due, until `wake`."""
        self._runs, self._stopping = True, False
        while not self._stopping:
            try:
                busy = await self._pump(None)
            except Exception:  # delivery outlives a full disk or a lock: everything is still in the database
                log.exception("delivery: the database could not be written; trying again in a second")
                await asyncio.sleep(1)
                continue
            if not busy:
                await self._pause(self._patience())
        self._runs = False

    def stop(self) -> None:
        """End `run` between two transactions: nothing is claimed and then not sent."""
        self._stopping = True
        self.wake()

    def _patience(self) -> float:
        """How long to wait when nothing is due and nobody wakes us: less where a paced key may send sooner."""
        now = asyncio.get_running_loop().time()
        turns = [max(pace.next, pace.not_before) - now for pace in self._paces.values() if not pace.ready(now)]
        return max(0.01, min([_PATIENCE, *turns]))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()

    async def drain(self, only: str | None = None) -> None:
        """Deliver until nothing (of one connection) is due now and nothing of it is on the wire."""
        if self._runs:
            while await self._store.read(lambda tx: ledger.delivery_queue.is_busy(tx, only)):
                self.wake()
                await asyncio.sleep(0.05)
            return
        while await self._pump(only) or self._flight.tasks:
            if self._flight.tasks and not self._flight.answers:
                await asyncio.wait(set(self._flight.tasks), return_when=asyncio.FIRST_COMPLETED)

    def on_the_wire(self) -> set[asyncio.Task[None]]:
        """The calls that are under way."""
        return set(self._flight.tasks)

    async def close(self) -> None:
        """Wait for what is on the wire (its calls have deadlines) and write down what came back."""
        if self._flight.tasks:
            await asyncio.wait(set(self._flight.tasks))
        async with self._turn:
            await self._write([])

    async def _pump(self, only: str | None) -> bool:
        """Write down what came back, claim what is next, send it; whether that was anything."""
        async with self._turn:
            self._woken.clear()
            flight = self._flight
            answers = len(flight.answers)
            chosen = await self._choose(self._lanes * _AHEAD - len(flight.lanes), only)
            for one in await self._write(chosen):
                task = asyncio.create_task(self._send(one))
                flight.tasks.add(task)
                task.add_done_callback(flight.tasks.discard)
            return bool(chosen or answers)

    async def _choose(self, free: int, only: str | None) -> list[Candidate]:
        flight = self._flight
        if free <= 0:
            return []
        if not flight.candidates:
            waiting = self._waiting_for_their_turn()
            found = await self._store.read(lambda tx: ledger.delivery_queue.due(tx, _LOOK_AHEAD, only, without=waiting))
            flight.candidates.extend(found)
        now = asyncio.get_running_loop().time()
        chosen: list[Candidate] = []
        while flight.candidates and len(chosen) < free:
            candidate = flight.candidates.popleft()
            known = self._known.get(candidate.connection_id)
            pace = self._paces.get(known.connection.key_hash) if known else None
            if candidate.lane in flight.lanes or (pace is not None and not pace.ready(now)):
                continue
            if pace is not None:
                pace.take(now)
            flight.lanes.add(candidate.lane)
            chosen.append(candidate)
        return chosen

    def _waiting_for_their_turn(self) -> list[str]:
        """Connections whose key was asked to slow down: what others have to send does not queue behind theirs."""
        now = asyncio.get_running_loop().time()
        slow = {key_hash for key_hash, pace in self._paces.items() if not pace.ready(now)}
        return [one for one, known in self._known.items() if known.connection.key_hash in slow] if slow else []

    async def _write(self, chosen: Sequence[Candidate]) -> list[Operation]:
        """One transaction: the answers that came back, then the next claims."""
        flight = self._flight
        answers, flight.answers = flight.answers, []
        if not answers and not chosen:
            return []
        try:
            claimed = await self._store.write(lambda tx: self._settle_and_claim(tx, answers, chosen))
        except BaseException as error:
            flight.lanes -= {candidate.lane for candidate in chosen}
            flight.candidates.clear()
            if not isinstance(error, Exception) or isinstance(error, StoreError):
                flight.answers = answers + flight.answers
                raise
            log.exception("delivery: a result could not be settled; the others are, one by one")
            await self._settle_one_by_one(answers)
            claimed = []
        flight.lanes -= {candidate.lane for candidate in chosen} - {_lane(one) for one in claimed}
        flight.lanes -= {_lane(answer.operation) for answer in answers}
        return claimed

    async def _settle_one_by_one(self, answers: Sequence[Answer]) -> None:
        """A poisoned result blocks only its own receipt: it stays in doubt, and the history is asked."""
        for answer in answers:
            try:
                await self._store.write(lambda tx, one=answer: self.settle(tx, [one]))  # type: ignore[misc]
            except StoreError:
                raise
            except Exception as error:
                log.exception("operation %s: settling raised %s", answer.operation.id, type(error).__name__)
                doubt = replace(answer, outcome=InDoubt("its result could not be settled"))
                await self._store.write(lambda tx, one=doubt: self.settle(tx, [one]))  # type: ignore[misc]

    # --- in a transaction -------------------------------------------------------------------------------------

    def _settle_and_claim(
        self, tx: Transaction, answers: Sequence[Answer], chosen: Sequence[Candidate]
    ) -> list[Operation]:
        self.settle(tx, answers)
        claimed = ledger.operations.claim(tx, [candidate.id for candidate in chosen])
        if not claimed:
            return []
        working = connections.registry.sendable(tx, {one.connection_id for one in claimed})
        for connection_id, generation in working.items():
            known = self._known.get(connection_id)
            if known is None or known.connection.generation != generation:
                self._known[connection_id] = self._learn(tx, connection_id)
        stopped = [one.id for one in claimed if one.connection_id not in working]
        ledger.operations.unclaim(tx, stopped)
        return self._within_caps(tx, [one for one in claimed if one.connection_id in working])

    def _learn(self, tx: Transaction, connection_id: str) -> _Known:
        connection = connections.registry.get(tx, connection_id)
        rule = connections.rules.of_connection(tx, connection_id)[-1].rule
        return _Known(connection, tx.vault.decrypt(connection.sevenstamp_key), rule.max_per_card_per_day)

    def _within_caps(self, tx: Transaction, claimed: Sequence[Operation]) -> list[Operation]:
        """Hold what would give a card more stamps than its day allows; whole operations only."""
        capped = {
            one.id: cap
            for one in claimed
            if (cap := self._known[one.connection_id].cap) is not None
            and one.kind is Kind.stamps_added
            and not one.waived
        }
        if not capped:
            return list(claimed)
        given = ledger.delivery_queue.stamps_of_day(tx, [one for one in claimed if one.id in capped])
        over = [one for one in claimed if one.id in capped and given[one.id] + one.count > capped[one.id]]
        ledger.operations.unclaim(tx, [one.id for one in over])
        for one in over:
            why = Message("why.cap", {"most": capped[one.id], "given": given[one.id]})
            ledger.operations.hold_back(tx, one, Hold.cap, why, tx.now + _HOLD_DAYS * DAY)
        return [one for one in claimed if one not in over]

    def settle(self, tx: Transaction, answers: Sequence[Answer]) -> None:
        """Write down what some tries came to, and what follows from it."""
        verdicts = ledger.operations.settle(tx, [judge(answer.operation, answer.outcome, tx.now) for answer in answers])
        counted = {verdict.operation.id for verdict in verdicts}
        for answer in answers:
            if answer.operation.id in counted:
                self._consequences(tx, answer)
        back = [v.operation.sale_id for v in verdicts if v.state in (State.pending, State.held)]
        if back:
            self._net_out(tx, back)

    def _consequences(self, tx: Transaction, answer: Answer) -> None:
        one = answer.operation
        match answer.outcome:
            case Limited(retry_after=pause):
                connections.registry.pause_key(tx, answer.key_hash, tx.now + int(pause * SECOND))
            case InvalidKey():
                why = Message("why.key_refused")
                connections.registry.set_health_of_key(tx, answer.key_hash, Health.needs_authorisation, why)
            case Refused(code="plan_limit"):
                business = connections.businesses.get(tx, one.business_id)
                connections.businesses.pause(tx, one.business_id, month_turns(tx.now, business.zone))
            case Refused(code="card_not_found") if one.kind is Kind.stamps_added and one.card_id:
                self._card_is_gone(tx, one)

    def _card_is_gone(self, tx: Transaction, one: Operation) -> None:
        """Forget the card and find out once more whose it is; the held operation goes to whatever is found."""
        ledger.cards.forget_card(tx, one.business_id, one.card_id or "")
        page = SaleBatch.load(tx, [one.sale_id])
        row = page.rows[one.sale_id]
        if (row.claimed or row.anonymous) and row.card_id == one.card_id:
            unclaim(page, row)
            page.flush()
            return
        who = ledger.sales.newest_content(tx, row).customer
        if row.card_id != one.card_id or not who:
            return
        row.bound_hash = None
        page.changed(row)
        pause = _NOT_SENT_PAUSES[min(one.attempt - 1, len(_NOT_SENT_PAUSES) - 1)] if one.attempt > 1 else 0
        page.identify_later(row, who, tx.now + pause * 60 * SECOND)
        page.flush()

    def _net_out(self, tx: Transaction, sale_ids: Sequence[str]) -> None:
        page = SaleBatch.load(tx, sale_ids)
        found = connections.registry.by_ids(tx, list({row.connection_id for row in page.rows.values()}))
        for row in page.rows.values():
            if len(page.operations[row.id]) > 1:
                rule = rule_for(row, connections.rules.of_connection(tx, row.rule_of or row.connection_id)).rule
                net_out(page, row, found[row.connection_id], rule)
        page.flush()

    # --- on the wire ------------------------------------------------------------------------------------------

    async def _send(self, one: Operation) -> None:
        known = self._known[one.connection_id]
        outcome: Outcome = InDoubt("the sender failed")
        try:
            async with self._slots:
                outcome = await self._post(known, one)
        except Exception as error:
            log.exception("operation %s: sending raised %s", one.id, type(error).__name__)
        finally:
            self._flight.answers.append(Answer(one, outcome, known.connection.key_hash))
            self.wake()

    async def _post(self, known: _Known, one: Operation) -> Outcome:
        now = asyncio.get_running_loop().time()
        pace = self._paces.get(known.connection.key_hash)
        if pace is not None and now < pace.not_before:
            return NotSent("the key was asked to wait meanwhile")
        left = self.timing.deadline - (self._store.clock.now() - (one.sent_at or 0)) / SECOND
        if left < self.timing.deadline / 2:
            return NotSent("the turn came too late")
        outcome = await self._sevenstamp.with_key(known.key).write(_path(one), one.request, one.key, left)
        if isinstance(outcome, Limited):
            now = asyncio.get_running_loop().time()
            self._paces.setdefault(known.connection.key_hash, Pace()).limited(now, outcome.retry_after)
            self._flight.candidates.clear()
        return outcome

    # --- in doubt ---------------------------------------------------------------------------------------------

    async def resolve(self, only: str | None = None) -> int:
        """Look into the history of what is in doubt and due for a look; how many that were."""
        doubtful = await self._store.write(lambda tx: ledger.operations.claim_uncertain(tx, 200, only))
        if not doubtful:
            return 0
        found = await self._store.read(
            lambda tx: connections.registry.by_ids(tx, list({o.connection_id for o in doubtful}))
        )
        slots = asyncio.Semaphore(_LOOKS_AT_ONCE)

        async def look(one: Operation) -> None:
            async with slots:
                await self._look(found[one.connection_id], one)

        async with asyncio.TaskGroup() as group:
            for one in doubtful:
                group.create_task(look(one))
        return len(doubtful)

    async def _look(self, connection: Connection, one: Operation) -> None:
        began = self._store.clock.now()
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        try:
            shown = await self._shown(client, one)
        except (SevenStampError, RuntimeError, ValueError) as error:
            failure = error
            await self._store.write(lambda tx: self._could_not_look(tx, connection, one, failure))
            return
        if shown is None and began <= self.timing.horizon(one):
            left = (self.timing.horizon(one) - began) / SECOND
            await self._store.write(lambda tx: _look_later(tx, one, max(0.5, left / 2 + 0.05)))
            return
        answer = Answer(one, shown or NotSent("the history shows that it was not applied"), connection.key_hash)
        await self._store.write(lambda tx: self.settle(tx, [answer]))
        self.wake()

    @staticmethod
    async def _shown(client: SevenStampClient, one: Operation) -> Outcome | None:
        """What 7stamp's own records say of an operation; `None` where they do not show it."""
        try:
            if one.kind is Kind.voucher_redeemed:
                by = (await client.voucher(one.redeem_code or "")).redeemed_by_code
                return None if by is None else _redeemed(one, by)
            return Applied({}) if await client.history(one.card_id or "", one.code) else None
        except Refused as refusal:
            # only "there is no such thing" is a reading; any other refusal says nothing about what was applied
            if (refusal.status, refusal.code) in ((404, "card_not_found"), (404, "voucher_not_found")):
                return None
            raise

    def _could_not_look(self, tx: Transaction, connection: Connection, one: Operation, error: Exception) -> None:
        pause = random.uniform(3, 6) * min(2 ** max(0, (tx.now - one.updated_at) // (60 * SECOND)), 100)  # noqa: S311
        if isinstance(error, InvalidKey):
            why = Message("why.key_refused")
            connections.registry.set_health_of_key(tx, connection.key_hash, Health.needs_authorisation, why)
        elif isinstance(error, Limited):
            pause = error.retry_after
            connections.registry.pause_key(tx, connection.key_hash, tx.now + int(pause * SECOND))
        _look_later(tx, one, pause)

    # --- the plan of a business -------------------------------------------------------------------------------

    async def watch_plans(self, every: int = 900 * SECOND) -> None:
        """Ask 7stamp whether paused businesses may go on: when the month turned, and now and then before."""
        now = self._store.clock.now()
        paused = await self._store.read(lambda tx: connections.businesses.paused(tx, now - every))
        for business_id, connection_id, until in paused:
            connection = (await self._store.read(lambda tx, one=connection_id: connections.registry.by_ids(tx, [one])))[  # type: ignore[misc]
                connection_id
            ]
            client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
            resumes = now >= until
            with contextlib.suppress(SevenStampError):
                usage = (await client.me()).operations
                resumes = usage.allowed is None or usage.used < usage.allowed
            await self._store.write(
                lambda tx, one=business_id, go=resumes: _plan_checked(tx, one, resumes=go)  # type: ignore[misc]
            )


def _look_later(tx: Transaction, one: Operation, seconds: float) -> None:
    ledger.operations.look_later(tx, one, tx.now + int(seconds * SECOND))


def _plan_checked(tx: Transaction, business_id: str, *, resumes: bool) -> None:
    connections.businesses.record_plan_check(tx, business_id, resumes=resumes)
    if resumes:
        ledger.operations.release_plan_limit(tx, business_id)


def _lane(one: Operation) -> tuple[str, str]:
    return one.business_id, one.lane


def _path(one: Operation) -> str:
    if one.kind is Kind.voucher_redeemed:
        return redeem_path(one.redeem_code or "")
    return stamps_path(one.card_id or "", back=one.kind is Kind.stamps_reversed)


def _redeemed(one: Operation, by_code: str) -> Outcome:
    """Redeemed with our code means that it was us."""
    if by_code == one.code:
        return Applied({})
    return Refused(409, "already_redeemed", {})


def month_turns(now: int, zone: str) -> int:
    """When the next month begins at the venue (UTC microseconds)."""
    try:
        local = moment(now).astimezone(ZoneInfo(zone))
    except (KeyError, ValueError, OSError):  # 7stamp's word for a zone, which may be none we know
        local = moment(now)
    first = (local.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)).replace(day=1)
    return micros(first)


def judge(one: Operation, outcome: Outcome, now: int) -> Verdict:
    """What a try's outcome makes of an operation: the table of `wire/sevenstamp.md`, as a pure function."""
    match outcome:
        case Applied():
            return Verdict(one, State.applied)
        case NotSent():
            pause = _NOT_SENT_PAUSES[min(one.tries - 1, len(_NOT_SENT_PAUSES) - 1)] if one.tries > 0 else 0
            at = now if one.state is State.uncertain else now + int(pause * random.uniform(0.5, 1.5) * SECOND)  # noqa: S311
            # a key that 7stamp knows with another body would be refused for ever
            return Verdict(one, State.pending, next_at=at, new_attempt=one.conflicted)
        case InDoubt(conflict=conflict):
            return Verdict(one, State.uncertain, Message("why.in_doubt"), next_at=now, conflicted=conflict)
        case Limited(retry_after=pause):
            return Verdict(one, State.pending, next_at=now + int(pause * SECOND))
        case InvalidKey():
            return Verdict(one, State.pending, next_at=now)
        case Refused(code="plan_limit"):
            return Verdict(one, State.held, Message("why.plan_limit"), hold=Hold.plan_limit)
        case Refused(code="card_not_found") if one.kind is Kind.stamps_added:
            return Verdict(one, State.held, Message("why.card_gone"), hold=Hold.no_card)
        case Refused(code="already_redeemed", body=body) if body.get("redeemed_by_code") == one.code:
            return Verdict(one, State.applied)
        case Refused(code=code):
            return Verdict(one, State.rejected, _refusal(code))
    raise AssertionError(outcome)


_REFUSALS: Mapping[str, str] = {
    "nothing_to_reverse": "why.reward_given",
    "already_redeemed": "why.already_redeemed",
    "voucher_expired": "why.voucher_expired",
    "voucher_not_found": "why.voucher_unknown",
    "card_not_found": "why.card_gone",
}


def _refusal(code: str) -> Message:
    return Message(_REFUSALS[code]) if code in _REFUSALS else Message("why.refused", {"code": code})
