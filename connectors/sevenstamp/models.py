"""Values that 7stamp answers with, as far as we use them.

Owns their shapes. Unknown members are ignored: a newer server must not break an older client.
"""

from __future__ import annotations

from pydantic import AwareDatetime, BaseModel, ConfigDict


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class BusinessFacts(_Answer):
    """A business: `currency` is ISO 4217, `country` ISO 3166 alpha-2, `timezone` an IANA name."""

    id: str
    name: str
    country: str
    currency: str
    timezone: str
    language: str = "en"


class Usage(_Answer):
    """Card operations this month; `allowed` is `None` for a plan without a limit."""

    used: int
    allowed: int | None = None


class Me(_Answer):
    """The owner of a key: a business, one of its locations, and the login that the key was made for."""

    business: BusinessFacts
    location_id: str | None = None
    staff_login: str
    key_status: str
    operations: Usage


class Voucher(_Answer):
    """A voucher; `code` is the reference with which it was issued, `redeemed_by_code` the one that redeemed it."""

    id: str
    redeem_code: str
    status: str
    title: str = ""
    card_id: str | None = None
    code: str | None = None
    redeemed_by_code: str | None = None
    redeemed_at: AwareDatetime | None = None

    @property
    def is_good(self) -> bool:
        """Whether it can be redeemed now."""
        return self.status in ("issued", "active")


class CardCustomer(_Answer):
    """Who has a card: a name where it is known, a phone in E.164, an email, or nobody that is known."""

    name: str | None = None
    phone: str | None = None
    email: str | None = None


class Card(_Answer):
    """A customer's card; `number` has six digits, `issued_at` orders several of one customer.

    `save_url` leads the customer to their wallet, `vouchers` are those of the card, the oldest first.
    """

    id: str
    number: str
    active: bool = True
    issued_at: AwareDatetime
    customer: CardCustomer = CardCustomer()
    stamps: int = 0
    goal: int = 0
    vouchers: tuple[Voucher, ...] = ()
    save_url: str | None = None

    @property
    def hint(self) -> str:
        """The last four digits, by which people tell cards apart."""
        return self.number[-4:]

    @property
    def good_vouchers(self) -> tuple[Voucher, ...]:
        """The vouchers that can be redeemed now, the oldest first."""
        return tuple(voucher for voucher in self.vouchers if voucher.is_good)


class HistoryEvent(_Answer):
    """One line of a card's history; `code` is the operation's reference we sent."""

    id: str
    type: str
    at: AwareDatetime
    code: str | None = None
    receipt: str | None = None
    stamps: int = 0


class Webhook(_Answer):
    """A subscription to events of a business; the secret that signs its deliveries is never shown again."""

    id: str
    url: str
    events: tuple[str, ...]
