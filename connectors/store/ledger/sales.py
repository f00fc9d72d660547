"""TODO docstring."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, func, or_, select, text

from connector_sdk.sale import Customer, Sale, SaleStatus
from connectors.domain.operation import UNSETTLED
from connectors.domain.person import MASKED_CARD
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.schema import (
    binding_table,
    identify_table,
    operation_table,
    sale_table,
    sale_version_table,
)

MOST_IDS = 400  # ids a query, below SQLite's oldest bound of variables


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


def sale_id_of(tx: Transaction, business_id: str, connector: str, account_id: str, receipt_id: str) -> str:
    """The same id for the same receipt, whoever sees it first."""
    return tx.vault.hash("sale", business_id, connector, account_id, receipt_id)


def digest_of(tx: Transaction, content: Sale) -> str:
    """What two snapshots share when they say the same."""
    return tx.vault.hash("digest", content.model_dump_json())


LOCKED_SALES = select(sale_table).where(sale_table.c.id.in_(bindparam("ids", expanding=True))).with_for_update()


_DIGESTS = select(sale_table.c.id, sale_table.c.digest, sale_table.c.anonymous).where(
    sale_table.c.id.in_(bindparam("ids", expanding=True))
)


UPDATE_SALE = (
    sale_table.update()
    .where(sale_table.c.id == bindparam("id_"))
    .values({column.name: bindparam(column.name) for column in sale_table.c if column.name != "id"})
)


def digests_of(tx: Transaction, ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Sale id → digest of what is stored, and whether its customer is erased, for those that are."""
    found: dict[str, tuple[str, bool]] = {}
    for start in range(0, len(ids), MOST_IDS):
        rows = tx.run(_DIGESTS, {"ids": list(ids[start : start + MOST_IDS])})
        found.update({row.id: (row.digest, bool(row.anonymous)) for row in rows})
    return found


def newest_content(tx: Transaction, row: SaleRow) -> Sale:
    """The sale's last version, as the till told it."""
    kept = tx.run(
        select(sale_version_table.c.content).where(
            sale_version_table.c.sale_id == row.id, sale_version_table.c.number == row.versions
        )
    ).scalar_one()
    return Sale.model_validate_json(tx.vault.decrypt(kept))


def newest_closed(tx: Transaction, connection_id: str, limit: int = 100) -> list[Sale]:
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


def ids_closed_since(tx: Transaction, connection_id: str, since: int) -> list[str]:
    """Ids of the sales of a connection closed at or after `since`, oldest first."""
    return list(
        tx.run(
            select(sale_table.c.id)
            .where(sale_table.c.connection_id == connection_id, sale_table.c.closed_at >= since)
            .order_by(sale_table.c.closed_at)
        ).scalars()
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


@dataclass(frozen=True, slots=True)
class NamedVersion:
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


def versions_with_customers(tx: Transaction, ids: Sequence[str]) -> list[NamedVersion]:
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
        NamedVersion(
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
class BoundCustomer:
    """A customer whose card a sale is (or was) bound to."""

    sale_id: str
    customer_hash: str
    card_id: str
    card_hint: str


def bound_customers(
    tx: Transaction, business_id: str, hashes: Collection[str], card_ids: Collection[str]
) -> list[BoundCustomer]:
    """The sales of a business that are, or were, bound to one of these customers or cards."""
    found: list[BoundCustomer] = []
    for column, wanted in (("customer", hashes), ("card", card_ids)):
        values = sorted(wanted)
        for start in range(0, len(values), MOST_IDS):
            some = values[start : start + MOST_IDS]
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
            found += [BoundCustomer(one, customer, card, hint or "") for one, customer, card, hint in map(tuple, rows)]
    return found


def ids_naming_customers(tx: Transaction, business_id: str, hashes: Collection[str]) -> list[str]:
    """The ids of a business' sales whose newest version names one of these customers."""
    values, found = sorted(hashes), list[str]()
    for start in range(0, len(values), MOST_IDS):
        some = sale_table.c.customer_hash.in_(values[start : start + MOST_IDS])
        found += tx.run(select(sale_table.c.id).where(sale_table.c.business_id == business_id, some)).scalars()
    return found


def oldest_with_customers(tx: Transaction, before: int, limit: int) -> list[str]:
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
    rows = [SaleRow(**row._mapping) for row in tx.run(LOCKED_SALES, {"ids": list(ids)})]
    for row in rows:
        values: dict[str, object] = {}
        if (row.id, row.versions) in digests_now:
            values["digest"] = digests_now[row.id, row.versions]
        values |= _erased_columns(tx, row, hashes)
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
            and ledger.cards.customer_hash(tx, row.connector, row.account_id, content.customer) not in hashes
        ):
            continue
        stripped = content.model_copy(update={"customer": None})
        changed[row.sale_id, row.number] = digest_of(tx, stripped)
        tx.run(
            sale_version_table.update()
            .where(sale_version_table.c.sale_id == row.sale_id, sale_version_table.c.number == row.number)
            .values(digest=changed[row.sale_id, row.number], content=tx.vault.encrypt(stripped.model_dump_json()))
        )
    return changed


def _erased_columns(tx: Transaction, row: SaleRow, hashes: Collection[str] | None) -> dict[str, object]:
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
