"""TODO docstring."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from sqlalchemy import bindparam, func, select

from connector_sdk.messages import Message
from connector_sdk.sale import Customer, Sale
from connectors.domain.events import Wakeup
from connectors.domain.operation import Kind, State
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.operations import ASSIGN_CARD, CANCEL, OF_SALES, RELEASE_TO_CARD, PlannedRow
from connectors.store.ledger.sales import LOCKED_SALES, MOST_IDS, UPDATE_SALE, SaleRow
from connectors.store.schema import (
    binding_table,
    identify_table,
    operation_table,
    sale_table,
    sale_version_table,
)


@dataclass(slots=True)
class SaleBatch:
    """Some sales of the ledger, in one transaction; nothing is written before `flush`."""

    tx: Transaction
    rows: dict[str, SaleRow] = field(default_factory=dict)
    operations: defaultdict[str, list[PlannedRow]] = field(default_factory=lambda: defaultdict(list))
    _new: set[str] = field(default_factory=set)
    _changed: set[str] = field(default_factory=set)
    _versions: list[dict[str, object]] = field(default_factory=list)
    _operations: list[dict[str, object]] = field(default_factory=list)
    _cancelled: list[str] = field(default_factory=list)
    _adopted: list[dict[str, object]] = field(default_factory=list)
    _identify: dict[str, dict[str, object] | None] = field(default_factory=dict)
    _bindings: list[dict[str, object]] = field(default_factory=list)
    _moved: dict[str, tuple[str, str]] = field(default_factory=dict)
    _assigned: list[dict[str, object]] = field(default_factory=list)
    _journal: list[dict[str, object]] = field(default_factory=list)
    _counted: dict[str, tuple[str, str] | None] = field(default_factory=dict)

    @classmethod
    def load(cls, tx: Transaction, ids: Iterable[str]) -> SaleBatch:
        """The page of these sales; ids that are not in the ledger are simply not in `rows`."""
        page = cls(tx)
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), MOST_IDS):
            some = wanted[start : start + MOST_IDS]
            for row in tx.run(LOCKED_SALES, {"ids": some}):
                page.rows[row.id] = SaleRow(**row._mapping)
                page._counted[row.id] = page.rows[row.id].counted
            known = [one for one in some if one in page.rows]
            if known:
                for row in tx.run(OF_SALES, {"ids": known}):
                    values = tuple(row)[1:]
                    page.operations[row.sale_id].append(PlannedRow(*values))
        return page

    def oldest_first(self) -> list[SaleRow]:
        """The sales in the order in which they were closed: so their operations are planned, and so delivered."""
        return sorted(self.rows.values(), key=lambda row: (row.closed_at or 0, row.receipt_id))

    def add(self, row: SaleRow) -> None:
        self.rows[row.id] = row
        self._new.add(row.id)

    def changed(self, row: SaleRow) -> None:
        row.changed_at = self.tx.now
        if row.id not in self._new:
            self._changed.add(row.id)

    def add_version(self, row: SaleRow, content: Sale, ticket: int | None, source: str, seen_at: int) -> None:
        self._versions.append(
            {
                "sale_id": row.id,
                "number": row.versions,
                "version": content.version,
                "ticket": ticket,
                "digest": row.digest,
                "source": source,
                "seen_at": seen_at,
                "stamps_by_plugin": row.stamps_by_plugin,
                "content": self.tx.vault.encrypt(content.model_dump_json()),
            }
        )

    def remember_seen(self, row: SaleRow, *, sale: Sale, digest: str, at: int) -> bool:
        """Keep a state that came too late to count, below all versions; whether it was not seen before."""
        if self.seen_before(row, digest):
            return False
        lowest = select(func.min(sale_version_table.c.number)).where(sale_version_table.c.sale_id == row.id)
        number = min(self.tx.run(lowest).scalar() or 0, 0) - 1
        seen = {
            "sale_id": row.id,
            "number": number,
            "version": sale.version,
            "ticket": None,
            "digest": digest,
            "source": "push",
            "seen_at": at,
            "stamps_by_plugin": None,
            "content": self.tx.vault.encrypt(sale.model_dump_json()),
        }
        self.tx.run(sale_version_table.insert(), [seen])
        return True

    def seen_before(self, row: SaleRow, wanted: str, *, but_not_at: int | None = None) -> bool:
        """Whether some version of this sale had that content; not counting what arrived at one moment."""
        mine = [sale_version_table.c.sale_id == row.id, sale_version_table.c.digest == wanted]
        if but_not_at is not None:
            mine.append(sale_version_table.c.seen_at != but_not_at)
        found = self.tx.run(select(sale_version_table.c.number).where(*mine))
        return found.first() is not None or any(
            v["sale_id"] == row.id and v["digest"] == wanted and v["seen_at"] != but_not_at for v in self._versions
        )

    def seen_at(self, row: SaleRow) -> int:
        """When the newest version of this sale arrived."""
        for version in reversed(self._versions):
            if version["sale_id"] == row.id and isinstance(at := version["seen_at"], int):
                return at
        newest = select(sale_version_table.c.seen_at).where(
            sale_version_table.c.sale_id == row.id, sale_version_table.c.number == row.versions
        )
        found: int | None = self.tx.run(newest).scalar()
        return found or 0

    def voucher_lane(self, row: SaleRow, redeem_code: str) -> str:
        """The lane of a voucher, by which a redeem code is looked up: the code itself is kept encrypted."""
        return f"voucher:{self.tx.vault.hash('redeem code', row.business_id, redeem_code)}"

    def plan_operation(
        self,
        row: SaleRow,
        kind: Kind,
        *,
        count: int,
        card_id: str | None,
        card_hint: str | None,
        body: dict[str, object],
        day: str,
        redeem_code: str | None = None,
        hold: str | None = None,
        reason: Message | None = None,
        expires_at: int | None = None,
    ) -> PlannedRow:
        """Plan the sale's next operation; `body` is the request but for its code, which is made here."""
        n = row.next_n
        row.next_n += 1
        code = f"{row.code}:{n}"
        lane = self.voucher_lane(row, redeem_code) if redeem_code else f"card:{card_id}" if card_id else row.nobody
        state = State.held if hold else State.pending
        planned = PlannedRow(f"{row.id[:14]}-{n}", n, kind, card_id, count, state, hold, lane)
        self.operations[row.id].append(planned)
        self._operations.append(
            {
                "id": planned.id,
                "sale_id": row.id,
                "n": n,
                "connection_id": row.connection_id,
                "business_id": row.business_id,
                "receipt_id": row.receipt_id,
                "lane": lane,
                "card_id": card_id,
                "card_hint": card_hint,
                "kind": kind.value,
                "count": count,
                "redeem_code": self.tx.vault.encrypt(redeem_code) if redeem_code else None,
                "code": code,
                "key": code,
                "attempt": 1,
                "request": json.dumps({**body, "code": code}, separators=(",", ":")),
                "state": state.value,
                "hold": hold,
                "reason": reason.stored() if reason else None,
                "waived": 0,
                "next_at": self.tx.now,
                "expires_at": expires_at,
                "sent_at": None,
                "tries": 0,
                "conflicted": 0,
                "day": day,
                "created_at": self.tx.now,
                "updated_at": self.tx.now,
            }
        )
        if state is State.pending:
            self.tx.wakeups.add(Wakeup.deliver)
        return planned

    def cancel(self, row: SaleRow, ids: Iterable[str]) -> None:
        wanted = set(ids)
        for planned in self.operations[row.id]:
            if planned.id in wanted:
                planned.state = State.cancelled
        fresh = {str(values["id"]): values for values in self._operations}
        for one in wanted:
            if one in fresh:
                fresh[one].update(state=State.cancelled.value, hold=None, reason=None)
            else:
                self._cancelled.append(one)

    def adopt(self, row: SaleRow, planned: PlannedRow, card_id: str, card_hint: str) -> None:
        """Give a held operation its card and let it go; one refused before goes out under a new key."""
        again = planned.card_id is not None
        planned.card_id, planned.state, planned.hold = card_id, State.pending, None
        self._adopted.append(
            {
                "id_": planned.id,
                "card_id_": card_id,
                "card_hint_": card_hint,
                "lane_": f"card:{card_id}",
                "again": int(again),
                "now": self.tx.now,
            }
        )
        self.tx.wakeups.add(Wakeup.deliver)

    def assign(self, planned: PlannedRow, card_id: str) -> None:
        """An operation that ended without a card counts as this card's: it is not planned again for it."""
        planned.card_id = card_id
        self._assigned.append({"id_": planned.id, "card_id_": card_id})

    def move(self, row: SaleRow, connection_id: str) -> None:
        """Another connection has the sale's location now: it takes over what is still to be done."""
        self._moved[row.id] = (self._moved[row.id][0] if row.id in self._moved else row.connection_id, connection_id)
        row.connection_id = connection_id

    def identify_later(self, row: SaleRow, who: Customer, at: int) -> None:
        """Leave the work of finding out whose card it is; what a person has said is not found out again."""
        if row.claimed or row.anonymous:
            return
        self._identify[row.id] = {
            "sale_id": row.id,
            "connection_id": row.connection_id,
            "customer_hash": row.customer_hash,
            "customer": self.tx.vault.encrypt(who.model_dump_json(exclude_none=True)),
            "next_at": at,
            "attempts": 0,
            "expires_at": None,
            "created_at": self.tx.now,
        }
        self.tx.wakeups.add(Wakeup.identify)

    def identified(self, row: SaleRow) -> None:
        """Nothing is left to find out."""
        self._identify[row.id] = None

    def remember_binding(self, row: SaleRow) -> None:
        """Keep whose the sale was before another customer is named."""
        if row.bound_hash and row.card_id:
            self._bindings.append(
                {
                    "sale_id": row.id,
                    "customer_hash": row.bound_hash,
                    "card_id": row.card_id,
                    "card_hint": row.card_hint or "",
                }
            )

    def former_binding(self, row: SaleRow, customer_hash: str) -> tuple[str, str] | None:
        """The card this sale was bound to when it named that customer before: a binding is permanent."""
        for kept in self._bindings:
            if kept["sale_id"] == row.id and kept["customer_hash"] == customer_hash:
                return str(kept["card_id"]), str(kept["card_hint"])
        found = self.tx.run(
            select(binding_table.c.card_id, binding_table.c.card_hint).where(
                binding_table.c.sale_id == row.id, binding_table.c.customer_hash == customer_hash
            )
        ).first()
        return (found.card_id, found.card_hint) if found else None

    def note(self, row: SaleRow, message: Message) -> None:
        """A line of the journal about this sale."""
        self._journal.append(
            {
                "connection_id": row.connection_id,
                "sale_id": row.id,
                "receipt_id": row.receipt_id,
                "at": self.tx.now,
                "message": ledger.journal.stored_message(self.tx, message),
                "by": self.tx.by,
            }
        )

    def _tally(self) -> None:
        """Count receipts where they now belong."""
        change: Counter[tuple[str, str]] = Counter()
        for one in self._new | self._changed:
            before, after = self._counted.get(one), self.rows[one].counted
            if before != after:
                change.update([after] if after else [])
                change.subtract([before] if before else [])
                self._counted[one] = after
        ledger.daily_totals.add(
            self.tx, {where: ledger.daily_totals.DayTotals(receipts=number) for where, number in change.items()}
        )

    def flush(self) -> None:
        """Write everything down."""
        tx = self.tx
        self._tally()
        if self._new:
            tx.run(sale_table.insert(), [asdict(self.rows[one]) for one in sorted(self._new)])
        if self._changed:
            updates = [asdict(self.rows[one]) for one in sorted(self._changed)]
            tx.run(UPDATE_SALE, [{**values, "id_": values.pop("id")} for values in updates])
        if self._versions:
            tx.run(sale_version_table.insert(), self._versions)
        if self._bindings:
            tx.run(tx.insert(binding_table).on_conflict_do_nothing(), self._bindings)
        if self._cancelled:
            tx.run(CANCEL, [{"id_": one, "now": tx.now} for one in self._cancelled])
        if self._adopted:
            tx.run(RELEASE_TO_CARD, self._adopted)
        if self._assigned:
            tx.run(ASSIGN_CARD, self._assigned)
        if self._moved:
            ledger.daily_totals.move(tx, self._moved)
        for table in (operation_table, identify_table):
            if self._moved:
                tx.run(
                    table.update()
                    .where(table.c.sale_id == bindparam("id_"))
                    .values(connection_id=bindparam("connection_id_")),
                    [{"id_": one, "connection_id_": other} for one, (_, other) in self._moved.items()],
                )
        if self._operations:
            tx.run(operation_table.insert(), self._operations)
        if self._identify:
            tx.run(
                identify_table.delete().where(identify_table.c.sale_id == bindparam("id_")),
                [{"id_": one} for one in self._identify],
            )
            work = [values for values in self._identify.values() if values is not None]
            if work:
                tx.run(identify_table.insert(), work)
        if self._journal:
            ledger.journal.insert_lines(tx, self._journal)
