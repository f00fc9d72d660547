"""Agreement on demand: till, ledger and cards compared now, for a person or a script.

Owns which days are compared and what is refused; by night the scheduler compares by itself.
"""

from __future__ import annotations

from connector_sdk.errors import ConnectorError
from connectors.domain.agreement import Days, days_since
from connectors.domain.connection import Connection
from connectors.services.context import ServiceContext
from connectors.services.refusal import Refusal
from connectors.services.results import DifferenceShown, Progress, ProgressReport, ReconcileResult
from connectors.services.sync import SyncService, start_of_day
from connectors.sevenstamp.client import SevenStampError
from connectors.store import ledger
from connectors.store.ledger.agreements import Agreement
from connectors.sync.tills import NoConnector


class AgreementService:
    """Compares a connection's till, ledger and cards when somebody asks."""

    def __init__(self, context: ServiceContext, sync: SyncService) -> None:
        self._context = context
        self._sync = sync

    async def last(self, connection: Connection) -> Agreement | None:
        """Return the last comparison of a connection, or the one under way; `None` where there was none."""
        return await self._context.store.read(lambda tx: ledger.agreements.find(tx, connection.id))

    async def reconcile(self, connection_id: str, since: str | None, progress: Progress) -> ReconcileResult:
        """Compare the last ended business days, or all from `since` until today. Raises `Refusal`.

        What was compared before a failure is kept: asked again, it goes on from there.
        """
        reconciler, deliverer = self._context.reconciler, self._context.deliverer
        if reconciler is None or deliverer is None:
            raise self._context.refusal_without_sevenstamp()
        connection = await self._sync.require_working(connection_id)
        days = self._days(connection, since)

        async def tell(done: float) -> None:
            await progress(ProgressReport(done=done))

        try:
            agreement = await reconciler.run(connection, days, tell=tell)
        except (ConnectorError, NoConnector) as error:
            raise Refusal(f"the till cannot be read: {error}; run it again later") from None
        except SevenStampError as error:
            raise Refusal(f"{error}; run it again, it goes on from where it was") from None
        # what was put in doubt is settled now, and goes out, while somebody looks
        await deliverer.resolve(connection.id)
        await deliverer.drain(connection.id)
        return _shown(agreement)

    def _days(self, connection: Connection, since: str | None) -> Days | None:
        if since is None:
            return None
        days = days_since(
            start_of_day(since, connection.account.zone).date(),
            self._context.store.clock.now(),
            connection.account.zone,
        )
        if days.first > days.last:
            raise Refusal(f"{since} is not yet: the last day that can be compared is {days.last}")
        return days


def _shown(agreement: Agreement) -> ReconcileResult:
    return ReconcileResult(
        first_day=agreement.days.first,
        last_day=agreement.days.last,
        till_read=agreement.till_read,
        receipts=agreement.receipts,
        calls=agreement.calls,
        mended=agreement.mended,
        open=agreement.still_open,
        differences=tuple(
            DifferenceShown(
                receipt=difference.receipt_id,
                kind=difference.kind.value,
                mended=difference.is_mended,
                stamps=count if isinstance(count := difference.message.params.get("count"), int) else None,
            )
            for difference in agreement.differences
        ),
    )
