"""A till's request as sales, by the cafe's own mapping; pure functions of body and settings.

Owns which fields make a sale, and what of a request does not fit. Paths are `expressions`', texts as money and times
are `formats`'. Nothing is guessed: what does not fit is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from connector_sdk.errors import BadPayload
from connector_sdk.expressions import Budget, TooCostly, follow_path, parse_json
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.numbers import whole_of
from connector_sdk.sale import Customer, Line, Sale, SaleStatus, Unreadable
from webhook_connector.settings import DATE_WORDS, WebhookSettings
from webhook_connector.value_formats import EPOCH, bad_payload, parse_amount, parse_quantity, parse_time, quote

MOST_RECEIPTS = 500  # of one request: each is a version of a sale, written in one transaction
COSTLY = "following {path} in what was sent costs too much: say a shorter way"
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}")
_NUMBER = re.compile(r"[0-9]{6}")
_FEWEST_DIGITS, _MOST_DIGITS = 5, 15  # of a phone
_LONGEST_PHONE = 40  # with brackets, hyphens and spaces
_LATEST = EPOCH + timedelta(days=365 * 130)
_ONE_PATH = 8  # the share of a budget that a path may take by itself


class MappedRequest(NamedTuple):
    """The sales of one request, and what in it does not fit."""

    sales: list[Sale]
    unreadable: list[Unreadable]


class Examination(NamedTuple):
    """How each field of a receipt reads, as text, and the errors of those that do not fit, by field."""

    texts: dict[str, str]
    errors: dict[str, BadPayload]


class _Status(NamedTuple):
    """A receipt's status, and whether it says that all money was given back."""

    status: SaleStatus
    all_refunded: bool = False


def sales_of(body: bytes, settings: WebhookSettings, budget: Budget | None = None) -> MappedRequest:
    """Map the receipts of one request. Raises `BadPayload` where nothing can be said of any."""
    budget = budget or Budget()
    mapped = MappedRequest([], [])
    for raw in receipts_in(body, settings, budget):
        try:
            mapped.sales.append(sale_of(raw, settings, budget))
        except BadPayload as error:
            # the whole body is kept: it is read again once the settings are better
            mapped.unreadable.append(Unreadable.of(error, _receipt_id(raw, settings, budget), body))
    return mapped


def receipts_in(body: bytes, settings: WebhookSettings, budget: Budget | None = None) -> list[object]:
    """Return the receipts of one request, as they were sent. Raises `BadPayload`."""
    request = parse_json(body)
    try:
        value = follow_path(settings.map_receipts, request, budget) if settings.map_receipts else request
    except TooCostly:
        raise bad_payload("receipts", COSTLY, body, path=settings.map_receipts) from None
    if value is None:
        raise bad_payload("receipts", "nothing is at {path}", body, path=settings.map_receipts)
    receipts = value if isinstance(value, list) else [value]
    if len(receipts) > MOST_RECEIPTS:
        raise bad_payload("receipts", "are more than {number}", body, number=MOST_RECEIPTS)
    return receipts


def sale_of(raw: object, settings: WebhookSettings, budget: Budget | None = None) -> Sale:
    """Map one receipt. Raises `BadPayload` with the field and why."""
    if not isinstance(raw, dict):
        raise bad_payload("receipt", "is not an object")
    try:
        return _Receipt(raw, settings, budget).sale()
    except ValidationError as error:
        raise _refused_by_sale(error) from None


def _refused_by_sale(error: ValidationError, within: str = "") -> BadPayload:
    """Say what the sale's own model refuses, by field."""
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "receipt"
    return BadPayload(f"{within}.{where}" if within else where, str(first["msg"]).removeprefix("Value error, "))


def examine(raw: object, settings: WebhookSettings) -> Examination:
    """Read each field of a receipt by itself, whatever is wrong with the others."""
    examination = Examination({}, {})
    if not isinstance(raw, dict):
        examination.errors["receipts"] = bad_payload("receipts", "is not an object")
        return examination
    # each field has a share of its own, so that a costly path is the one that is named
    for field, read in _Receipt(raw, settings, Budget(), each=_ONE_PATH).readers():
        try:
            text = read()
        except BadPayload as error:
            examination.errors[field] = error
        except ValidationError as error:
            examination.errors[field] = _refused_by_sale(error, field)
        else:
            if text:
                examination.texts[field] = text
    return examination


def _receipt_id(raw: object, settings: WebhookSettings, budget: Budget) -> str | None:
    """Return the id of a receipt that does not fit, if it can still be read within the budget of its request."""
    if not isinstance(raw, dict):
        return None
    try:
        return _Receipt(raw, settings, budget).read_text("receipt_id") or None
    except BadPayload:
        return None


