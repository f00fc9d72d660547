"""Which kinds of work are due, in one cheap query: most ticks of the scheduler find nothing, and must cost little.

Owns that query; other modules claim what it finds.
"""

from __future__ import annotations

from sqlalchemy import BindParameter, bindparam, exists, or_, select

from connectors.domain.connection import WORKING, Health
from connectors.domain.events import Wakeup
from connectors.domain.operation import State
from connectors.domain.relay import SubscriptionState
from connectors.store.engine import Transaction
from connectors.store.inbox.loyalty_events import Stage
from connectors.store.ledger.operation_conditions import finds_voucher
from connectors.store.ledger.operation_conditions import is_open as is_open_operation
from connectors.store.ledger.voucher_requests import is_open
from connectors.store.schema import (
    connection_table,
    errand_table,
    hint_table,
    identify_table,
    loyalty_event_table,
    operation_table,
    relay_subscription_table,
    voucher_request_table,
)

_now: BindParameter[int] = bindparam("now")
_is_working = connection_table.c.health.in_(WORKING)
_read_is_due = (connection_table.c.next_poll_at <= _now) | (connection_table.c.next_lookback_at <= _now)

# one statement of several EXISTS, each by an index: the answer is mostly "nothing", and costs that much
_LOOK = select(
    exists().where(_is_working, _read_is_due).label(Wakeup.poll),
    exists().where(hint_table.c.next_at <= _now).label(Wakeup.hints),
    exists().where(identify_table.c.next_at <= _now).label(Wakeup.identify),
    exists()
    .where(is_open_operation, operation_table.c.state == State.pending, operation_table.c.next_at <= _now)
    .label(Wakeup.deliver),
    exists()
    .where(is_open_operation, operation_table.c.state == State.uncertain, operation_table.c.next_at <= _now)
    .label(Wakeup.resolve),
    exists()
    .where(
        connection_table.c.renew_at <= _now,
        connection_table.c.renewing_until <= _now,
        connection_table.c.health != Health.removed,
    )
    .label(Wakeup.renew),
    or_(
        exists().where(loyalty_event_table.c.stage == Stage.arrived, loyalty_event_table.c.next_at <= _now),
        exists().where(loyalty_event_table.c.stage == Stage.settled, loyalty_event_table.c.next_at <= _now),
    ).label(Wakeup.loyalty),
    exists()
    .where(
        relay_subscription_table.c.state == SubscriptionState.active,
        relay_subscription_table.c.pending > 0,
        relay_subscription_table.c.next_at <= _now,
    )
    .label(Wakeup.relay),
    exists().where(is_open, voucher_request_table.c.next_at <= _now).label(Wakeup.vouchers),
    exists()
    .where(*finds_voucher, operation_table.c.next_at <= _now, connection_table.c.send_after <= _now)
    .label(Wakeup.gifts),
    exists().where(errand_table.c.state == "asked").label(Wakeup.commands),
)


def kinds(tx: Transaction) -> set[Wakeup]:
    """Return the kinds of work of which something may be due now."""
    row = tx.run(_LOOK, {"now": tx.now}).one()
    # the labels of the columns are the names of the wake-ups
    return {Wakeup(name) for name, is_due in row._mapping.items() if is_due}
