"""What the sandbox knows: cards with their stamps, vouchers, and every operation that took effect.

Owns what a change does and what it is answered with; whether it is allowed is decided before, by the endpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypedDict

from connectors.sevenstamp.sandbox.changes import (
    CardIssued,
    Change,
    StampsAdded,
    StampsReversed,
    Voucher,
    VoucherIssued,
    VoucherRedeemed,
    read_change,
    write_change,
)

JsonObject = Mapping[str, object]
"""An object of JSON that is answered."""


class Operation(TypedDict):
    """An operation that took effect, as `/_sandbox/operations` shows it."""

    card_id: str | None
    kind: str
    count: int
    code: str | None
    idempotency_key: str | None
    at: str


@dataclass(slots=True)
class StampLot:
    """What a receipt earned and no reward has used or reversal taken back."""

    receipt: str
    stamps: int


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One line of a card's history; `stamps` is negative for a reversal."""

    id: str
    type: str
    at: str
    code: str | None
    receipt: str | None
    stamps: int
    visible_at: float
    """From when on the history shows it, in milliseconds since 1970; not part of what is shown."""

    def as_json(self) -> JsonObject:
        """Return what the API shows of it."""
        return {name: value for name, value in asdict(self).items() if name != "visible_at"}


@dataclass(slots=True)
class Card:
    """A customer's card of one business; `stamps` are those towards the next reward."""

    id: str
    business: str
    number: str
    phone: str | None
    email: str | None
    issued_at: str
    name: str | None = None
    stamps: int = 0
    rewards: int = 0
    voucher_codes: list[str] = field(default_factory=list)
    """Redeem codes of its vouchers, in the order in which they were issued."""
    lots: list[StampLot] = field(default_factory=list)
    """Oldest first: the order in which rewards use them up."""
    events: list[HistoryEvent] = field(default_factory=list)

    @property
    def token(self) -> str:
        """What the QR code on the card holds."""
        return f"wp_{self.id}"

    def record_event(self, change: Change, event_type: str, stamps: int, receipt: str | None = None) -> None:
        """Write a line of history."""
        event_id = f"ev_{self.id}_{len(self.events) + 1}"
        event = HistoryEvent(event_id, event_type, change.at, change.code, receipt, stamps, change.visible_at)
        self.events.append(event)

    def use_oldest_stamps(self, count: int) -> None:
        """Take `count` stamps off the oldest lots: what a reward uses can no longer be reversed."""
        while count:
            oldest = self.lots[0]
            taken = min(count, oldest.stamps)
            oldest.stamps -= taken
            count -= taken
            if not oldest.stamps:
                self.lots.pop(0)

    def take_back(self, receipt: str, count: int) -> None:
        """Take `count` stamps off a receipt's lots, the newest first."""
        # rewards use the oldest stamps, so the newest are those that a receipt still has
        for lot in reversed(self.lots):
            if lot.receipt == receipt:
                taken = min(count, lot.stamps)
                lot.stamps -= taken
                count -= taken
        self.lots = [lot for lot in self.lots if lot.stamps]

    def reversible(self, receipt: str) -> int:
        """Count a receipt's stamps that can be taken back."""
        return sum(lot.stamps for lot in self.lots if lot.receipt == receipt)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request under an idempotency key was answered, and the digest of that request."""

    digest: str
    body: JsonObject


@dataclass(slots=True)
class State:
    """Everything the sandbox knows. With a file, every change is a line of it, read back at the next start."""

    goal: int = 8
    """How many stamps make a reward."""
    allowed: int | None = None
    """How many operations a business may have in its plan; no limit with `None`."""
    file: Path | None = None
    cards: dict[str, Card] = field(default_factory=dict)
    vouchers: dict[tuple[str, str], Voucher] = field(default_factory=dict)
    """By business and redeem code."""
    operations: list[Operation] = field(default_factory=list)
    answers: dict[tuple[str, str], StoredAnswer] = field(default_factory=dict)
    """By business and idempotency key; of successes only."""
    by_name: dict[tuple[str, str], Card] = field(default_factory=dict)
    """Cards by business and number, phone or email."""
    used: dict[str, int] = field(default_factory=dict)
    """How many operations each business has used of its plan."""

    def load(self) -> None:
        """Apply the changes that the file holds, if there is one."""
        if self.file is not None and self.file.exists():
            for line in self.file.read_text().splitlines():
                self.apply(read_change(line))

    def record(self, change: Change) -> JsonObject:
        """Apply a change, append it to the file, and return the answer to it."""
        answer = self.apply(change)
        # appended and closed at once: a sandbox that is killed has lost nothing that it answered
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(write_change(change) + "\n")
        return answer

    def apply(self, change: Change) -> JsonObject:
        """Make a change take effect and return the answer to it, which its idempotency key is answered from now on."""
        # the answer is made before the operation is listed: operation ids count from 0
        answer = self._carry_out(change)
        self.operations.append(
            Operation(
                card_id=change.card_id,
                kind=change.kind,
                count=change.count,
                code=change.code,
                idempotency_key=change.idempotency_key,
                at=change.at,
            )
        )
        if not isinstance(change, CardIssued):  # cards cost nothing of a plan
            self.used[change.business] = self.used.get(change.business, 0) + 1
        # refusals are not kept: a caller that corrects what was wrong may use its key again
        if change.idempotency_key:
            self.answers[change.business, change.idempotency_key] = StoredAnswer(change.digest, answer)
        return answer

    def _carry_out(self, change: Change) -> JsonObject:
        match change:
            case CardIssued():
                return self._issue_card(change)
            case StampsAdded():
                return self._add_stamps(change)
            case StampsReversed():
                return self._reverse_stamps(change)
            case VoucherIssued():
                return asdict(self._keep_voucher(change.business, change.voucher))
            case VoucherRedeemed():
                return self._redeem_voucher(change)

    def _issue_card(self, change: CardIssued) -> JsonObject:
        card = Card(change.card_id, change.business, change.number, change.phone, change.email, change.at)
        card.name = change.name
        self.cards[card.id] = card
        for name in (card.number, card.phone, card.email, card.token):
            # a name that a card has stays that card's: the oldest is found by it
            if name:
                self.by_name.setdefault((card.business, name), card)
        card.record_event(change, "card_issued", 0)
        return self.card_as_json(card)

    def _add_stamps(self, change: StampsAdded) -> JsonObject:
        card = self.cards[change.card_id]
        card.stamps += change.count
        card.lots.append(StampLot(change.receipt, change.count))
        card.record_event(change, "stamp_added", change.count, change.receipt)
        # one receipt may fill a card several times
        rewards = []
        while card.stamps >= self.goal:
            rewards.append(self._give_reward(card, change.code))
        return self._stamps_answer(card, rewards)

    def _give_reward(self, card: Card, code: str) -> JsonObject:
        """Turn the oldest stamps of a full card into a voucher."""
        card.stamps -= self.goal
        card.rewards += 1
        card.use_oldest_stamps(self.goal)
        voucher = Voucher(
            id=f"v_{card.id}_{card.rewards}",
            card_id=card.id,
            title="Reward",
            redeem_code=reward_code(card, card.rewards),
            code=code,
        )
        self._keep_voucher(card.business, voucher)
        return {"type": "voucher", "voucher_id": voucher.id, "redeem_code": voucher.redeem_code}

    def _keep_voucher(self, business: str, voucher: Voucher) -> Voucher:
        self.vouchers[business, voucher.redeem_code] = voucher
        if voucher.card_id in self.cards:
            self.cards[voucher.card_id].voucher_codes.append(voucher.redeem_code)
        return voucher

    def _reverse_stamps(self, change: StampsReversed) -> JsonObject:
        card = self.cards[change.card_id]
        card.take_back(change.receipt, change.count)
        card.stamps -= change.count
        card.record_event(change, "stamp_reversed", -change.count, change.receipt)
        return self._stamps_answer(card, [])

    def _stamps_answer(self, card: Card, rewards: list[JsonObject]) -> JsonObject:
        return {"operation_id": self._next_operation_id(), "card": self.card_as_json(card), "rewards": rewards}

    def _redeem_voucher(self, change: VoucherRedeemed) -> JsonObject:
        key = (change.business, change.redeem_code)
        redeemed = replace(self.vouchers[key], status="redeemed", redeemed_by_code=change.code, redeemed_at=change.at)
        self.vouchers[key] = redeemed
        return {"operation_id": self._next_operation_id(), "voucher": asdict(redeemed)}

    def _next_operation_id(self) -> str:
        return f"op_{len(self.operations)}"

    def card_as_json(self, card: Card) -> JsonObject:
        """Return a card as the API shows it, with its vouchers."""
        vouchers = [asdict(self.vouchers[card.business, code]) for code in card.voucher_codes]
        return {
            "id": card.id,
            "number": card.number,
            "active": True,
            "issued_at": card.issued_at,
            "customer": {"name": card.name, "phone": card.phone, "email": card.email},
            "stamps": card.stamps,
            "goal": self.goal,
            "goal_index": card.rewards,
            "vouchers": vouchers,
            "wallet_pass_id": card.token,
            "save_url": f"https://wallet.invalid/{card.id}",
        }


def reward_code(card: Card, number: int) -> str:
    """Return the redeem code of a card's reward, of which the first has number 1."""
    return f"GIFT{card.number}{number}"
