"""Voucher requests: what people and programs ask of 7stamp apart from receipts, on disk before it is sent.

Owns the table `voucher_request`. A request keeps its bytes and its key from the first try to the last.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import literal, select

from connectors.domain.clock import CLOCKS_AGREE
from connectors.domain.vouchers import MOST_KEPT, MOST_OPEN, RequestKind, RequestState
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet
from connectors.store.query_parts import AnyRow
from connectors.store.schema import voucher_request_table

is_open = voucher_request_table.c.state.in_(
    [
        literal(state.value, literal_execute=True)
        for state in (RequestState.sending, RequestState.waiting, RequestState.uncertain)
    ]
)
"""Not settled yet; written as the partial index is."""


@dataclass(frozen=True, slots=True)
class VoucherRequest:
    """A request as it is stored; times in UTC microseconds."""

    id: str
    business_id: str
    connection_id: str
    """Whose 7stamp key it is sent with."""
    kind: RequestKind
    redeem_code: str = field(repr=False)
    request: str = field(repr=False)
    """The body, byte for byte as it is sent each time."""
    state: RequestState
    reason: str | None
    """Of what was refused: 7stamp's word for why."""
    sent_at: int
    tries: int
    made_at: int
    made_by: str | None

    @property
    def code(self) -> str:
        """The reference by which 7stamp shows that it was us."""
        return reference(self.id)

    @property
    def key(self) -> str:
        """The idempotency key of every try."""
        return self.code


def reference(request_id: str) -> str:
    """Return the reference that a request sends to 7stamp."""
    return f"voucher:{request_id}"


def _request(tx: Transaction, row: AnyRow) -> VoucherRequest:
    return VoucherRequest(
        id=row.id,
        business_id=row.business_id,
        connection_id=row.connection_id,
        kind=RequestKind(row.kind),
        redeem_code=tx.vault.decrypt(row.redeem_code),
        request=tx.vault.decrypt(row.request),
        state=RequestState(row.state),
        reason=row.reason,
        sent_at=row.sent_at,
        tries=row.tries,
        made_at=row.made_at,
        made_by=row.made_by,
    )


def insert(tx: Transaction, request: VoucherRequest, next_at: int) -> None:
    """Store a request that is sent next; without an answer it is looked at again at `next_at`. Raises `QuotaMet`."""
    of_business = voucher_request_table.c.business_id == request.business_id
    waiting = select(voucher_request_table.c.id).where(of_business, is_open)
    if tx.run(waiting.offset(MOST_OPEN - 1).limit(1)).first() is not None:
        raise QuotaMet(MOST_OPEN)
    newest = select(voucher_request_table.c.made_at).where(of_business)
    oldest_kept = tx.run(
        newest.order_by(voucher_request_table.c.made_at.desc()).offset(MOST_KEPT - 1).limit(1)
    ).scalar()
    if oldest_kept is not None:
        tx.run(
            voucher_request_table.delete().where(of_business, ~is_open, voucher_request_table.c.made_at <= oldest_kept)
        )
    tx.run(
        voucher_request_table.insert(),
        [
            {
                "id": request.id,
                "business_id": request.business_id,
                "connection_id": request.connection_id,
                "kind": request.kind,
                "redeem_code": tx.vault.encrypt(request.redeem_code),
                "request": tx.vault.encrypt(request.request),
                "state": request.state,
                "next_at": next_at,
                "sent_at": request.sent_at,
                "tries": request.tries,
                "made_at": request.made_at,
                "made_by": request.made_by,
            }
        ],
    )


def find(tx: Transaction, request_id: str) -> VoucherRequest | None:
    """Read a request; `None` where there is none."""
    row = tx.run(select(voucher_request_table).where(voucher_request_table.c.id == request_id)).first()
    return _request(tx, row) if row is not None else None


def due(tx: Transaction, limit: int = 50) -> list[VoucherRequest]:
    """List the requests to look at now, longest due first."""
    query = select(voucher_request_table).where(is_open, voucher_request_table.c.next_at <= tx.now)
    return [_request(tx, row) for row in tx.run(query.order_by(voucher_request_table.c.next_at).limit(limit)).all()]


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times to come of open requests with a clock that jumped."""
    later = is_open & (voucher_request_table.c.next_at > before)
    tx.run(voucher_request_table.update().where(later).values(next_at=voucher_request_table.c.next_at + jump))


def shift_sent(tx: Transaction, jump: int) -> None:
    """Move when open requests were sent with a clock that jumped."""
    tx.run(voucher_request_table.update().where(is_open).values(sent_at=voucher_request_table.c.sent_at + jump))


def correct_future(tx: Transaction) -> None:
    """Take open requests that were sent in the future as sent now, to be looked at now."""
    future = is_open & (voucher_request_table.c.sent_at > tx.now + CLOCKS_AGREE)
    tx.run(voucher_request_table.update().where(future).values(sent_at=tx.now, next_at=tx.now))


def take(tx: Transaction, request: VoucherRequest, state: RequestState, next_at: int) -> VoucherRequest | None:
    """Take a request for a look or a try (then with state `sending`); return it as it is now.

    `None` where somebody else took it meanwhile, and where nothing may be sent by a wrong time.
    """
    if state is RequestState.sending and not tx.may_send():
        return None
    is_it = (
        (voucher_request_table.c.id == request.id)
        & (voucher_request_table.c.state == request.state)
        & (voucher_request_table.c.tries == request.tries)
        & (voucher_request_table.c.next_at <= tx.now)
    )
    columns: dict[str, object] = {"state": state, "next_at": next_at}
    if state is RequestState.sending:
        columns |= {"sent_at": tx.now, "tries": voucher_request_table.c.tries + 1}
    taken = tx.run(voucher_request_table.update().where(is_it).values(columns)).rowcount == 1
    return find(tx, request.id) if taken else None


def settle(
    tx: Transaction, request: VoucherRequest, state: RequestState, *, reason: str | None = None, next_at: int = 0
) -> bool:
    """Write down where a request stands, and say whether that is news.

    One that is settled stays so, and a later try is not undone.
    """
    is_it = (voucher_request_table.c.id == request.id) & is_open
    if not state.is_settled:
        is_it &= voucher_request_table.c.tries == request.tries
    change = voucher_request_table.update().where(is_it).values(state=state, reason=reason, next_at=next_at)
    return bool(tx.run(change).rowcount)


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete settled requests that were made before a moment, oldest first; return how many."""
    old = (
        select(voucher_request_table.c.id)
        .where(voucher_request_table.c.made_at < before, ~is_open)
        .order_by(voucher_request_table.c.made_at)
        .limit(limit)
    )
    return tx.run(voucher_request_table.delete().where(voucher_request_table.c.id.in_(old))).rowcount
