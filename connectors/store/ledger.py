"""The ledger: sales, their versions and bindings, and the operations planned for them.

Owns `Page`, the part of the ledger one transaction works on: loaded with a few queries, changed in memory under
the write lock, written back with a few more, however many sales it holds. What to change is `connectors.sync`'s.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sqlalchemy import Text, bindparam, case, cast, func, or_, select, text

from connector_sdk.messages import Message
from connector_sdk.sale import Customer, Sale, SaleStatus
from connectors.domain.operation import MOVABLE, UNSETTLED, Kind, Planned, State
from connectors.domain.person import MASKED_CARD
from connectors.store import cards, journal, tallies
from connectors.store.engine import Transaction
from connectors.store.schema import (
    binding_table,
    counter_table,
    identify_table,
    operation_table,
    sale_table,
    sale_version_table,
)

_IN = 400  # ids a query, below SQLite's oldest bound of variables


@dataclass(slots=True)
class SaleRow:
    """A sale as the ledger has it; amounts in minor units, times in UTC microseconds."""

    id: str
    business_id: str
    connector: str
    account_id: str
    receipt_id: str
    connection_id: str
    version: int | None
    ticket: int
    digest: str
    versions: int
    status: str
    closed_at: int | None
    paid: int
    refunded: int
    currency: str
    location_id: str | None
    admitted: int
    rule_of: str | None
    rule_number: int | None
    pinned: int
    stamps: int
    stamps_by_plugin: int | None
    customer_hash: str | None
    bound_hash: str | None
    card_id: str | None
    card_hint: str | None
    wait: str | None
    next_n: int
    changed_at: int
    day: str | None = None
    claimed: int = 0
    anonymous: int = 0
    """Whose it is was erased: what a till says of a customer is dropped, and the card keeps what it has."""

    @property
    def counted(self) -> tuple[str, str] | None:
        """The connection and the venue's day for which this receipt counts; `None` where it does not (any more)."""
        counts = self.admitted and self.status == SaleStatus.closed and self.day
        return (self.connection_id, self.day) if counts and self.day else None

    @property
    def code(self) -> str:
        """The receipt's reference at 7stamp, to which an operation adds its number."""
        return f"{self.connector}:{self.account_id}:{self.receipt_id}"

    @property
    def nobody(self) -> str:
        """The lane of what waits for this customer to have a card."""
        return f"nobody:{self.id}:{self.customer_hash}"

    @property
    def identified(self) -> bool:
        """Whether it is settled whose this version is (a card, or surely nobody's)."""
        return self.customer_hash is not None and self.bound_hash == self.customer_hash


@dataclass(slots=True)
class OperationRow:
    """An operation as planning needs it."""

    id: str
    n: int
    kind: str
    card_id: str | None
    count: int
    state: str
    hold: str | None
    lane: str

    @property
    def owner(self) -> str:
        """Whose the stamps are: a card, or a customer who has none yet."""
        return self.card_id or self.lane

    def planned(self) -> Planned:
        signed = {Kind.stamps_added: self.count, Kind.stamps_reversed: -self.count}.get(Kind(self.kind), 0)
        return Planned(self.id, self.n, self.card_id, signed, State(self.state))


def sale_id(tx: Transaction, business_id: str, connector: str, account_id: str, receipt_id: str) -> str:
    """The same id for the same receipt, whoever sees it first."""
    return tx.vault.hash("sale", business_id, connector, account_id, receipt_id)


def digest(tx: Transaction, content: Sale) -> str:
    """What two snapshots share when they say the same."""
    return tx.vault.hash("digest", content.model_dump_json())