class _Receipt:
    """One receipt under a mapping. Every method raises `BadPayload` with the field where something does not fit."""

    def __init__(
        self, raw: Mapping[str, object], settings: WebhookSettings, budget: Budget | None = None, *, each: int = 0
    ) -> None:
        """`each` is the share of the budget that each of the `readers` has for itself; 0 where they share it."""
        self._raw = raw
        self._settings = settings
        self._budget = budget or Budget()
        self._each = each

    def sale(self) -> Sale:
        """Map the receipt. Raises also pydantic's `ValidationError`."""
        # first of all: amounts of another currency must never be read as the till's own
        self.currency()
        paid = self.paid()
        status, all_refunded = self.status()
        refunded = self._refunded()
        closed_at = self._time("closed_at")
        if status is SaleStatus.closed and closed_at is None:
            raise self._nothing("closed_at")
        return Sale(
            receipt_id=self.read_needed_text("receipt_id"),
            version=self.version(),
            status=status,
            closed_at=None if status is SaleStatus.open else closed_at,
            paid=paid,
            refunded=paid if all_refunded and refunded < paid else refunded,
            customer=self._customer(),
            lines=tuple(self.lines()),
            redeem_codes=self.codes(),
            location_id=self.read_text("location") or None,
        )

    def readers(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Yield each field that a path is given for, and what reads it as text."""
        request_budget = self._budget
        for field, read in _READERS.items():
            if self._path(field):
                self._budget = request_budget.part(self._each) if self._each else request_budget
                yield field, lambda read=read: read(self)  # type: ignore[misc]

    # --- reading ----------------------------------------------------------------------------------------------

    def _path(self, field: str) -> str:
        path: str = getattr(self._settings, f"map_{field}")
        return path

    def _follow(self, field: str, within: object) -> object:
        """Return what is at a field's path. Raises `BadPayload` where following it costs too much."""
        try:
            return follow_path(self._path(field), within, self._budget)
        except TooCostly:
            raise bad_payload(field, COSTLY, path=self._path(field)) from None

    def _nothing(self, field: str, where: str = "") -> BadPayload:
        return bad_payload(where or field, "nothing is at {path}", path=self._path(field))

    def read_text(self, field: str, within: object = None) -> str:
        """Read one text; empty where there is nothing. Several different values are refused, as is what is no text."""
        value = self._follow(field, self._raw if within is None else within)
        if isinstance(value, list):
            value = self._only(field, value)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise bad_payload(field, "what is at {path} is no text or number", path=self._path(field))
        return value.strip()

    def _only(self, field: str, values: list[object]) -> object:
        """Return the value that a list holds, which may hold it several times; `None` where it holds nothing."""
        present = [value for value in values if value is not None]
        different = dict.fromkeys(str(value) for value in present)
        if len(different) > 1:
            raise bad_payload(field, "{number} values are at {path}", number=len(different), path=self._path(field))
        return present[0] if present else None

    def read_needed_text(self, field: str) -> str:
        """Read one text that must be there."""
        text = self.read_text(field)
        if not text:
            raise self._nothing(field)
        return text

    # --- money ------------------------------------------------------------------------------------------------

    def currency(self) -> str:
        """Read the receipt's own currency, where it says one; another than the till's is refused."""
        currency = self.read_text("currency").upper()
        # a receipt that says none is refused too, where the cafe said that each says one
        if self._settings.map_currency and currency != self._settings.currency:
            raise bad_payload("currency", "is not {currency}", currency=self._settings.currency)
        return currency

    def paid(self) -> Money:
        """Read what was paid, without the tip."""
        paid, tip = self.money("paid"), self.money("tip")
        if paid is None:
            raise self._nothing("paid")
        if paid.minor < 0 or (tip is not None and tip.minor < 0):
            raise bad_payload("paid" if paid.minor < 0 else "tip", "is below zero")
        if tip is not None and paid < tip:
            raise bad_payload("tip", "is more than was paid")
        return paid - tip if tip is not None else paid

    def _refunded(self) -> Money:
        """Read what went back, which some tills write with a minus; a tip that went with it is no part of it."""
        refunded = self.money("refunded") or Money.zero(self._settings.currency)
        return Money(min(abs(refunded.minor), self.paid().minor), refunded.currency)

    def money(self, field: str) -> Money | None:
        """Add up what is at a path, in exact minor units; `None` where nothing is."""
        value = self._follow(field, self._raw)
        amounts = [amount for amount in _as_list(value) if amount is not None and amount != ""]
        zero = Money.zero(self._settings.currency)
        if not amounts:
            # an empty list of refunds says that nothing went back; a field that is not there says nothing
            return zero if isinstance(value, list) else None
        try:
            return sum((self._amount(field, amount) for amount in amounts), zero)
        except ValueError as error:
            raise BadPayload(field, str(error)) from None

    def _amount(self, field: str, value: object) -> Money:
        if not isinstance(value, str):
            raise bad_payload(field, "what is at {path} is no number", path=self._path(field))
        return parse_amount(value, field, self._settings)

    # --- time and state ---------------------------------------------------------------------------------------

    def _time(self, field: str) -> datetime | None:
        text = self.read_text(field)
        if not text:
            return None
        at = parse_time(text, self._settings)
        if at is None or not EPOCH <= at < _LATEST:
            raise bad_payload(
                field,
                "{found} is no time written as {kind}",
                found=quote(text),
                kind=Message(DATE_WORDS[self._settings.dates]),
            )
        return at

    def closed_at(self) -> str:
        """Read when it was closed, as the till's clock shows it."""
        at = self._time("closed_at")
        return (
            f"{at.astimezone(ZoneInfo(self._settings.zone)):%Y-%m-%d %H:%M}"
            if at
            else self.read_needed_text("closed_at")
        )

    def version(self) -> int | None:
        """Read a whole number, or a time as microseconds; `None` where the till has neither."""
        text = self.read_text("version")
        if not text:
            return None
        if text.isdigit():
            with suppress(ValueError):  # a time may be all digits too, and longer than any number
                return whole_of(text)
        at = parse_time(text, self._settings)
        if at is None:
            raise bad_payload("version", "{found} is neither a whole number nor a time", found=quote(text))
        return (at - EPOCH) // timedelta(microseconds=1)

    def status(self) -> _Status:
        """Read the status by the words that the cafe explained; without a path for it, what is sent is closed."""
        word = self.read_text("status").lower()
        if not self._settings.map_status:
            return _Status(SaleStatus.closed)
        if word in self._settings.statuses("voided_statuses"):
            return _Status(SaleStatus.voided)
        if word in self._settings.statuses("refunded_statuses"):
            return _Status(SaleStatus.closed, all_refunded=True)
        return _Status(SaleStatus.closed if self._is_closed(word) else SaleStatus.open)

    def _is_closed(self, word: str) -> bool:
        closed = self._settings.statuses("closed_statuses")
        if word in closed or (word and not closed):
            return True
        if word and word not in self._settings.statuses("open_statuses"):
            # it may be another word for paid: a stamp must not be lost over it
            raise bad_payload("status", "{found} is a word that nobody has explained", found=quote(word))
        return False

    # --- who and what -----------------------------------------------------------------------------------------

    def _customer(self) -> Customer | None:
        """Read who bought; a name that cannot be one is left out, and the others are still good."""
        phone, email, number = self.read_text("phone"), self.read_text("email"), self.read_text("number")
        customer = Customer(
            number=number if _NUMBER.fullmatch(number) else None,
            phone=phone if _may_be_phone(phone) else None,
            email=email if _EMAIL.fullmatch(email) else None,
        )
        return customer or None

    def codes(self) -> tuple[str, ...]:
        """Read redeem codes: a text or a list of them."""
        codes = _as_list(self._follow("codes", self._raw))
        return tuple(dict.fromkeys(code.strip() for code in codes if isinstance(code, str) and code.strip()))

    def lines(self) -> Iterator[Line]:
        """Read what was bought."""
        lines = self._follow("lines", self._raw) or []
        if not isinstance(lines, list):
            raise bad_payload("lines", "what is at {path} is no list", path=self._path("lines"))
        for at, line in enumerate(lines):
            yield self._line(line, at)

    def _line(self, raw: object, at: int) -> Line:
        product = self.read_text("product", raw) if isinstance(raw, dict) else ""
        if not product:
            raise self._nothing("product", f"lines.{at}.product")
        quantity = self._quantity("quantity", raw, at, "1")
        return Line(
            product_id=product,
            category_id=self.read_text("category", raw) or None,
            quantity=quantity,
            refunded_quantity=min(quantity, self._quantity("returned", raw, at, "0")),
        )

    def _quantity(self, field: str, raw: object, at: int, default: str) -> Decimal:
        text = self.read_text(field, raw) or default
        try:
            # how many came back is written with a minus by some tills
            return parse_quantity(text.removeprefix("-") if field == "returned" else text, self._settings)
        except ValueError:
            raise bad_payload(f"lines.{at}.{field}", "{found} is no quantity", found=quote(text)) from None


_READERS: Mapping[str, Callable[[_Receipt], str]] = {
    "receipt_id": lambda receipt: receipt.read_needed_text("receipt_id"),
    "paid": lambda receipt: str(receipt.paid()),
    "tip": lambda receipt: str(receipt.money("tip") or ""),
    "refunded": lambda receipt: str(receipt.money("refunded") or ""),
    "closed_at": _Receipt.closed_at,
    "version": lambda receipt: receipt.read_text("version") if receipt.version() is not None else "",
    "status": lambda receipt: receipt.status().status.value if receipt.read_text("status") else "",
    "codes": lambda receipt: ", ".join(receipt.codes()),
    "lines": lambda receipt: ", ".join(f"{line.quantity} × {line.product_id}" for line in receipt.lines()),
    "phone": lambda receipt: receipt.read_text("phone"),
    "email": lambda receipt: receipt.read_text("email"),
    "number": lambda receipt: receipt.read_text("number"),
    "location": lambda receipt: receipt.read_text("location"),
    "currency": _Receipt.currency,
}
"""How a field of a receipt is read as text, to be shown; what does not belong to a whole receipt is not among them."""


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _may_be_phone(text: str) -> bool:
    digits = sum(sign.isdigit() for sign in text)
    return _FEWEST_DIGITS <= digits <= _MOST_DIGITS and len(text) <= _LONGEST_PHONE
