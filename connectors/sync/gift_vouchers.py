"""Gift vouchers: finds, on a receipt's card, the voucher that pays for a gift that was given without a redeem code.

Owns which voucher that is: the oldest that can be used and that no other redemption of ours has taken. The gift then
redeems it as any code would; one whose card has no voucher is rejected, and is a gift against a dead code.
"""

from __future__ import annotations

import asyncio
import logging

from connectors.domain.connection import Connection
from connectors.sevenstamp.client import Refused, SevenStamp, SevenStampError
from connectors.sevenstamp.models import Voucher
from connectors.store import connections, ledger
from connectors.store.engine import Store, Transaction
from connectors.store.ledger.operations import GiftOperation
from connectors.sync.health import report_key_failure
from connectors.sync.settlement import follow_dead_gift

log = logging.getLogger(__name__)

_AT_ONCE = 50
_CALLS_AT_ONCE = 8


class GiftVouchers:
    """Works through gifts that wait for a voucher."""

    def __init__(self, store: Store, sevenstamp: SevenStamp) -> None:
        self._store = store
        self._sevenstamp = sevenstamp

    async def round(self, only: str | None = None) -> int:
        """Look for the vouchers of gifts that are due (of one connection); return how many gifts those were."""
        gifts = await self._store.write(lambda tx: ledger.operations.lease_gifts(tx, _AT_ONCE, only))
        if not gifts:
            return 0
        ids = list({gift.operation.connection_id for gift in gifts})
        owners = await self._store.read(lambda tx: connections.registry.by_ids(tx, ids))
        slots = asyncio.Semaphore(_CALLS_AT_ONCE)
        # of one card one after the other: each must see which vouchers the one before it took
        by_card: dict[tuple[str, str], list[GiftOperation]] = {}
        for gift in gifts:
            by_card.setdefault((gift.operation.business_id, gift.card_id), []).append(gift)

        async def look(of_card: list[GiftOperation]) -> None:
            async with slots:
                for gift in of_card:
                    await self._look(owners[gift.operation.connection_id], gift)

        async with asyncio.TaskGroup() as group:
            for of_card in by_card.values():
                group.create_task(look(of_card))
        return len(gifts)

    async def _look(self, connection: Connection, gift: GiftOperation) -> None:
        client = self._sevenstamp.with_key(self._store.vault.decrypt(connection.sevenstamp_key))
        try:
            vouchers = (await client.card(gift.card_id)).good_vouchers
        except Refused:  # the card is gone, and its vouchers with it
            vouchers = ()
        except SevenStampError as error:
            failure = error
            await self._store.write(lambda tx: report_key_failure(tx, connection.key_hash, failure))
            return  # the lease ends in a minute
        except Exception as error:
            log.exception("operation %s: its voucher: raised %s", gift.operation.id, type(error).__name__)
            return
        await self._store.write(lambda tx: _conclude(tx, gift, vouchers))


def _conclude(tx: Transaction, gift: GiftOperation, vouchers: tuple[Voucher, ...]) -> None:
    """Give a gift the oldest voucher that is free, or reject it."""
    business_id = gift.operation.business_id
    code = ledger.operations.free_code(tx, business_id, [voucher.redeem_code for voucher in vouchers])
    if code is not None:
        ledger.operations.give_voucher(tx, gift, code)
        return
    if ledger.operations.reject_gift(tx, gift):
        follow_dead_gift(tx, gift.operation)