_SALES = select(sale_table).where(sale_table.c.id.in_(bindparam("ids", expanding=True))).with_for_update()
_DIGESTS = select(sale_table.c.id, sale_table.c.digest, sale_table.c.anonymous).where(
    sale_table.c.id.in_(bindparam("ids", expanding=True))
)
_OPERATIONS = (
    select(
        operation_table.c.sale_id,
        operation_table.c.id,
        operation_table.c.n,
        operation_table.c.kind,
        operation_table.c.card_id,
        operation_table.c.count,
        operation_table.c.state,
        operation_table.c.hold,
        operation_table.c.lane,
    )
    .where(operation_table.c.sale_id.in_(bindparam("ids", expanding=True)))
    .order_by(operation_table.c.sale_id, operation_table.c.n)
    .with_for_update()
)
_UPDATE_SALE = (
    sale_table.update()
    .where(sale_table.c.id == bindparam("id_"))
    .values({column.name: bindparam(column.name) for column in sale_table.c if column.name != "id"})
)
_CANCEL = (
    operation_table.update()
    .where(
        operation_table.c.id == bindparam("id_"), or_(*(operation_table.c.state == state for state in sorted(MOVABLE)))
    )
    .values(state=State.cancelled, hold=None, reason=None, updated_at=bindparam("now"))
)
_ADOPT = (
    operation_table.update()
    .where(operation_table.c.id == bindparam("id_"), operation_table.c.state == State.held)
    .values(
        state=State.pending,
        hold=None,
        reason=None,
        expires_at=None,
        card_id=bindparam("card_id_"),
        card_hint=bindparam("card_hint_"),
        lane=bindparam("lane_"),
        attempt=operation_table.c.attempt + bindparam("again"),
        key=case(
            (bindparam("again") == 1, operation_table.c.code + "." + cast(operation_table.c.attempt + 1, Text)),
            else_=operation_table.c.key,
        ),
        next_at=bindparam("now"),
        updated_at=bindparam("now"),
    )
)


_ASSIGN = operation_table.update().where(operation_table.c.id == bindparam("id_")).values(card_id=bindparam("card_id_"))


