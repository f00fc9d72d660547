"""The laws that hold whatever happened, once it is quiet: each names what breaks it.

Owns how each is looked at, from outside: what the tills have, what 7stamp really did, what subscribers got, and the
database's own rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from connectors.sevenstamp.sandbox import Sandbox
from tests.chaos.cafes import Cafe

_SIGNS = {"stamps_added": 1, "stamps_reversed": -1}


@dataclass
class Seen:
    """What the run has seen from outside."""

    cafes: Sequence[Cafe]
    sevenstamp: Sandbox
    url: str
    """The address of the database."""
    acknowledged: set[tuple[str, str]] = field(default_factory=set)
    """Connection and receipt of every hook that was answered with success."""
    received: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    """By subscription: event id and card of everything that its subscriber took, in order."""

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Read the database."""
        with psycopg.connect(self.url) as session:
            return session.execute(query).fetchall()  # type: ignore[arg-type]


def _entitlement(seen: Seen) -> Iterable[str]:
    """Every receipt's net stamps, card by card, are what it earns."""
    given: dict[str, Counter[str]] = defaultdict(Counter)
    for operation in seen.sevenstamp.state.operations:
        if operation["kind"] in _SIGNS:
            receipt = str(operation["code"]).rpartition(":")[0]
            given[receipt][str(operation["card_id"])] += _SIGNS[operation["kind"]] * operation["count"]
    names = {card.id: card.phone for card in seen.sevenstamp.state.cards.values()}
    for cafe in seen.cafes:
        for receipt in cafe.receipts.values():
            code = f"{cafe.till.connector}:{cafe.account_id}:{receipt.id}"
            has = {str(names[card]): stamps for card, stamps in given.pop(code, {}).items() if stamps}
            earns = {str(receipt.phone): receipt.stamps} if receipt.stamps else {}
            if has != earns:
                yield f"{code} earns {earns} and has {has}"
    yield from (f"{code} is no receipt of any till" for code, cards in given.items() if any(cards.values()))


def _once(seen: Seen) -> Iterable[str]:
    """No operation is applied twice, and no voucher redeemed twice."""
    times: dict[str, list[str]] = defaultdict(list)
    for operation in seen.sevenstamp.state.operations:
        if operation["code"]:
            times[str(operation["code"])].append(operation["at"])
    yield from (f"{code} was applied at {' and at '.join(at)}" for code, at in times.items() if len(at) > 1)


def _acknowledged(seen: Seen) -> Iterable[str]:
    """Every hook that was acknowledged is accounted for: its receipt is in the ledger, or kept as unreadable."""
    known = {(connection, receipt) for connection, receipt in seen.rows("SELECT connection_id, receipt_id FROM sale")}
    known |= set(seen.rows("SELECT connection_id, receipt_id FROM kept"))  # type: ignore[arg-type]
    yield from (f"receipt {receipt} of {name}" for name, receipt in sorted(seen.acknowledged - known))


def _not_stuck(seen: Seen) -> Iterable[str]:
    """Nothing is stuck without a reason."""
    waiting = "SELECT code, state, hold FROM operation WHERE state IN ('pending', 'sending', 'uncertain')"
    yield from (f"operation {code} is {state}" for code, state, _hold in seen.rows(waiting))
    unexplained = "SELECT code FROM operation WHERE state IN ('held', 'rejected') AND reason IS NULL"
    yield from (f"operation {code} waits without a reason" for (code,) in seen.rows(unexplained))
    yield from (f"receipt {receipt} is still to be read" for (receipt,) in seen.rows("SELECT receipt_id FROM hint"))
    yield from (f"a customer of {sale} is still looked for" for (sale,) in seen.rows("SELECT sale_id FROM identify"))
    unwell = "SELECT id, health FROM connection WHERE health <> 'active'"
    yield from (f"connection {name} is {health}" for name, health in seen.rows(unwell))


def _vouchers(seen: Seen) -> Iterable[str]:
    """Every voucher whose code is on a receipt that counts was redeemed for it, and no other was."""
    redeemed = Counter(
        str(operation["code"]).rpartition(":")[0]
        for operation in seen.sevenstamp.state.operations
        if operation["kind"] == "voucher_redeemed"
    )
    for cafe in seen.cafes:
        for receipt in cafe.receipts.values():
            code = f"{cafe.till.connector}:{cafe.account_id}:{receipt.id}"
            times = redeemed.pop(code, 0)
            if times != (1 if receipt.code else 0):
                yield f"{code} has {'a' if receipt.code else 'no'} redeem code and redeemed {times} vouchers"
    yield from (f"{code} is no receipt of any till" for code in redeemed)


def _in_order(seen: Seen) -> Iterable[str]:
    """What a receipt gives a card and takes back is applied in the order in which it was planned."""
    last: dict[tuple[str, str], int] = {}
    for operation in seen.sevenstamp.state.operations:
        if operation["kind"] not in _SIGNS:
            continue
        receipt, _, number = str(operation["code"]).rpartition(":")
        place = (receipt, str(operation["card_id"]))
        if int(number) < last.get(place, 0):
            yield f"{operation['code']} came after number {last[place]}"
        last[place] = int(number)


def _told(seen: Seen) -> Iterable[str]:
    """Every subscriber got every event, of each card in order."""
    query = (
        "SELECT delivery.subscription_id, event.id, event.lane FROM relay_delivery AS delivery "
        "JOIN relay_event AS event ON event.seq = delivery.event_seq ORDER BY delivery.seq"
    )
    sent: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for subscription, event, lane in seen.rows(query):
        sent[str(subscription)].append((str(event), str(lane)))
    for cafe in seen.cafes:
        if cafe.receipts and not seen.received[cafe.connection_id]:
            yield f"the subscriber of {cafe.key} was told of nothing"
    for subscription, events in sent.items():
        first_seen = list(dict.fromkeys(event for event, _card in seen.received[subscription]))
        missing = [event for event, _lane in events if event not in set(first_seen)]
        yield from (f"{subscription} never got {event}" for event in missing[:5])
        place = {event: number for number, event in enumerate(first_seen)}
        newest: dict[str, tuple[int, str]] = {}
        for event, lane in events:
            if event in place:
                if place[event] < newest.get(lane, (-1, ""))[0]:
                    yield f"{subscription} got {event} before {newest[lane][1]}"
                newest[lane] = max(newest.get(lane, (-1, "")), (place[event], event))


LAWS: Mapping[str, Callable[[Seen], Iterable[str]]] = {
    "every receipt's net stamps equal its entitlement": _entitlement,
    "no operation is applied twice": _once,
    "every acknowledged hook is accounted for": _acknowledged,
    "nothing is stuck without a reason": _not_stuck,
    "every voucher on a receipt is redeemed for it, once": _vouchers,
    "no receipt's operations on a card are out of order": _in_order,
    "every subscriber got everything, in order": _told,
}


def broken(seen: Seen) -> dict[str, list[str]]:
    """Map each law to what breaks it; empty lists where all is well."""
    return {name: list(law(seen)) for name, law in LAWS.items()}
