"""Vouchers apart from receipts: issued and redeemed at once for whoever asks, and settled afterwards where in doubt.

Owns what is sent when. A request is on disk before its first byte leaves. Without a clear answer nothing is sent again
before the voucher was looked up by its redeem code, which is ours: a voucher is issued once and used once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from connector_sdk.messages import Message
from connectors.domain.clock import HOUR, MINUTE, SECOND
from connectors.domain.connection import Connection
from connectors.domain.vouchers import LOOKED_FOR, TRIED_FOR, RequestKind, RequestState, new_redeem_code
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
)
from connectors.sevenstamp.models import Voucher
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.ledger.voucher_requests import VoucherRequest, reference
from connectors.store.ledger.voucher_states import VoucherState
from connectors.sync.doubt_resolution import Timing

log = logging.getLogger(__name__)

_PAUSE = 5 * SECOND
_LOOK_PAUSE = MINUTE
_NO_ANSWER = "no_answer"
_MOST_ATTEMPTS = 10
"""Under one key, each after a refusal."""


@dataclass(frozen=True, slots=True)
class WantedVoucher:
    """A voucher to issue: of a template or with a title of its own, for a card or for whoever has its code."""

    title: str | None = None
    template_id: str | None = None
    description: str | None = None
    card_id: str | None = None
    redeem_code: str | None = field(default=None, repr=False)
    """`None` has one made."""
    validity: str | None = None
    """How long it is good, in 7stamp's words."""