def digests(tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Sale id → digest of what is stored, and whether its customer is erased, for those that are."""
    found: dict[str, tuple[str, bool]] = {}
    for start in range(0, len(ids), _IN):
        rows = tx.run(_DIGESTS, {"ids": list(ids[start : start + _IN])})
        found.update({row.id: (row.digest, bool(row.anonymous)) for row in rows})
    return found


@dataclass(slots=True)
class Page:
    """Some sales of the ledger, in one transaction; nothing is written before `flush`."""

    tx: Transaction
    rows: dict[str, SaleRow] = field(default_factory=dict)
    operations: defaultdict[str, list[OperationRow]] = field(default_factory=lambda: defaultdict(list))
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
    def load(cls, tx: Transaction, ids: Iterable[str]) -> Page:
        """The page of these sales; ids that are not in the ledger are simply not in `rows`."""
        page = cls(tx)
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _IN):
            some = wanted[start : start + _IN]
            for row in tx.run(_SALES, {"ids": some}):
                page.rows[row.id] = SaleRow(**row._mapping)
                page._counted[row.id] = page.rows[row.id].counted
            known = [one for one in some if one in page.rows]
            if known:
                for row in tx.run(_OPERATIONS, {"ids": known}):
                    values = tuple(row)[1:]
                    page.operations[row.sale_id].append(OperationRow(*values))
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
    ) -> OperationRow:
        """Plan the sale's next operation; `body` is the request but for its code, which is made here."""
        n = row.next_n
        row.next_n += 1
        code = f"{row.code}:{n}"
        lane = self.voucher_lane(row, redeem_code) if redeem_code else f"card:{card_id}" if card_id else row.nobody
        state = State.held if hold else State.pending
        planned = OperationRow(f"{row.id[:14]}-{n}", n, kind, card_id, count, state, hold, lane)
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
            self.tx.wake.add("deliver")
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

    def adopt(self, row: SaleRow, planned: OperationRow, card_id: str, card_hint: str) -> None:
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
        self.tx.wake.add("deliver")

    def assign(self, planned: OperationRow, card_id: str) -> None:
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
        self.tx.wake.add("identify")

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
                "message": journal.stored(self.tx, message),
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
        tallies.add(self.tx, {where: tallies.Tally(receipts=number) for where, number in change.items()})

    def flush(self) -> None:
        """Write everything down."""
        tx = self.tx
        self._tally()
        if self._new:
            tx.run(sale_table.insert(), [asdict(self.rows[one]) for one in sorted(self._new)])
        if self._changed:
            updates = [asdict(self.rows[one]) for one in sorted(self._changed)]
            tx.run(_UPDATE_SALE, [{**values, "id_": values.pop("id")} for values in updates])
        if self._versions:
            tx.run(sale_version_table.insert(), self._versions)
        if self._bindings:
            tx.run(tx.insert(binding_table).on_conflict_do_nothing(), self._bindings)
        if self._cancelled:
            tx.run(_CANCEL, [{"id_": one, "now": tx.now} for one in self._cancelled])
        if self._adopted:
            tx.run(_ADOPT, self._adopted)
        if self._assigned:
            tx.run(_ASSIGN, self._assigned)
        if self._moved:
            tallies.move(tx, self._moved)
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
            journal.insert_lines(tx, self._journal)


def tickets(tx: Transaction, count: int) -> int:
    """The first of `count` tickets, each greater than any issued before: the order of reads."""
    value = tx.run(
        counter_table.update()
        .where(counter_table.c.name == "ticket")
        .values(value=counter_table.c.value + count)
        .returning(counter_table.c.value)
    ).scalar_one_or_none()
    if value is None:
        tx.run(counter_table.insert(), [{"name": "ticket", "value": count}])
        value = count
    return int(value) - count + 1


def count_up(tx: Transaction, name: str, by: int = 1) -> None:
    """Raise a counter, made where there is none."""
    if (
        tx.run(
            counter_table.update().where(counter_table.c.name == name).values(value=counter_table.c.value + by)
        ).rowcount
        == 0
    ):
        tx.run(counter_table.insert(), [{"name": name, "value": by}])


def set_counters(tx: Transaction, values: Mapping[str, int]) -> None:
    """Give counters these values, whatever they were."""
    tx.run(counter_table.delete().where(counter_table.c.name.in_(sorted(values))))
    tx.run(counter_table.insert(), [{"name": name, "value": value} for name, value in values.items()])


def counters(tx: Transaction) -> dict[str, int]:
    return {row.name: row.value for row in tx.run(select(counter_table))}


def content(tx: Transaction, row: SaleRow) -> Sale:
    """The sale's last version, as the till told it."""
    kept = tx.run(
        select(sale_version_table.c.content).where(
            sale_version_table.c.sale_id == row.id, sale_version_table.c.number == row.versions
        )
    ).scalar_one()
    return Sale.model_validate_json(tx.vault.decrypt(kept))


def newest(tx: Transaction, connection_id: str, limit: int = 100) -> list[Sale]:
    """The newest closed sales of a connection, as the till last told them."""
    rows = tx.run(
        select(sale_version_table.c.content)
        .join(
            sale_table,
            (sale_table.c.id == sale_version_table.c.sale_id) & (sale_table.c.versions == sale_version_table.c.number),
        )
        .where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at.is_not(None))
        .order_by(sale_table.c.closed_at.desc())
        .limit(limit)
    )
    return [Sale.model_validate_json(tx.vault.decrypt(row.content)) for row in rows]


def sales_closed_since(tx: Transaction, connection_id: str, since: int) -> list[str]:
    """Ids of the sales of a connection closed at or after `since`, oldest first."""
    return list(
        tx.run(
            select(sale_table.c.id)
            .where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at >= since)
            .order_by(sale_table.c.closed_at)
        ).scalars()
    )


def unsettled(tx: Transaction, connection_id: str) -> int:
    """How many operations of a connection are still to be settled."""
    return int(
        tx.run(
            select(func.count())
            .select_from(operation_table)
            .where(operation_table.c.connection_id == connection_id, operation_table.c.state.in_(sorted(UNSETTLED)))
        ).scalar_one()
    )


def stamps_earned(tx: Transaction, connection_id: str) -> int:
    """What the receipts of a connection that are bound to a card come to."""
    return int(
        tx.run(
            select(func.coalesce(func.sum(sale_table.c.stamps), 0)).where(
                sale_table.c.connection_id == connection_id,
                sale_table.c.admitted == 1,
                sale_table.c.customer_hash.is_not(None),
                sale_table.c.customer_hash == sale_table.c.bound_hash,
                sale_table.c.card_id.is_not(None),
            )
        ).scalar_one()
    )


