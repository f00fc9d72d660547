"""A batch of sales: loaded with a few queries, changed in memory under the write lock, written with a few more.

Owns what has changed between `load` and `flush`; each table's own module writes it, and what to change is
`connectors.sync`'s. However many sales a batch holds, loading and writing them takes the same number of
statements; only what is asked of a sale's earlier versions and bindings is a query of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from connector_sdk.messages import Message
from connector_sdk.sale import Customer, Sale
from connectors.domain.operation import Flag, Hold, Kind, State
from connectors.store.engine import Transaction
from connectors.store.ledger import bindings, card_searches, daily_totals, journal, operations, sales
from connectors.store.ledger.bindings import Binding
from connectors.store.ledger.card_searches import NewSearch
from connectors.store.ledger.daily_totals import DayTotals, Move
from connectors.store.ledger.journal import NewLine
from connectors.store.ledger.operations import CardRelease, JsonBody, NewOperation, PlannedOperation, card_lane
from connectors.store.ledger.sales import NewVersion, SaleRow
from connectors.store.query_parts import in_parts


@dataclass(slots=True)
class _Changes:
    """What `flush` will write."""

    new_sales: set[str] = field(default_factory=set)
    changed_sales: set[str] = field(default_factory=set)
    versions: list[NewVersion] = field(default_factory=list)
    operations: dict[str, NewOperation] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    releases: list[CardRelease] = field(default_factory=list)
    assigned_cards: dict[str, str] = field(default_factory=dict)
    flags: dict[str, Flag | None] = field(default_factory=dict)
    searches: dict[str, NewSearch | None] = field(default_factory=dict)
    """Sale id → its search from now on, or none."""
    bindings: list[Binding] = field(default_factory=list)
    moves: dict[str, Move] = field(default_factory=dict)
    lines: list[NewLine] = field(default_factory=list)


@dataclass(slots=True)
class SaleBatch:
    """Some sales of the ledger with their operations, in one transaction; nothing is written before `flush`."""

    tx: Transaction
    rows: dict[str, SaleRow] = field(default_factory=dict)
    operations: defaultdict[str, list[PlannedOperation]] = field(default_factory=lambda: defaultdict(list))
    """Sale id → its operations in their order, planned ones of this batch among them."""
    _changes: _Changes = field(default_factory=_Changes)
    _counted: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    """Sale id → the connection and day for which it is counted in the database."""

    @classmethod
    def load(cls, tx: Transaction, ids: Iterable[str]) -> SaleBatch:
        """Load sales for a change; ids that are not in the ledger are simply not in `rows`."""
        batch = cls(tx)
        for part in in_parts(list(dict.fromkeys(ids))):
            rows = sales.lock(tx, part)
            for row in rows:
                batch.rows[row.id] = row
                batch._counted[row.id] = row.counted
            if rows:
                for sale_id, operation in operations.lock_of_sales(tx, [row.id for row in rows]):
                    batch.operations[sale_id].append(operation)
        return batch

    def oldest_first(self) -> list[SaleRow]:
        """List the sales as they were closed: in that order their operations are planned, and so delivered."""
        return sorted(self.rows.values(), key=lambda row: (row.closed_at or 0, row.receipt_id))

    # Sales and their versions

    def add(self, row: SaleRow) -> None:
        """Add a sale that the ledger does not have."""
        self.rows[row.id] = row
        self._changes.new_sales.add(row.id)

    def mark_changed(self, row: SaleRow) -> None:
        """Have a sale written whose row was changed."""
        row.changed_at = self.tx.now
        if row.id not in self._changes.new_sales:
            self._changes.changed_sales.add(row.id)

    def add_version(self, row: SaleRow, sale: Sale, ticket: int | None, source: str, seen_at: int) -> None:
        """Add the sale's newest version; its number and digest stand in the row already."""
        self._changes.versions.append(
            NewVersion(row.id, row.versions, sale, row.digest, ticket, source, seen_at, row.stamps_by_plugin)
        )

    def remember_lost(self, row: SaleRow, *, sale: Sale, digest: str, at: int) -> bool:
        """Keep a state that came too late to count, below all versions; say whether it was not seen before."""
        if self.seen_before(row, digest):
            return False
        added = [version.number for version in self._changes.versions if version.sale_id == row.id]
        number = min(sales.lowest_number(self.tx, row.id), *added, 0) - 1
        self._changes.versions.append(NewVersion(row.id, number, sale, digest, None, "push", at, None))
        return True

    def seen_before(self, row: SaleRow, digest: str, *, but_not_at: int | None = None) -> bool:
        """Say whether some version of this sale had that digest; not counting what arrived at one moment."""
        return sales.has_version_with(self.tx, row.id, digest, but_not_at=but_not_at) or any(
            version.sale_id == row.id and version.digest == digest and version.seen_at != but_not_at
            for version in self._changes.versions
        )

    def newest_arrival(self, row: SaleRow) -> int:
        """Return when the newest version of this sale arrived (UTC microseconds)."""
        for version in reversed(self._changes.versions):
            if version.sale_id == row.id and version.number > 0:
                return version.seen_at
        return sales.arrival_of_version(self.tx, row.id, row.versions)

    def move(self, row: SaleRow, connection_id: str) -> None:
        """Hand a sale over to the connection that has its location now, with what is still to be done."""
        former = self._changes.moves[row.id].leaves if row.id in self._changes.moves else row.connection_id
        self._changes.moves[row.id] = Move(former, connection_id)
        row.connection_id = connection_id

    # Operations

    def voucher_lane(self, row: SaleRow, redeem_code: str) -> str:
        """Name the lane of a voucher of the sale's business."""
        return operations.voucher_lane(self.tx, row.business_id, redeem_code)

    def plan_operation(
        self,
        row: SaleRow,
        kind: Kind,
        *,
        count: int,
        card_id: str | None,
        card_hint: str | None,
        body: JsonBody,
        day: str,
        redeem_code: str | None = None,
        hold: str | None = None,
        reason: Message | None = None,
        expires_at: int | None = None,
    ) -> PlannedOperation:
        """Plan the sale's next operation; `body` is the request without its code, which is made here."""
        n = row.next_n
        row.next_n += 1
        state = State.held if hold else State.pending
        lane = f"gift:{row.id}:{n}" if hold == Hold.gift else self._lane(row, card_id, redeem_code)
        planned = PlannedOperation(f"{row.id[:14]}-{n}", n, kind, card_id, count, state, hold, lane)
        self.operations[row.id].append(planned)
        self._changes.operations[planned.id] = NewOperation(
            planned=planned,
            sale_id=row.id,
            connection_id=row.connection_id,
            business_id=row.business_id,
            receipt_id=row.receipt_id,
            card_hint=card_hint,
            code=f"{row.code}:{n}",
            body=body,
            day=day,
            redeem_code=redeem_code,
            reason=reason,
            expires_at=expires_at,
        )
        return planned

    def _lane(self, row: SaleRow, card_id: str | None, redeem_code: str | None) -> str:
        if redeem_code:
            return self.voucher_lane(row, redeem_code)
        return card_lane(card_id) if card_id else row.cardless_lane

    def cancel(self, row: SaleRow, ids: Iterable[str]) -> None:
        """Cancel operations that are pending or held."""
        cancelled = set(ids)
        for operation in self.operations[row.id]:
            if operation.id in cancelled:
                operation.state = State.cancelled
        for operation_id in cancelled:
            if new := self._changes.operations.get(operation_id):  # not in the database yet: it is stored as cancelled
                new.planned.hold, new.reason = None, None
            else:
                self._changes.cancelled.append(operation_id)

    def flag(self, operation: PlannedOperation, flag: Flag | None) -> None:
        """Flag an operation for a person, or take its flag away; not what a person has seen already."""
        if operation.flag != flag and not operation.acknowledged:
            operation.flag = flag
            self._changes.flags[operation.id] = flag

    def release_to_card(self, operation: PlannedOperation, card_id: str, card_hint: str) -> None:
        """Give a held operation its card and let it go; one that was refused before goes out under a new key."""
        new_key = operation.card_id is not None
        operation.card_id, operation.state, operation.hold = card_id, State.pending, None
        operation.lane = card_lane(card_id)
        if new := self._changes.operations.get(operation.id):  # not in the database yet: it is stored as released
            new.card_hint, new.reason, new.expires_at = card_hint, None, None
        else:
            self._changes.releases.append(CardRelease(operation.id, card_id, card_hint, new_key))

    def assign_card(self, operation: PlannedOperation, card_id: str) -> None:
        """Count an operation that ended without a card as this card's, so that it is not planned again for it."""
        operation.card_id = card_id
        if operation.id not in self._changes.operations:
            self._changes.assigned_cards[operation.id] = card_id

    # Customers

    def search_card(self, row: SaleRow, customer: Customer, at: int) -> None:
        """Leave the work of finding a customer's card; not where a person has said whose it is, or it was erased."""
        if not (row.claimed or row.anonymous):
            search = NewSearch(row.id, row.connection_id, row.customer_hash, customer, at)
            self._changes.searches[row.id] = search

    def end_search(self, row: SaleRow) -> None:
        """Leave nothing to find out for a sale."""
        self._changes.searches[row.id] = None

    def remember_binding(self, row: SaleRow) -> None:
        """Keep whose card the sale had, before another customer is named."""
        if row.bound_hash and row.card_id:
            self._changes.bindings.append(Binding(row.id, row.bound_hash, row.card_id, row.card_hint or ""))

    def hint_of_former_card(self, row: SaleRow, card_id: str) -> str | None:
        """Return the last digits of a card that the sale had before; `None` where it never had it."""
        for binding in self._changes.bindings:
            if binding.sale_id == row.id and binding.card_id == card_id:
                return binding.card_hint
        return bindings.hint_of(self.tx, row.id, card_id)

    def former_binding(self, row: SaleRow, customer_hash: str) -> Binding | None:
        """Return the card of a sale's former customer: a binding is permanent."""
        for binding in self._changes.bindings:
            if binding.sale_id == row.id and binding.customer_hash == customer_hash:
                return binding
        return bindings.find(self.tx, row.id, customer_hash)

    def write_line(self, row: SaleRow, message: Message) -> None:
        """Add a line to the journal about this sale."""
        self._changes.lines.append(NewLine(row.connection_id, message, row.receipt_id, row.id))

    # Writing

    def flush(self) -> None:
        """Write everything down, each table by its own module.

        The order matters where one statement reads what another writes: totals of what was applied are moved by the
        rows of operations as they were before; rows of the database are moved before new ones are inserted, which have
        their connection already; and a sale is there before what refers to it.
        """
        tx, changes = self.tx, self._changes
        self._move_receipt_counts()
        sales.insert(tx, [self.rows[sale_id] for sale_id in sorted(changes.new_sales)])
        sales.update(tx, [self.rows[sale_id] for sale_id in sorted(changes.changed_sales)])
        sales.insert_versions(tx, changes.versions)
        bindings.record(tx, changes.bindings)
        operations.cancel(tx, changes.cancelled)
        operations.release_to_cards(tx, changes.releases)
        operations.assign_cards(tx, changes.assigned_cards)
        operations.set_flags(tx, changes.flags)
        self._flush_moves()
        operations.insert(tx, list(changes.operations.values()))
        card_searches.replace(tx, changes.searches)
        journal.write_lines(tx, changes.lines)

    def _move_receipt_counts(self) -> None:
        """Take receipts out of the day for which they were counted, and count them where they now belong."""
        receipts: Counter[tuple[str, str]] = Counter()
        for sale_id in self._changes.new_sales | self._changes.changed_sales:
            before, after = self._counted.get(sale_id), self.rows[sale_id].counted
            if before != after:
                receipts.update([after] if after else [])
                receipts.subtract([before] if before else [])
                self._counted[sale_id] = after
        daily_totals.add(self.tx, {day: DayTotals(receipts=number) for day, number in receipts.items()})

    def _flush_moves(self) -> None:
        if self._changes.moves:
            joined = {sale_id: move.joins for sale_id, move in self._changes.moves.items()}
            daily_totals.move(self.tx, self._changes.moves)
            operations.move(self.tx, joined)
            card_searches.move(self.tx, joined)
