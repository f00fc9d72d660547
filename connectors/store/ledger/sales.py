"""Sales as the ledger has them, and every version of each.

Owns the tables `sale` and `sale_version`; what a snapshot changes is decided by `connectors.sync.ingest`, and many
sales are changed at once through `batch`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, text, true

from connector_sdk.sale import Customer, Sale, SaleStatus
from connectors.domain.operation import UNSETTLED
from connectors.domain.person import MASKED_CARD
from connectors.store.engine import Transaction
from connectors.store.ledger import bindings, cards
from connectors.store.ledger.bindings import Binding
from connectors.store.query_parts import in_parts
from connectors.store.schema import binding_table, identify_table, operation_table, sale_table, sale_version_table


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
    """The till's own revision of the newest snapshot, where it has one."""
    ticket: int
    """The largest ticket of the reads that counted; a push leaves it."""
    digest: str
    versions: int
    """How many versions are stored; the newest has this number."""
    status: str
    closed_at: int | None
    paid: int
    refunded: int
    currency: str
    location_id: str | None
    admitted: int
    """Whether it earns stamps: closed after the connection began, or backfilled. Once admitted, it stays so."""
    rule_of: str | None
    """The connection whose rules plan it: the one that had its location when it was closed."""
    rule_number: int | None
    pinned: int
    """Whether `replan` chose its rule, in place of the one in force when it was closed."""
    stamps: int
    stamps_by_plugin: int | None
    customer_hash: str | None
    """The customer that its newest version names."""
    bound_hash: str | None
    """The customer of whom it is settled which card they have, or that they have none."""
    card_id: str | None
    card_hint: str | None
    wait: str | None
    """Why it has no card though it is settled whose it is: a reason to hold, or `skip`."""
    next_n: int
    """The number of its next operation."""
    changed_at: int
    day: str | None = None
    """The venue's calendar day on which it was closed."""
    claimed: int = 0
    """Whether a person said whose it is: no till's snapshot undoes that."""
    anonymous: int = 0
    """Whether its customer was erased: what a till says of a customer is dropped, and the card keeps what it has."""

    @property
    def counted(self) -> tuple[str, str] | None:
        """The (connection id, venue's day) for which this receipt counts; `None` where it does not (any more)."""
        # refunded receipts count too: they were visits
        counts = self.admitted and self.status == SaleStatus.closed and self.day
        return (self.connection_id, self.day) if counts and self.day else None

    @property
    def code(self) -> str:
        """The receipt's reference at 7stamp, to which an operation adds its number."""
        return f"{self.connector}:{self.account_id}:{self.receipt_id}"

    @property
    def cardless_lane(self) -> str:
        """The lane of what waits for this customer to have a card."""
        return cardless_lane(self.id, self.customer_hash)

    @property
    def identified(self) -> bool:
        """Whether it is settled whose this version is: a card's, or surely nobody's."""
        return self.customer_hash is not None and self.bound_hash == self.customer_hash


def cardless_lane(sale_id: str, customer_hash: str | None) -> str:
    """Name the lane of the operations of a sale whose customer has no card yet."""
    return f"nobody:{sale_id}:{customer_hash}"


def sale_id_of(tx: Transaction, business_id: str, connector: str, account_id: str, receipt_id: str) -> str:
    """Return the id of a receipt: the same whoever sees it first, and by whichever connection."""
    return tx.vault.hash("sale", business_id, connector, account_id, receipt_id)


def digest_of(tx: Transaction, sale: Sale) -> str:
    """Hash a snapshot's content: two that say the same have the same digest."""
    return tx.vault.hash("digest", sale.model_dump_json())


# Reading

