"""Cafes that sell, correct, refund and change customers at random, each at a till of its kind.

Owns what each receipt must earn, written down as it happens and not read from anything that is tested.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from poster_connector.sandbox import Account, PosterSandbox
from serve_connector.sandbox import ServeSandbox
from serve_connector.sandbox_cafe import Cafe as ServeAccount
from square_connector.sandbox import UNAVAILABLE, SquareSandbox
from square_connector.sandbox_ticket import Line, Ticket

STAMP = 1000
"""Hundredths that earn one stamp."""


@dataclass(slots=True)
class Receipt:
    """A receipt as it must end: amounts in hundredths."""

    id: str
    paid: int
    phone: str | None
    refunded: int = 0
    voided: bool = False
    code: str | None = None
    is_claimed: bool = False
    """Whether a guest has scanned it: then no cashier attaches anybody any more."""

    @property
    def stamps(self) -> int:
        """What its customer's card must have of it."""
        return 0 if self.voided or self.phone is None else (self.paid - self.refunded) // STAMP


@dataclass(frozen=True, slots=True)
class HookPost:
    """A hook as the till would post it: where, with which headers and body, about which receipt."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    receipt: str


class Till(Protocol):
    """What a till can do to a receipt; amounts in hundredths."""

    connector: str

    def sell(self, phone: str | None, paid: int, code: str | None) -> str:
        """Close a receipt; return its id."""

    def correct(self, receipt: str, paid: int) -> None:
        """Give it another sum."""

    def refund(self, receipt: str) -> None:
        """Give all of it back."""

    def attach(self, receipt: str, phone: str) -> None:
        """Name its customer."""

    def hook(self, receipt: str) -> HookPost:
        """Return what the till posts about a receipt as it is now."""

    def fail(self, times: int) -> None:
        """Answer the next calls with an error."""


@dataclass
class PosterTill:
    """One Poster account."""

    account: Account
    connector: str = "poster"

    def sell(self, phone: str | None, paid: int, code: str | None) -> str:
        client = self.account.client(phone) if phone else 0
        return str(self.account.sell(client, paid, comment=f"code {code}" if code else None))

    def correct(self, receipt: str, paid: int) -> None:
        self.account.correct(int(receipt), paid)

    def refund(self, receipt: str) -> None:
        self.account.refund(int(receipt))

    def attach(self, receipt: str, phone: str) -> None:
        self.account.attach(int(receipt), self.account.client(phone))

    def hook(self, receipt: str) -> HookPost:
        return HookPost("/hooks/tills/poster", {}, self.account.hook(int(receipt), "changed"), receipt)

    def fail(self, times: int) -> None:
        self.account.fail_next += ["503"] * times


@dataclass
class ServeTill:
    """One Serve account, whose hooks go to an address of its own."""

    cafe: ServeAccount
    path: str = ""
    connector: str = "serve"

    def sell(self, phone: str | None, paid: int, code: str | None) -> str:
        return self.cafe.sell(_decimal(paid), phone=phone, codes=[code] if code else [])

    def correct(self, receipt: str, paid: int) -> None:
        self.cafe.correct(receipt, _decimal(paid))

    def refund(self, receipt: str) -> None:
        self.cafe.refund(receipt)

    def attach(self, receipt: str, phone: str) -> None:
        self.cafe.attach(receipt, phone=phone)

    def hook(self, receipt: str) -> HookPost:
        body = self.cafe.event(receipt)
        return HookPost(self.path, self.cafe.signed(body), body, receipt)

    def fail(self, times: int) -> None:
        self.cafe.fail_next += [503] * times


@dataclass
class SquareTill:
    """One seller of Square."""

    sandbox: SquareSandbox
    connector: str = "square"

    def sell(self, phone: str | None, paid: int, code: str | None) -> str:
        seller = self.sandbox.seller
        customer = seller.customer_of(phone) if phone else None
        ticket = Ticket(lines=(Line.custom_amount(paid, note=f"code {code}" if code else None),), customer=customer)
        return seller.sell(ticket)

    def correct(self, receipt: str, paid: int) -> None:
        self.sandbox.seller.correct(receipt, paid)

    def refund(self, receipt: str) -> None:
        self.sandbox.seller.refund_everything(receipt)

    def attach(self, receipt: str, phone: str) -> None:
        self.sandbox.seller.attach_customer(receipt, self.sandbox.seller.customer_of(phone))

    def hook(self, receipt: str) -> HookPost:
        self.sandbox.take_hooks()
        signed = self.sandbox.hook(receipt)
        return HookPost("/hooks/tills/square", signed.headers, signed.body, receipt)

    def fail(self, times: int) -> None:
        self.sandbox.fail_next += [UNAVAILABLE] * times


def _decimal(hundredths: int) -> str:
    return str(Decimal(hundredths) / 100)


@dataclass
class Cafe:
    """A cafe with its till, its people and what its receipts must earn."""

    till: Till
    key: str
    chance: random.Random
    phones: list[str]
    codes: list[str] = field(default_factory=list)
    """Redeem codes of its vouchers that no receipt has used."""
    receipts: dict[str, Receipt] = field(default_factory=dict)
    connection_id: str = ""
    account_id: str = ""

    def act(self) -> Receipt:
        """Do what a cashier does next: mostly a sale, sometimes a change to a former one."""
        recent = list(self.receipts.values())[-40:]
        # one with a code stays: what becomes of a voucher whose receipt is taken back is for a person
        changeable = [receipt for receipt in recent if not receipt.refunded and not receipt.code]
        if not changeable or self.chance.random() < 0.65:
            return self._sell()
        receipt, does = self.chance.choice(changeable), self.chance.random()
        if does < 0.5 and self.till.connector != "square":
            receipt.paid = self._amount()
            self.till.correct(receipt.id, receipt.paid)
        elif does < 0.8:
            receipt.refunded = receipt.paid
            self.till.refund(receipt.id)
        elif not receipt.is_claimed and (receipt.phone is None or self.till.connector == "poster"):
            receipt.phone = self.chance.choice(self.phones)
            self.till.attach(receipt.id, receipt.phone)
        return receipt

    def leave_receipt(self) -> Receipt | None:
        """Leave a receipt to a guest who was not attached at the till; `None` where there is none."""
        recent = list(self.receipts.values())[-40:]
        left = [one for one in recent if one.phone is None and not one.is_claimed and not one.refunded]
        if not left:
            return None
        receipt = self.chance.choice(left)
        receipt.is_claimed = True
        return receipt

    def _amount(self) -> int:
        return self.chance.randint(5, 60) * 100

    def _sell(self) -> Receipt:
        phone = self.chance.choice(self.phones) if self.chance.random() < 0.9 else None
        code = self.codes.pop() if self.codes and self.chance.random() < 0.2 else None
        paid = self._amount()
        receipt_id = self.till.sell(phone, paid, code)
        self.receipts[receipt_id] = receipt = Receipt(receipt_id, paid, phone, code=code)
        return receipt


__all__ = ["Cafe", "HookPost", "PosterSandbox", "PosterTill", "Receipt", "ServeSandbox", "ServeTill", "SquareTill"]
