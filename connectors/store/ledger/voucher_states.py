"""Voucher states: what 7stamp said of each voucher last, so that a receipt's page knows of uses elsewhere.

Owns the table `voucher_state`. Codes are found by keyed hashes: of themselves, and of how people read them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, or_, select

from connectors.domain.operation import receipt_in
from connectors.domain.redeem_codes import reading
from connectors.store.engine import Transaction
from connectors.store.query_parts import in_parts
from connectors.store.schema import voucher_state_table


@dataclass(frozen=True, slots=True)
class VoucherState:
    """A voucher's status as of a moment (UTC microseconds); `by_code` is the operation that redeemed it, if any."""

    status: str
    at: int
    redeemed_via: str | None
    by_code: str | None

    @property
    def receipt(self) -> str | None:
        """The receipt that redeemed it, where one did."""
        return receipt_in(self.by_code)


def code_hash(tx: Transaction, business_id: str, redeem_code: str) -> str:
    """Hash a redeem code of a business."""
    return tx.vault.hash("redeem code", business_id, redeem_code)


def record(tx: Transaction, business_id: str, redeem_code: str, state: VoucherState) -> None:
    """Keep what 7stamp says of a voucher, unless something newer is known."""
    values = {
        "status": state.status,
        "at": state.at,
        "redeemed_via": state.redeemed_via,
        "by_code": state.by_code,
    }
    keys = [voucher_state_table.c.business_id, voucher_state_table.c.code_hash]
    insert = tx.insert(voucher_state_table).values(
        **values | _name(tx, business_id, redeem_code),
    )
    # what was stored before readings were is given one
    values |= {name: value for name, value in _name(tx, business_id, redeem_code).items() if name != "business_id"}
    # of one moment the later word counts: a use and the end of its time may be told in the same second
    is_older = or_(voucher_state_table.c.at < state.at, voucher_state_table.c.at == state.at)
    tx.run(insert.on_conflict_do_update(index_elements=keys, set_=values, where=is_older))


def _name(tx: Transaction, business_id: str, redeem_code: str) -> dict[str, object]:
    """Return the columns by which a voucher is found."""
    return {
        "business_id": business_id,
        "code_hash": code_hash(tx, business_id, redeem_code),
        "reading_hash": _reading_hash(tx, business_id, reading(redeem_code)),
        "redeem_code": tx.vault.encrypt(redeem_code),
    }


def _reading_hash(tx: Transaction, business_id: str, reads: str) -> str:
    return tx.vault.hash("redeem code reading", business_id, reads)


def unknown(tx: Transaction, business_id: str, redeem_codes: Sequence[str]) -> list[str]:
    """Return the codes of which nothing is known, or not how they read."""
    by_hash = {code_hash(tx, business_id, code): code for code in redeem_codes}
    for part in in_parts(sorted(by_hash)):
        for row in tx.run(_OF_CODES, {"business": business_id, "hashes": list(part)}):
            if row.reading_hash is not None:
                by_hash.pop(row.code_hash, None)
    return list(by_hash.values())


def learn(tx: Transaction, business_id: str, redeem_codes: Sequence[str]) -> None:
    """Learn codes of vouchers that can be redeemed; what is known of one stays."""
    for redeem_code in redeem_codes:
        name = _name(tx, business_id, redeem_code)
        insert = tx.insert(voucher_state_table).values(**name, status="issued", at=tx.now)
        keys = [voucher_state_table.c.business_id, voucher_state_table.c.code_hash]
        found = {"reading_hash": name["reading_hash"], "redeem_code": name["redeem_code"]}
        tx.run(insert.on_conflict_do_update(index_elements=keys, set_=found))


_OF_READINGS = select(voucher_state_table.c.reading_hash, voucher_state_table.c.redeem_code).where(
    voucher_state_table.c.business_id == bindparam("business"),
    voucher_state_table.c.reading_hash.in_(bindparam("hashes", expanding=True)),
    voucher_state_table.c.redeem_code.is_not(None),
)


def with_readings(tx: Transaction, business_id: str, readings: Collection[str]) -> dict[str, list[str]]:
    """Map each reading to the codes of a business that read so, for those that have any."""
    by_hash = {_reading_hash(tx, business_id, reads): reads for reads in readings}
    found: dict[str, list[str]] = {}
    for part in in_parts(sorted(by_hash)):
        for row in tx.run(_OF_READINGS, {"business": business_id, "hashes": list(part)}):
            found.setdefault(by_hash[row.reading_hash], []).append(tx.vault.decrypt(row.redeem_code))
    return found


_OF_CODES = select(voucher_state_table).where(
    voucher_state_table.c.business_id == bindparam("business"),
    voucher_state_table.c.code_hash.in_(bindparam("hashes", expanding=True)),
)


def of_codes(tx: Transaction, business_id: str, redeem_codes: list[str]) -> dict[str, VoucherState]:
    """Map redeem code to what 7stamp said of it, for those of which it said something."""
    by_hash = {code_hash(tx, business_id, code): code for code in redeem_codes}
    states: dict[str, VoucherState] = {}
    for part in in_parts(sorted(by_hash)):
        for row in tx.run(_OF_CODES, {"business": business_id, "hashes": list(part)}):
            states[by_hash[row.code_hash]] = VoucherState(row.status, row.at, row.redeemed_via, row.by_code)
    return states


def sweep(tx: Transaction, before: int, limit: int) -> int:
    """Delete what was said before a moment, at most `limit` rows; return how many."""
    keys = (voucher_state_table.c.business_id, voucher_state_table.c.code_hash)
    old = tx.run(select(*keys).where(voucher_state_table.c.at < before).limit(limit)).all()
    for business_id, code in map(tuple, old):
        tx.run(voucher_state_table.delete().where(keys[0] == business_id, keys[1] == code))
    return len(old)