# FOR UPDATE is dropped by SQLite, where a writing transaction has the database to itself
# in the order of their ids: two transactions that lock the same sales do not wait for each other in turn
_LOCKED_SALES = (
    select(sale_table)
    .where(sale_table.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(sale_table.c.id)
    .with_for_update()
)
_DIGESTS = select(
    sale_table.c.id, sale_table.c.digest, sale_table.c.anonymous, sale_table.c.admitted, sale_table.c.closed_at
).where(sale_table.c.id.in_(bindparam("ids", expanding=True)))


class StoredDigest(NamedTuple):
    """The digest of a sale's newest version, whether its customer is erased, and whether history would admit it."""

    digest: str
    is_anonymous: bool
    could_be_admitted: bool


def digests_of(tx: Transaction, ids: Sequence[str]) -> dict[str, StoredDigest]:
    """Map sale id to its stored digest, for those that are in the ledger."""
    return {
        row.id: StoredDigest(row.digest, bool(row.anonymous), not row.admitted and row.closed_at is not None)
        for part in in_parts(ids)
        for row in tx.run(_DIGESTS, {"ids": list(part)})
    }


def connections_of(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    """Map sale id to the connection that has it, for those that are in the ledger."""
    found: dict[str, str] = {}
    for part in in_parts(ids):
        query = select(sale_table.c.id, sale_table.c.connection_id).where(sale_table.c.id.in_(part))
        found |= {row.id: row.connection_id for row in tx.run(query)}
    return found


def lock(tx: Transaction, ids: Sequence[str]) -> list[SaleRow]:
    """Read sales for a change: on PostgreSQL their rows are locked until the transaction ends."""
    return [SaleRow(**row._mapping) for row in tx.run(_LOCKED_SALES, {"ids": list(ids)})]


def get(tx: Transaction, sale_id: str) -> SaleRow:
    """Read a sale that is in the ledger."""
    return SaleRow(**tx.run(select(sale_table).where(sale_table.c.id == sale_id)).one()._mapping)


def closed_at(tx: Transaction, sale_id: str) -> int | None:
    """Return when a sale was closed (UTC microseconds); `None` where it was not (yet), or is not in the ledger."""
    return tx.run(select(sale_table.c.closed_at).where(sale_table.c.id == sale_id)).scalar()


def newest_content(tx: Transaction, row: SaleRow) -> Sale:
    """Return the sale's newest version, as the till sent it."""
    content = tx.run(
        select(sale_version_table.c.content).where(
            sale_version_table.c.sale_id == row.id, sale_version_table.c.number == row.versions
        )
    ).scalar_one()
    return Sale.model_validate_json(tx.vault.decrypt(content))


def newest_closed(
    tx: Transaction, connection_id: str, limit: int = 100, since: int = 0, until: int | None = None
) -> list[Sale]:
    """List the newest sales of a connection that were closed between two moments, as the till sent them last."""
    # joined by the number that the sale says is its newest: lost states have numbers below one
    newest = (sale_table.c.id == sale_version_table.c.sale_id) & (sale_table.c.versions == sale_version_table.c.number)
    closed = sale_table.c.closed_at >= since
    if until is not None:
        closed &= sale_table.c.closed_at < until
    rows = tx.run(
        select(sale_version_table.c.content)
        .join(sale_table, newest)
        .where(sale_table.c.connection_id == connection_id, closed)
        .order_by(sale_table.c.closed_at.desc())
        .limit(limit)
    )
    return [Sale.model_validate_json(tx.vault.decrypt(row.content)) for row in rows]


def ids_closed_since(tx: Transaction, connection_id: str, since: int) -> list[str]:
    """List the ids of a connection's sales closed at or after `since`, oldest first."""
    query = select(sale_table.c.id).where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at >= since)
    return list(tx.run(query.order_by(sale_table.c.closed_at)).scalars())


def stamps_earned(tx: Transaction, connection_id: str) -> int:
    """Add up the stamps that a connection's receipts with a card are entitled to."""
    # what the ledger says they come to; whether 7stamp agrees is for whoever compares
    total = select(func.coalesce(func.sum(sale_table.c.stamps), 0)).where(
        sale_table.c.connection_id == connection_id,
        sale_table.c.admitted == 1,
        sale_table.c.customer_hash.is_not(None),
        sale_table.c.customer_hash == sale_table.c.bound_hash,
        sale_table.c.card_id.is_not(None),
    )
    return int(tx.run(total).scalar_one())


# Writing: a batch hands over what it changed

_COLUMNS = tuple(column.name for column in fields(SaleRow))
_values_of = attrgetter(*_COLUMNS)
_INSERT = sale_table.insert()
_INSERT_VERSION = sale_version_table.insert()
_UPDATE = (
    sale_table.update()
    .where(sale_table.c.id == bindparam("id_"))
    .values({column.name: bindparam(column.name) for column in sale_table.c if column.name != "id"})
)


def insert(tx: Transaction, rows: Sequence[SaleRow]) -> None:
    """Store new sales."""
    tx.run_each(_INSERT, [_columns_of(row) for row in rows])


def update(tx: Transaction, rows: Sequence[SaleRow]) -> None:
    """Store changed sales, each in its place."""
    values = [_columns_of(row) for row in rows]
    tx.run_each(_UPDATE, [{**columns, "id_": columns.pop("id")} for columns in values])


def _columns_of(row: SaleRow) -> dict[str, object]:
    """Return a sale's columns; `asdict` would copy each value."""
    return dict(zip(_COLUMNS, _values_of(row), strict=True))


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version of a sale to store: `number` counts up, `seen_at` is when it arrived (UTC microseconds).

    Numbers below one are states that lost: kept so that they are known when they come again, and never shown.
    """

    sale_id: str
    number: int
    content: Sale = field(repr=False)
    digest: str
    ticket: int | None
    source: str
    seen_at: int
    stamps_by_plugin: int | None


def insert_versions(tx: Transaction, versions: Sequence[NewVersion]) -> None:
    """Store versions, their content encrypted."""
    rows = [
        {
            "sale_id": version.sale_id,
            "number": version.number,
            "version": version.content.version,
            "ticket": version.ticket,
            "digest": version.digest,
            "source": version.source,
            "seen_at": version.seen_at,
            "stamps_by_plugin": version.stamps_by_plugin,
            "content": tx.vault.encrypt(version.content.model_dump_json()),
        }
        for version in versions
    ]
    tx.run_each(_INSERT_VERSION, rows)


def lowest_number(tx: Transaction, sale_id: str) -> int:
    """Return the lowest number of a sale's versions; states that lost have numbers below one."""
    # one sale's versions are few, and found by the primary key
    lowest = select(func.min(sale_version_table.c.number)).where(sale_version_table.c.sale_id == sale_id)
    return tx.run(lowest).scalar() or 0


def has_version_with(tx: Transaction, sale_id: str, digest: str, *, but_not_at: int | None = None) -> bool:
    """Say whether some version of a sale had this digest; not counting what arrived at one moment."""
    query = select(sale_version_table.c.number).where(
        sale_version_table.c.sale_id == sale_id, sale_version_table.c.digest == digest
    )
    # a stored body that is read again finds itself: that it was seen then says nothing
    if but_not_at is not None:
        query = query.where(sale_version_table.c.seen_at != but_not_at)
    return tx.run(query.limit(1)).first() is not None


def arrival_of_version(tx: Transaction, sale_id: str, number: int) -> int:
    """Return when a version arrived (UTC microseconds); 0 where there is none of that number."""
    arrival = select(sale_version_table.c.seen_at).where(
        sale_version_table.c.sale_id == sale_id, sale_version_table.c.number == number
    )
    return tx.run(arrival).scalar() or 0


def ids_of_connections(connection_ids: Sequence[str], locations: Sequence[str]) -> Select[tuple[str]]:
    """Build the query for the ids of some connections' sales at some locations (at all of them where empty)."""
    return select(sale_table.c.id).where(_of_connections(connection_ids, locations))


def move_all(tx: Transaction, connection_ids: Sequence[str], locations: Sequence[str], connection_id: str) -> None:
    """Hand the sales of some connections at some locations (all where empty) over to another connection."""
    moved = _of_connections(connection_ids, locations)
    tx.run(sale_table.update().where(moved).values(connection_id=connection_id))


def _of_connections(connection_ids: Sequence[str], locations: Sequence[str]) -> ColumnElement[bool]:
    # a connection to all locations takes over all, also those without a location
    at_locations = sale_table.c.location_id.in_(list(locations)) if locations else true()
    return sale_table.c.connection_id.in_(list(connection_ids)) & at_locations


# Erasing customers


@dataclass(frozen=True, slots=True)
class VersionCustomer:
    """The customer that a stored version of a sale names; `sale_hash` is the one the sale is known by now.

    `connector` and `account_id` are the till account within which the customer's own id means something.
    """

    sale_id: str
    number: int
    connector: str
    account_id: str
    sale_hash: str | None
    customer: Customer


def ids_of_business(tx: Transaction, business_id: str) -> list[str]:
    """List the ids of all sales of a business, of removed connections too."""
    return list(tx.run(select(sale_table.c.id).where(sale_table.c.business_id == business_id)).scalars())


_VERSIONS = select(
    sale_version_table.c.sale_id,
    sale_version_table.c.number,
    sale_version_table.c.content,
    sale_table.c.connector,
    sale_table.c.account_id,
    sale_table.c.customer_hash,
).join(sale_table, sale_table.c.id == sale_version_table.c.sale_id)


def version_customers(tx: Transaction, ids: Sequence[str]) -> list[VersionCustomer]:
    """List the customers that the versions of these sales name."""
    named: list[VersionCustomer] = []
    for row in tx.run(_VERSIONS.where(sale_version_table.c.sale_id.in_(ids))):
        # only the customer is parsed: years of receipts are gone through
        customer = json.loads(tx.vault.decrypt(row.content)).get("customer")
        if customer:
            who = Customer.model_validate(customer)
            named.append(
                VersionCustomer(row.sale_id, row.number, row.connector, row.account_id, row.customer_hash, who)
            )
    return named


def bound_customers(
    tx: Transaction, business_id: str, customer_hashes: Collection[str], card_ids: Collection[str]
) -> list[Binding]:
    """List the bindings, present and former, of a business' sales to one of these customers or cards."""
    bound: list[Binding] = []
    # present and former owners are found in two tables, by the same columns
    for part in in_parts(sorted(customer_hashes)):
        now, before = sale_table.c.bound_hash.in_(part), binding_table.c.customer_hash.in_(part)
        bound += _bound(tx, business_id, now, before)
    for part in in_parts(sorted(card_ids)):
        now, before = sale_table.c.card_id.in_(part), binding_table.c.card_id.in_(part)
        bound += _bound(tx, business_id, now, before)
    return bound


def _bound(tx: Transaction, business_id: str, now: ColumnElement[bool], before: ColumnElement[bool]) -> list[Binding]:
    present = select(sale_table.c.id, sale_table.c.bound_hash, sale_table.c.card_id, sale_table.c.card_hint).where(
        sale_table.c.business_id == business_id,
        now,
        sale_table.c.bound_hash.is_not(None),
        sale_table.c.card_id.is_not(None),
    )
    former = (
        select(
            binding_table.c.sale_id,
            binding_table.c.customer_hash,
            binding_table.c.card_id,
            binding_table.c.card_hint,
        )
        .join(sale_table, sale_table.c.id == binding_table.c.sale_id)
        .where(sale_table.c.business_id == business_id, before)
    )
    rows = [*tx.run(present), *tx.run(former)]
    return [Binding(sale_id, customer, card, hint or "") for sale_id, customer, card, hint in map(tuple, rows)]


def ids_naming_customers(tx: Transaction, business_id: str, customer_hashes: Collection[str]) -> list[str]:
    """List the ids of a business' sales whose newest version names one of these customers."""
    ids: list[str] = []
    for part in in_parts(sorted(customer_hashes)):
        query = select(sale_table.c.id).where(
            sale_table.c.business_id == business_id, sale_table.c.customer_hash.in_(part)
        )
        ids += tx.run(query).scalars()
    return ids


def customers_of(tx: Transaction, ids: Sequence[str]) -> set[tuple[str, str]]:
    """Return (business id, customer hash) of whoever these sales name or are bound to."""
    columns = (sale_table.c.business_id, sale_table.c.customer_hash, sale_table.c.bound_hash)
    rows = tx.run(select(*columns).where(sale_table.c.id.in_(ids))).all()
    return {(row.business_id, customer) for row in rows for customer in (row.customer_hash, row.bound_hash) if customer}


def oldest_with_customers(tx: Transaction, before: int, limit: int) -> list[str]:
    """List the oldest sales of before a moment whose customers are not erased yet, and that have nothing left to do.

    "Of before" is: closed before then, or never closed and last changed before then.
    """
    # what still has something to do keeps its customer: a hold may find its card, a refund may come
    unsettled = select(operation_table.c.id).where(
        operation_table.c.sale_id == sale_table.c.id, operation_table.c.state.in_(sorted(UNSETTLED))
    )
    search = select(identify_table.c.sale_id).where(identify_table.c.sale_id == sale_table.c.id)
    query = select(sale_table.c.id).where(
        text("sale.anonymous = 0"),  # in the words of the partial index, so that both databases use it
        or_(sale_table.c.closed_at < before, sale_table.c.closed_at.is_(None) & (sale_table.c.changed_at < before)),
        ~unsettled.correlate(sale_table).exists(),
        ~search.correlate(sale_table).exists(),
    )
    return list(tx.run(query.order_by(sale_table.c.closed_at).limit(limit)).scalars())


def opaque_customer(tx: Transaction, sale_id: str) -> str:
    """Return the text that stands in place of an erased customer's hash: it says only that there was one."""
    return tx.vault.hash("erased customer", sale_id)


def erase_customers(tx: Transaction, ids: Sequence[str], customer_hashes: Collection[str] | None) -> None:
    """Take customers out of some sales: these customers, or all (`None`). Stamps, and whose card, stay.

    A version without its customer has another digest: what the till sends again must be stripped in the same way
    before it is compared, which ingest does for sales that are anonymous and for customers who are forgotten.
    """
    # versions first: the sale's own digest is that of its newest version
    digests = _erase_from_versions(tx, ids, customer_hashes)
    for row in lock(tx, ids):
        columns = _erased_columns(tx, row, customer_hashes)
        if (row.id, row.versions) in digests:
            columns["digest"] = digests[row.id, row.versions]
        if columns:
            tx.run(sale_table.update().where(sale_table.c.id == row.id).values(columns))
    bindings.delete(tx, ids, customer_hashes)


def _erase_from_versions(
    tx: Transaction, ids: Sequence[str], customer_hashes: Collection[str] | None
) -> dict[tuple[str, int], str]:
    """Strip the customers from stored versions; map (sale id, number) to the new digest of each that changed."""
    digests: dict[tuple[str, int], str] = {}
    for row in tx.run(_VERSIONS.where(sale_version_table.c.sale_id.in_(ids))).all():
        sale = Sale.model_validate_json(tx.vault.decrypt(row.content))
        if sale.customer is None:
            continue
        customer = cards.customer_hash(tx, row.connector, row.account_id, sale.customer)
        if customer_hashes is not None and customer not in customer_hashes:
            continue
        # rewritten, not deleted: what was sold and planned must stay explicable
        stripped = sale.model_copy(update={"customer": None})
        digests[row.sale_id, row.number] = digest_of(tx, stripped)
        version = (sale_version_table.c.sale_id == row.sale_id) & (sale_version_table.c.number == row.number)
        tx.run(
            sale_version_table.update()
            .where(version)
            .values(digest=digests[row.sale_id, row.number], content=tx.vault.encrypt(stripped.model_dump_json()))
        )
    return digests


def _erased_columns(tx: Transaction, row: SaleRow, customer_hashes: Collection[str] | None) -> dict[str, object]:
    """The columns of a sale that change when these customers (or whoever it is) are erased."""

    def is_erased(customer: str | None) -> bool:
        return customer is not None and (customer_hashes is None or customer in customer_hashes)

    # another text for each sale: two receipts of one person must not be told to belong together
    opaque = opaque_customer(tx, row.id)
    columns: dict[str, object] = {}
    if customer_hashes is None or is_erased(row.customer_hash):
        columns["anonymous"] = 1
    if is_erased(row.bound_hash) and row.card_id is not None:
        # the card stays the sale's: a refund takes back what that card was given
        columns |= {"bound_hash": opaque, "card_hint": MASKED_CARD}
        if is_erased(row.customer_hash):
            columns |= {"customer_hash": opaque, "wait": None}
    elif is_erased(row.customer_hash):
        columns["customer_hash"] = None
        if row.card_id is None:
            columns |= {"bound_hash": None, "wait": None}
    return columns