# --- erasing customers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stored version of a sale, as far as it names a customer; `of_sale` is the hash by which the sale is somebody's.

    `account` is the till account that its customer's own id belongs to: connector and account id.
    """

    sale_id: str
    number: int
    account: tuple[str, str]
    of_sale: str | None
    customer: Customer


def ids_of_business(tx: Transaction, business_id: str) -> list[str]:
    """The ids of all sales of a business, of removed connections too."""
    return list(tx.run(select(sale_table.c.id).where(sale_table.c.business_id == business_id)).scalars())


def snapshots_with_customers(tx: Transaction, ids: Sequence[str]) -> list[Snapshot]:
    """Every version of these sales that names a customer."""
    rows = tx.run(
        select(
            sale_version_table.c.sale_id,
            sale_version_table.c.number,
            sale_version_table.c.content,
            sale_table.c.connector,
            sale_table.c.account_id,
            sale_table.c.customer_hash,
        )
        .join(sale_table, sale_table.c.id == sale_version_table.c.sale_id)
        .where(sale_version_table.c.sale_id.in_(ids))
    )
    contents = ((row, json.loads(tx.vault.decrypt(row.content)).get("customer")) for row in rows)
    return [
        Snapshot(
            row.sale_id,
            row.number,
            (row.connector, row.account_id),
            row.customer_hash,
            Customer.model_validate(customer),
        )
        for row, customer in contents
        if customer
    ]


@dataclass(frozen=True, slots=True)
class Bound:
    """A customer whose card a sale is (or was) bound to."""

    sale_id: str
    customer_hash: str
    card_id: str
    card_hint: str


def bound(tx: Transaction, business_id: str, hashes: Collection[str], card_ids: Collection[str]) -> list[Bound]:
    """The sales of a business that are, or were, bound to one of these customers or cards."""
    found: list[Bound] = []
    for column, wanted in (("customer", hashes), ("card", card_ids)):
        values = sorted(wanted)
        for start in range(0, len(values), _IN):
            some = values[start : start + _IN]
            now = (sale_table.c.bound_hash if column == "customer" else sale_table.c.card_id).in_(some)
            before = (binding_table.c.customer_hash if column == "customer" else binding_table.c.card_id).in_(some)
            rows = [
                *tx.run(
                    select(
                        sale_table.c.id, sale_table.c.bound_hash, sale_table.c.card_id, sale_table.c.card_hint
                    ).where(
                        sale_table.c.business_id == business_id,
                        now,
                        sale_table.c.bound_hash.is_not(None),
                        sale_table.c.card_id.is_not(None),
                    )
                ),
                *tx.run(
                    select(
                        binding_table.c.sale_id,
                        binding_table.c.customer_hash,
                        binding_table.c.card_id,
                        binding_table.c.card_hint,
                    )
                    .join(sale_table, sale_table.c.id == binding_table.c.sale_id)
                    .where(sale_table.c.business_id == business_id, before)
                ),
            ]
            found += [Bound(one, customer, card, hint or "") for one, customer, card, hint in map(tuple, rows)]
    return found


def named(tx: Transaction, business_id: str, hashes: Collection[str]) -> list[str]:
    """The ids of a business' sales whose newest version names one of these customers."""
    values, found = sorted(hashes), list[str]()
    for start in range(0, len(values), _IN):
        some = sale_table.c.customer_hash.in_(values[start : start + _IN])
        found += tx.run(select(sale_table.c.id).where(sale_table.c.business_id == business_id, some)).scalars()
    return found


