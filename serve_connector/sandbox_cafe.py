"""One account of the stand-in Serve: its checks with their revisions, and the signed events about them.

Owns the till's side as `openapi.yaml` says it; HTTP around it is `sandbox`'s.
"""

from __future__ import annotations

import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple, NotRequired, TypedDict

from connector_sdk.money import Money
from connector_sdk.signatures import TimestampedHmac
from serve_connector.wire import MOST_PER_PAGE

TOKEN = "serve_test_5f1c0a77d9e24b"  # noqa: S105 - of the sandbox only
SECRET = "whs_9d2e41b07c6f48a5"  # noqa: S105 - the same
_FIRST_CHECK = 9001

Failure = int | bytes
"""An answer made to fail: an HTTP status, or a body."""


class MenuItem(NamedTuple):
    """One thing on the menu; `price` is a decimal text."""

    category: str
    name: str
    price: str


MENU = {
    "FLATWHITE": MenuItem("coffee", "Flat white", "3.20"),
    "ESPRESSO": MenuItem("coffee", "Espresso", "1.90"),
    "CROISSANT": MenuItem("pastry", "Croissant", "2.40"),
    "CHEESECAKE": MenuItem("pastry", "Cheesecake", "4.80"),
}


class Item(TypedDict):
    """A line of a check, amounts as decimal texts."""

    id: str
    sku: str
    category: str
    name: str
    quantity: str
    unit_price: str
    total: str
    refunded_quantity: NotRequired[str]


class Payment(TypedDict):
    """How a part of a check was paid."""

    kind: str
    amount: str


class Guest(TypedDict):
    """Who sat at the table, as far as the till knows."""

    id: str
    phone: str | None
    email: str | None
    loyalty_code: str | None


class Check(TypedDict):
    """A check as `GET /v1/checks/{id}` writes it: amounts as decimal texts, times in UTC."""

    id: str
    number: str
    revision: int
    status: str
    opened_at: str
    closed_at: str | None
    currency: str
    total: str
    discount: str
    tip: str
    refunded: str
    items: list[Item]
    payments: list[Payment]
    guest: Guest | None
    promo_codes: list[str]
    venue_id: str


class Venue(TypedDict):
    """A venue as `GET /v1/venues` writes it."""

    id: str
    name: str
    account_id: str
    account_name: str
    currency: str
    time_zone: str
    country: str


class CheckPage(NamedTuple):
    """One page of checks, and the cursor of the next; `None` on the last."""

    checks: list[Check]
    next_cursor: str | None