class Vouchers:
    """Issues and redeems vouchers through 7stamp."""

    def __init__(self, store: Store, sevenstamp: SevenStamp, timing: Timing) -> None:
        self._store = store
        self._sevenstamp = sevenstamp
        self._timing = timing

    async def issue(
        self, connection: Connection, wanted: WantedVoucher, by: str | None, once: str | None = None
    ) -> VoucherRequest:
        """Issue a voucher; return how far that has come. Under the same `once` it is the same request."""
        redeem_code = wanted.redeem_code or new_redeem_code()
        body = {
            "title": wanted.title,
            "template_id": wanted.template_id,
            "description": wanted.description,
            "card_id": wanted.card_id,
            "validity": wanted.validity,
            "redeem_code": redeem_code,
        }
        # another body is another request, although it is done once for the same
        same = once and json.dumps([once, {**body, "redeem_code": wanted.redeem_code}])
        return await self._begin(connection, RequestKind.issue, redeem_code, body, by, same)

    async def redeem(
        self, connection: Connection, redeem_code: str, by: str | None, once: str | None = None
    ) -> VoucherRequest:
        """Redeem a voucher; return how far that has come. Under the same `once` it is the same request."""
        same = once and json.dumps([once, redeem_code])
        return await self._begin(connection, RequestKind.redeem, redeem_code, {}, by, same)

    async def round(self) -> int:
        """Look after the requests that are due; return how many those were."""
        requests = await self._store.read(ledger.voucher_requests.due)
        # at once: a request for which 7stamp hangs keeps nobody else's waiting
        await asyncio.gather(*(self._look_after_one(request) for request in requests))
        return len(requests)

    # Sending

    async def _begin(
        self,
        connection: Connection,
        kind: RequestKind,
        redeem_code: str,
        body: dict[str, str | None],
        by: str | None,
        once: str | None,
    ) -> VoucherRequest:
        """Store a request and send it; one that is there already under `once` is returned as it stands.

        So is one that must not be sent now; it is sent with the next round.

        Raises `QuotaMet` where too many of the business wait.
        """

        def store(tx: Transaction) -> tuple[VoucherRequest, bool]:
            request_id = uuid.uuid4().hex
            if once is not None:
                request_id, found = _request_of(tx, connection.business_id, kind, once)
                if found is not None:
                    return found, False
            # by a time that is not the server's nothing is sent: it waits until this member has seen the jump
            state = RequestState.sending if tx.may_send() else RequestState.waiting
            sent = {"code": reference(request_id)} | {name: value for name, value in body.items() if value is not None}
            request = VoucherRequest(
                id=request_id,
                business_id=connection.business_id,
                connection_id=connection.id,
                kind=kind,
                redeem_code=redeem_code,
                request=json.dumps(sent, ensure_ascii=False),
                state=state,
                reason=None,
                sent_at=tx.now,
                tries=int(state is RequestState.sending),
                made_at=tx.now,
                made_by=by,
            )
            is_sent = state is RequestState.sending
            ledger.voucher_requests.insert(tx, request, self._horizon(tx.now) if is_sent else tx.now)
            return request, is_sent

        request, is_to_be_sent = await self._store.write(store)
        if not is_to_be_sent:
            return request
        try:
            return await self._send(request)
        except Exception as error:
            # it may have taken effect, and it is on disk: whoever asked must not ask for another one
            log.exception("voucher request %s: raised %s; it is looked up", request.id, type(error).__name__)
            return replace(request, state=RequestState.uncertain)

    async def _send(self, request: VoucherRequest) -> VoucherRequest:
        """Send a request that is `sending` on disk, and write down what came of it."""
        connection = await self._asking(request)
        path = "/v1/vouchers"
        if request.kind is RequestKind.redeem:
            path = f"{path}/{quote(request.redeem_code, safe='')}/redeem"
        # the horizon counts from the claim: whoever comes late has less time, and gives up where it is too little
        left = self._timing.deadline - (self._store.clock.now() - request.sent_at) / SECOND
        outcome: Outcome = NotSent("too late")
        if left > self._timing.deadline / 2:
            outcome = await self._client(connection).write(path, request.request, request.key, left)
        state, reason, pause = judge(outcome, request)
        now = self._store.clock.now()
        is_in_doubt = state is RequestState.uncertain
        next_at = self._timing.look_at(self._horizon(request.sent_at), now) if is_in_doubt else now + pause
        if isinstance(outcome, Limited):  # the whole key waits, not only this
            await self._store.write(lambda tx: connections.registry.pause_key(tx, connection.key_hash, next_at))
        return await self._settle(request, state, reason, next_at)

    async def _asking(self, request: VoucherRequest) -> Connection:
        """Return the connection whose key asks: the request's, or another of the business where that is gone."""
        asking = await self._store.read(
            lambda tx: connections.registry.asking(tx, request.business_id, request.connection_id)
        )
        if asking is None:
            raise InvalidKey("no connection of this business is left")
        return asking

    def _client(self, connection: Connection) -> SevenStampClient:
        return self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))

    async def _settle(
        self, request: VoucherRequest, state: RequestState, reason: str | None = None, next_at: int = 0
    ) -> VoucherRequest:
        """Write down where a request stands, and return it as it is then."""

        def work(tx: Transaction) -> VoucherRequest:
            is_news = ledger.voucher_requests.settle(tx, request, state, reason=reason, next_at=next_at)
            if is_news and state is RequestState.applied:
                _tell_applied(tx, request)
            return ledger.voucher_requests.find(tx, request.id) or request

        return await self._store.write(work, request.made_by)

    def _horizon(self, sent_at: int) -> int:
        """Return from when on a look without the effect proves that there was none (UTC microseconds)."""
        return self._timing.horizon(sent_at, self._store.comparable_since)

    # Looking after

    async def _look_after_one(self, request: VoucherRequest) -> None:
        """Look after one request; whatever goes wrong, the others go on."""
        try:
            await self._look_after(request)
        except SevenStampError as error:
            log.warning("voucher request %s: %s", request.id, error)
            await self._look_later(request)
        except Exception as error:
            log.exception("voucher request %s: raised %s", request.id, type(error).__name__)

    async def _look_after(self, request: VoucherRequest) -> None:
        """Look a request up that may have taken effect, and send it again where it surely did not."""
        if request.state is not RequestState.waiting:
            await self._look_up(request)
            return
        if self._store.clock.now() - request.made_at > TRIED_FOR:
            await self._settle(request, RequestState.given_up, _NO_ANSWER)
            return
        taken = await self._store.write(
            lambda tx: ledger.voucher_requests.take(tx, request, RequestState.sending, self._horizon(tx.now))
        )
        if taken is not None:
            await self._send(taken)

    async def _look_later(self, request: VoucherRequest) -> None:
        """Look again after a pause that grows with the request's age; after a week nobody asks any more."""
        now = self._store.clock.now()
        age = now - request.made_at
        if age > LOOKED_FOR:
            await self._settle(request, RequestState.given_up, "unknown")
        else:
            pause = min(6 * HOUR, max(_LOOK_PAUSE, age // 4))
            await self._settle(request, request.state, None, now + pause)

    async def _look_up(self, request: VoucherRequest) -> None:
        """Look up the voucher of a request in doubt, and settle what that says."""
        began = self._store.clock.now()
        taken = await self._store.write(
            lambda tx: ledger.voucher_requests.take(tx, request, RequestState.uncertain, tx.now + _LOOK_PAUSE)
        )
        if taken is None:
            return
        # as it is now: a clock that was put forward since it was read has moved when it was sent
        request = taken
        try:
            voucher = await self._client(await self._asking(request)).voucher(request.redeem_code)
        except Refused as refused:
            if refused.code != "voucher_not_found":
                raise
            voucher = None
        found = judge_voucher(voucher, request)
        horizon = self._horizon(request.sent_at)
        if found is not None:
            await self._settle(request, *found)
        elif began < horizon or not await self._store.read(lambda tx: tx.is_past(began)):  # it may still take effect
            now = self._store.clock.now()
            next_at = max(self._timing.look_at(horizon, now), now + SECOND)
            await self._settle(request, RequestState.uncertain, None, next_at)
        else:
            await self._settle(request, RequestState.waiting, None, self._store.clock.now())


def _request_of(tx: Transaction, business_id: str, kind: RequestKind, once: str) -> tuple[str, VoucherRequest | None]:
    """Return the id of what is done once, and its request where there is one that was not refused.

    A new attempt after a definite refusal has a key of its own, and so an id of its own; after `_MOST_ATTEMPTS` the
    last refusal stands.
    """
    request_id, found = "", None
    for attempt in range(_MOST_ATTEMPTS):
        request_id = tx.vault.hash("voucher request", business_id, kind, once, str(attempt))
        found = ledger.voucher_requests.find(tx, request_id)
        if found is None or found.state not in (RequestState.refused, RequestState.given_up):
            break
    return request_id, found


def judge(outcome: Outcome, request: VoucherRequest) -> tuple[RequestState, str | None, int]:
    """Return the state that an answer means, why, and the pause before the next try (microseconds)."""
    match outcome:
        case Applied():
            return RequestState.applied, None, 0
        case NotSent():
            return RequestState.waiting, None, _PAUSE
        case Limited(retry_after=seconds):
            return RequestState.waiting, None, int(seconds * SECOND)
        case InDoubt():
            return RequestState.uncertain, None, 0
        case InvalidKey():
            return RequestState.refused, "invalid_key", 0
        # of what was sent before, a code that is taken may be our own: the voucher says whose it is
        case Refused(code="invalid") if request.kind is RequestKind.issue and request.tries > 1:
            return RequestState.uncertain, None, 0
        case Refused(code="already_redeemed", body=body) if body.get("redeemed_by_code") == request.code:
            return RequestState.applied, None, 0
        case Refused(code=code):
            return RequestState.refused, code, 0
    raise TypeError(f"an answer of a kind that nobody knows: {type(outcome).__name__}")


def judge_voucher(voucher: Voucher | None, request: VoucherRequest) -> tuple[RequestState, str | None] | None:
    """Return how a look at the voucher settles a request in doubt; `None` where it shows no effect of it."""
    if request.kind is RequestKind.issue:
        if voucher is None:
            return None
        # the redeem code may be one that a person chose, and that was somebody else's before
        is_ours = voucher.code == request.code
        return (RequestState.applied, None) if is_ours else (RequestState.refused, "invalid")
    if voucher is None:
        return RequestState.refused, "voucher_not_found"
    if voucher.redeemed_by_code == request.code:
        return RequestState.applied, None
    if voucher.status == "redeemed":
        return RequestState.refused, "already_redeemed"
    if voucher.status == "expired":
        return RequestState.refused, "voucher_expired"
    return None


def _tell_applied(tx: Transaction, request: VoucherRequest) -> None:
    """Write down what 7stamp did: its word for it may come later, or to nobody where it cannot reach us."""
    if request.kind is RequestKind.issue:
        ledger.voucher_states.learn(tx, request.business_id, [request.redeem_code])
        # without its code: whoever reads that can use it
        ledger.journal.write(tx, request.connection_id, Message("request.voucher_issued"))
        return
    state = VoucherState("redeemed", tx.now, "api", request.code)
    ledger.voucher_states.record(tx, request.business_id, request.redeem_code, state)
    params = {"code": request.redeem_code}
    ledger.journal.write(tx, request.connection_id, Message("request.voucher_redeemed", params))
    ledger.daily_totals.add_redemption(tx, request.connection_id, request.made_at)