def old_personal(tx: Transaction, before: int, limit: int) -> list[str]:
    """The oldest sales of before a moment whose customers are not erased yet and that have nothing left to do.

    Of before: closed then, or never closed and last changed then.
    """
    open_ = select(operation_table.c.id).where(
        operation_table.c.sale_id == sale_table.c.id, operation_table.c.state.in_(sorted(UNSETTLED))
    )
    waits = select(identify_table.c.sale_id).where(identify_table.c.sale_id == sale_table.c.id)
    return list(
        tx.run(
            select(sale_table.c.id)
            .where(
                text("sale.anonymous = 0"),
                or_(
                    sale_table.c.closed_at < before,
                    sale_table.c.closed_at.is_(None) & (sale_table.c.changed_at < before),
                ),
                ~open_.correlate(sale_table).exists(),
                ~waits.correlate(sale_table).exists(),
            )
            .order_by(sale_table.c.closed_at)
            .limit(limit)
        ).scalars()
    )


def opaque_customer(tx: Transaction, sale_id: str) -> str:
    """What stands in place of a customer's hash once the customer is erased: says only that there was one."""
    return tx.vault.hash("erased customer", sale_id)


def erase_customers(tx: Transaction, ids: Sequence[str], hashes: Collection[str] | None) -> None:
    """Take customers out of some sales: these customers, or all (`None`). What the sales earn, and whose card, stays.

    A snapshot without its customer has another digest: what the till says again must be stripped the same way before
    it is compared, which ingest does for sales that are anonymous and for customers who are marked as forgotten.
    """
    digests_now = _erase_from_versions(tx, ids, hashes)
    rows = [SaleRow(**row._mapping) for row in tx.run(_SALES, {"ids": list(ids)})]
    for row in rows:
        values: dict[str, object] = {}
        if (row.id, row.versions) in digests_now:
            values["digest"] = digests_now[row.id, row.versions]
        values |= _erased(tx, row, hashes)
        if values:
            tx.run(sale_table.update().where(sale_table.c.id == row.id).values(values))
    former = binding_table.delete().where(binding_table.c.sale_id.in_(ids))
    if hashes is not None:
        former = former.where(binding_table.c.customer_hash.in_(sorted(hashes)))
    tx.run(former)


def _erase_from_versions(
    tx: Transaction, ids: Sequence[str], hashes: Collection[str] | None
) -> dict[tuple[str, int], str]:
    """(sale id, version) → its digest without the customer, for each that named one to erase."""
    rows = tx.run(
        select(
            sale_version_table.c.sale_id,
            sale_version_table.c.number,
            sale_version_table.c.content,
            sale_table.c.connector,
            sale_table.c.account_id,
        )
        .join(sale_table, sale_table.c.id == sale_version_table.c.sale_id)
        .where(sale_version_table.c.sale_id.in_(ids))
    ).all()
    changed: dict[tuple[str, int], str] = {}
    for row in rows:
        content = Sale.model_validate_json(tx.vault.decrypt(row.content))
        if content.customer is None:
            continue
        if (
            hashes is not None
            and cards.customer_hash(tx, row.connector, row.account_id, content.customer) not in hashes
        ):
            continue
        stripped = content.model_copy(update={"customer": None})
        changed[row.sale_id, row.number] = digest(tx, stripped)
        tx.run(
            sale_version_table.update()
            .where(sale_version_table.c.sale_id == row.sale_id, sale_version_table.c.number == row.number)
            .values(digest=changed[row.sale_id, row.number], content=tx.vault.encrypt(stripped.model_dump_json()))
        )
    return changed


def _erased(tx: Transaction, row: SaleRow, hashes: Collection[str] | None) -> dict[str, object]:
    """The columns of a sale that change when these customers (or whoever it is) are erased."""

    def erase(customer: str | None) -> bool:
        return customer is not None and (hashes is None or customer in hashes)

    opaque = opaque_customer(tx, row.id)
    values: dict[str, object] = {}
    if hashes is None or erase(row.customer_hash):
        values["anonymous"] = 1
    if erase(row.bound_hash) and row.card_id is not None:
        # the card stays the sale's: a refund takes back what that card was given
        values |= {"bound_hash": opaque, "card_hint": MASKED_CARD}
        if erase(row.customer_hash):
            values |= {"customer_hash": opaque, "wait": None}
    elif erase(row.customer_hash):
        values["customer_hash"] = None
        if row.card_id is None:
            values |= {"bound_hash": None, "wait": None}
    return values