@dataclass(slots=True)
class Cafe:
    """One Serve account with two venues. `page_size` bounds its pages below what the API allows."""

    token: str = TOKEN
    secret: str = SECRET
    id: str = "acc_31"
    currency: str = "EUR"
    zone: str = "Europe/Madrid"
    page_size: int = MOST_PER_PAGE
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    checks: dict[str, Check] = field(default_factory=dict)
    changes: list[tuple[datetime, str]] = field(default_factory=list)
    """When each check last changed, oldest change first."""
    opened_venues: list[Venue] = field(default_factory=list)
    fail_next: list[Failure] = field(default_factory=list)
    """Answers to give instead of the next ones."""
    calls: int = 0

    # --- what a waiter does -----------------------------------------------------------------------------------

    def open(self, *, phone: str | None = None, email: str | None = None, venue: str = "vn_12") -> str:
        """Open a check and return its id."""
        number = _FIRST_CHECK + len(self.checks)
        check_id = f"chk_{number}"
        self.checks[check_id] = {
            "id": check_id,
            "number": str(number),
            "revision": 0,
            "status": "open",
            "opened_at": write_time(self.now()),
            "closed_at": None,
            "currency": self.currency,
            "total": self.money("0"),
            "discount": self.money("0"),
            "tip": self.money("0"),
            "refunded": self.money("0"),
            "items": [],
            "payments": [],
            "guest": _guest(number, phone, email),
            "promo_codes": [],
            "venue_id": venue,
        }
        self._note_change(check_id)
        return check_id

    def money(self, amount: str) -> str:
        """Write an amount as the wire does: with the currency's own digits."""
        return Money.from_decimal(amount, self.currency).decimal

    def add(self, check: str, sku: str, quantity: str = "1") -> None:
        """Add something from the menu to a check."""
        item = MENU[sku]
        record = self.checks[check]
        total = Decimal(item.price) * Decimal(quantity)
        record["items"].append(
            {
                "id": f"li_{len(record['items']) + 1}",
                "sku": sku,
                "category": item.category,
                "name": item.name,
                "quantity": quantity,
                "unit_price": item.price,
                "total": str(total),
            }
        )
        record["total"] = self.money(str(Decimal(record["total"]) + total))
        self._note_change(check)

    def close(
        self,
        check: str,
        total: str | None = None,
        *,
        tip: str = "0",
        codes: Sequence[str] = (),
        otherwise: Mapping[str, str] | None = None,
    ) -> None:
        """Take the money (`total`, or what the lines come to), with a tip on top.

        `otherwise` is what of the total is paid without money, by kind: `gift_card`, `points`.
        """
        record = self.checks[check]
        record["total"] = self.money(total) if total is not None else record["total"]
        record["tip"], record["promo_codes"] = self.money(tip), list(codes)
        # the card pays the tip too, though the total does not hold it
        in_money = Decimal(record["total"]) + Decimal(record["tip"]) - sum(map(Decimal, (otherwise or {}).values()))
        record["payments"] = [{"kind": "card", "amount": str(in_money)}]
        for kind, amount in (otherwise or {}).items():
            record["payments"].append({"kind": kind, "amount": self.money(amount)})
        record["status"], record["closed_at"] = "closed", write_time(self.now())
        self._note_change(check)

    def sell(
        self,
        total: str = "12.50",
        *,
        phone: str | None = None,
        email: str | None = None,
        tip: str = "0",
        codes: Sequence[str] = (),
    ) -> str:
        """Open and close a check at once; return its id."""
        check = self.open(phone=phone, email=email)
        self.close(check, total, tip=tip, codes=codes)
        return check

    def correct(self, check: str, total: str) -> None:
        """Give a check another sum."""
        self.checks[check]["total"] = self.money(total)
        self._note_change(check)

    def refund(self, check: str, amount: str | None = None) -> None:
        """Give back an amount, or everything that is left."""
        record = self.checks[check]
        left = Decimal(record["total"]) - Decimal(record["refunded"])
        back = Decimal(amount) if amount is not None else left
        record["refunded"] = self.money(str(Decimal(record["refunded"]) + back))
        if back == left:
            record["status"] = "refunded"
        self._note_change(check)

    def attach(self, check: str, *, phone: str | None = None, email: str | None = None) -> None:
        """Add a guest to a check."""
        self.checks[check]["guest"] = _guest(int(self.checks[check]["number"]), phone, email)
        self._note_change(check)

    def return_item(self, check: str, sku: str, quantity: str = "1") -> None:
        """Take some of an item back, with its share of what it cost."""
        record = self.checks[check]
        item = next(item for item in record["items"] if item["sku"] == sku)
        share = Decimal(item["total"]) * Decimal(quantity) / Decimal(item["quantity"])
        # another record: what was sent of the old one must not change afterwards
        changed: Item = {**item, "refunded_quantity": quantity}
        record["items"] = [changed if other is item else other for other in record["items"]]
        self.refund(check, str(share.quantize(Decimal("0.01"))))

    def void(self, check: str) -> None:
        """Void a check, as if it had never been."""
        self.checks[check]["status"] = "voided"
        self._note_change(check)

    def _note_change(self, check: str) -> None:
        """Raise a check's revision and move it to the end of the changes."""
        record = self.checks[check]
        # a new record: what was sent of the old one must not change afterwards
        self.checks[check] = {**record, "revision": record["revision"] + 1}
        self.changes = [(at, changed) for at, changed in self.changes if changed != check]
        self.changes.append((self.now(), check))

    # --- the API ----------------------------------------------------------------------------------------------

    def venues(self) -> list[Venue]:
        """Return the account's venues: two, and those that were opened since."""
        first = [self._venue("vn_12", "Bar", self.zone), self._venue("vn_13", "Terrace", self.zone)]
        return [*first, *self.opened_venues]

    def open_venue(self, name: str, zone: str) -> str:
        """Open a venue in a time zone; return its id."""
        venue_id = f"vn_{14 + len(self.opened_venues)}"
        self.opened_venues.append(self._venue(venue_id, name, zone))
        return venue_id

    def _venue(self, venue_id: str, name: str, zone: str) -> Venue:
        return {
            "id": venue_id,
            "name": name,
            "account_id": self.id,
            "account_name": "Cafe Central",
            "currency": self.currency,
            "time_zone": zone,
            "country": "ES",
        }

    def page(self, since: datetime, cursor: str, limit: int) -> CheckPage:
        """Return checks by their last change; a cursor names the change it comes after, so nothing is missed meanwhile.

        Raises `ValueError` or `TypeError` for a cursor that is none.
        """
        # the time and the id of the last change on the page before: two changes may have the same time
        after = json.loads(urlsafe_b64decode(cursor)) if cursor else None
        size = min(limit, self.page_size)
        matches = [
            (at, check)
            for at, check in sorted(self.changes)
            if at >= since and (after is None or [at.timestamp(), check] > after)
        ]
        page = matches[:size]
        token = json.dumps([page[-1][0].timestamp(), page[-1][1]]).encode() if len(matches) > size else b""
        return CheckPage([self.checks[check] for _, check in page], urlsafe_b64encode(token).decode() or None)

    # --- events -----------------------------------------------------------------------------------------------

    def event(self, check: str, kind: str = "check.closed") -> bytes:
        """Return the body of an event about a check as it is now."""
        record = self.checks[check]
        venue = next(venue for venue in self.venues() if venue["id"] == record["venue_id"])
        return json.dumps(
            {
                "id": f"evt_{secrets.token_hex(4)}",
                "type": kind,
                "created_at": write_time(self.now()),
                "venue": {"id": venue["id"], "name": venue["name"]},
                # the envelope names the venue, so the check in it does not
                "check": {name: value for name, value in record.items() if name != "venue_id"},
            }
        ).encode()

    def signed(self, body: bytes, *, secrets_: Sequence[str] = (), at: int | None = None) -> dict[str, str]:
        """Return the headers of an event, signed by each secret (two while one is rotated)."""
        at = at if at is not None else int(self.now().timestamp())
        first, *others = [TimestampedHmac(secret).sign(body, at) for secret in secrets_ or (self.secret,)]
        # the time stands in the header once, however many signatures follow it
        further = "".join(f",{signature.partition(',')[2]}" for signature in others)
        return {"content-type": "application/json", "serve-signature": first + further}


def write_time(at: datetime) -> str:
    """Write a time as Serve does: in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _guest(number: int, phone: str | None, email: str | None) -> Guest | None:
    if not phone and not email:
        return None
    return {"id": f"g_{number}", "phone": phone, "email": email, "loyalty_code": None}
