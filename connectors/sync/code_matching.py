"""Code matching: what cashiers typed becomes the redeem codes of the business's vouchers, however they are spelled.

Owns the look-up for a batch of snapshots; how a code reads is `connectors.domain.redeem_codes`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from connectors.domain.redeem_codes import match_codes, reading, runs_in
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.sync.snapshots import Snapshot

_MOST_CODES = 20


def with_matched_codes(tx: Transaction, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Return the snapshots with the redeem codes that they carry, in 7stamp's own spelling where it is known.

    Codes are matched within their business only. Remarks are left behind here: nothing of them is stored.
    """
    wanted: dict[str, set[str]] = {}
    for snapshot in snapshots:
        sale = snapshot.sale
        if sale.redeem_codes or sale.remarks:
            reads = {reading(code) for code in sale.redeem_codes}
            reads.update(run.reads for remark in sale.remarks for run in runs_in(remark))
            wanted.setdefault(snapshot.connection.business_id, set()).update(reads)
    if not wanted:  # most receipts have none: nothing is looked up for them
        return list(snapshots)
    known = {
        business_id: ledger.voucher_states.with_readings(tx, business_id, reads)
        for business_id, reads in wanted.items()
    }
    return [_matched(snapshot, known.get(snapshot.connection.business_id, {})) for snapshot in snapshots]


def _matched(snapshot: Snapshot, known: dict[str, list[str]]) -> Snapshot:
    sale = snapshot.sale
    if not sale.redeem_codes and not sale.remarks:
        return snapshot
    codes = match_codes(sale.redeem_codes, sale.remarks, known)[:_MOST_CODES]
    return replace(snapshot, sale=sale.model_copy(update={"redeem_codes": codes, "remarks": ()}))
