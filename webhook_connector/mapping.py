"""A till's request as sales, by the cafe's own mapping; pure functions of body and settings.

Owns how text becomes money, time and status; paths are `expressions`'. Nothing is guessed: what does not fit is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from connector_sdk.errors import BadPayload
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.numbers import decimal_of, quantity_of, whole_of
from connector_sdk.sale import Customer, Line, Sale, SaleStatus, Unreadable
from webhook_connector.expressions import Budget, TooCostly, found_in, parsed
from webhook_connector.patterns import time_by
from webhook_connector.settings import DATE_WORDS, Dates, DecimalSign, Units, WebhookSettings

MOST_RECEIPTS = 500
COSTLY = "following {path} in what was sent costs too much: say a shorter way"
_GROUPED = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]{1,20})?")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{3,180}")
_NUMBER = re.compile(r"[0-9]{6}")
_PHONE_DIGITS = 6  # the least that somebody's phone or 7stamp number has
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEVERAL_WORDS = re.compile(r"[^\W\d_]{2,40}[\s,;]{1,40}[^\W\d_]{2}")  # as a name has
_LOOKED_AT = 200  # of what was found; no more of it is shown
_LONGEST_TIME = 100
_ONE_PATH = 8  # the share of a budget that a path may take by itself
_SIGNS = {
    DecimalSign.dot: "{found} is no number with a decimal dot",
    DecimalSign.comma: "{found} is no number with a decimal comma",
}
_SWAP = str.maketrans(",.", ".,")


def sales_of(
    body: bytes, settings: WebhookSettings, budget: Budget | None = None
) -> tuple[list[Sale], list[Unreadable]]:
    """The sales of one request, and what in it does not fit. Raises `BadPayload` where nothing can be said of any."""
    budget = budget or Budget()
    sales: list[Sale] = []
    unreadable: list[Unreadable] = []
    for raw in receipts_in(body, settings, budget):
        try:
            sales.append(sale_of(raw, settings, budget))
        except BadPayload as error:
            unreadable.append(Unreadable.of(error, _named(raw, settings, budget), body))
    return sales, unreadable


def receipts_in(body: bytes, settings: WebhookSettings, budget: Budget | None = None) -> list[Any]:
    """The receipts of one request, as they were sent. Raises `BadPayload`."""
    whole = parsed(body)
    try:
        found = found_in(settings.map_receipts, whole, budget) if settings.map_receipts else whole
    except TooCostly:
        raise wrong("receipts", COSTLY, body, path=settings.map_receipts) from None
    if found is None:
        raise wrong("receipts", "nothing is at {path}", body, path=settings.map_receipts)
    receipts = found if isinstance(found, list) else [found]
    if len(receipts) > MOST_RECEIPTS:
        raise wrong("receipts", "are more than {number}", body, number=MOST_RECEIPTS)
    return receipts


def sale_of(raw: Any, settings: WebhookSettings, budget: Budget | None = None) -> Sale:
    """Map one receipt. Raises `BadPayload` with the field and why."""
    if not isinstance(raw, dict):
        raise wrong("receipt", "is not an object")
    try:
        return _Receipt(raw, settings, budget).sale()
    except ValidationError as error:
        raise _unfit(error) from None


def _unfit(error: ValidationError, within: str = "") -> BadPayload:
    """What the sale itself cannot take, by field."""
    first = error.errors(include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "receipt"
    return BadPayload(f"{within}.{where}" if within else where, str(first["msg"]).removeprefix("Value error, "))


def amount_of(text: str, settings: WebhookSettings) -> Money:
    """One amount as it was sent. Raises `BadPayload`, `ValueError`."""
    return _Receipt({}, settings).amount("paid", text)


def examined(raw: Any, settings: WebhookSettings) -> tuple[dict[str, str], dict[str, BadPayload]]:
    """What each field of a receipt reads as, and what is wrong with it: each by itself, whatever the others say."""
    found: dict[str, str] = {}
    bad: dict[str, BadPayload] = {}
    if not isinstance(raw, dict):
        return found, {"receipts": wrong("receipts", "is not an object")}
    for field, read in _Receipt(raw, settings, Budget(), each=_ONE_PATH).parts():
        try:
            text = read()
        except BadPayload as error:
            bad[field] = error
        except ValidationError as error:
            bad[field] = _unfit(error, field)
        else:
            if text:
                found[field] = text
    return found, bad


def wrong(where: str, text: str, body: bytes = b"", **params: Any) -> BadPayload:
    """What does not fit, as a sentence that can be said in any language."""
    words = {name: value.id if isinstance(value, Message) else value for name, value in params.items()}
    return BadPayload(where, text.format(**words), body, said=Message(text, params))


def _quoted(text: str) -> str:
    """What was found, for a reason that the journal keeps; a path may lead to somebody's phone or email by mistake."""
    text = text[:_LOOKED_AT]
    if "@" in text or sum(sign.isdigit() for sign in text) >= _PHONE_DIGITS or _SEVERAL_WORDS.search(text):
        return "what was found"
    shown = text[:40].encode("utf-8", "replace").decode()  # half a character is no text
    return f"“{shown}”"


def _named(raw: Any, settings: WebhookSettings, budget: Budget) -> str | None:
    """The id of a receipt that does not fit, if it can still be read within the budget of its request."""
    try:
        return _Receipt(raw, settings, budget).value("receipt_id") or None if isinstance(raw, dict) else None
    except BadPayload:
        return None


class _Receipt:
    """One receipt under a mapping."""

    def __init__(
        self, raw: dict[str, Any], settings: WebhookSettings, budget: Budget | None = None, *, each: int = 0
    ) -> None:
        """`each` is the share of the budget that each field has for itself, so that a costly path is the one named."""
        self._raw = raw
        self._set = settings
        self._budget = budget or Budget()
        self._each = each

    def sale(self) -> Sale:
        self._currency()
        paid = self._paid()
        status, all_back = self._status()
        refunded = self._money("refunded") or Money.zero(self._set.currency)
        refunded = Money(abs(refunded.minor), refunded.currency)  # some tills write what goes back with a minus
        closed_at = self._time("closed_at")
        if status is SaleStatus.closed and closed_at is None:
            raise self._nothing("closed_at")
        return Sale(
            receipt_id=self._needed("receipt_id"),
            version=self._version(),
            status=status,
            closed_at=None if status is SaleStatus.open else closed_at,
            paid=paid,
            refunded=paid if all_back and refunded < paid else refunded,
            customer=self._customer(),
            lines=tuple(self._lines()),
            redeem_codes=self._codes(),
            location_id=self.value("location") or None,
        )

    def parts(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Each field that a path is given for, and how it is read, as text."""
        readings: dict[str, Callable[[], str]] = {
            "receipt_id": lambda: self._needed("receipt_id"),
            "paid": lambda: str(self._paid()),
            "tip": lambda: str(self._money("tip") or ""),
            "refunded": lambda: str(self._money("refunded") or ""),
            "closed_at": self._closed_at,
            "version": lambda: self.value("version") if self._version() is not None else "",
            "status": lambda: self._status()[0].value if self.value("status") else "",
            "codes": lambda: ", ".join(self._codes()),
            "lines": lambda: ", ".join(f"{one.quantity} × {one.product_id}" for one in self._lines()),
            **{name: lambda name=name: self.value(name) for name in ("phone", "email", "number", "location")},  # type: ignore[misc]
            "currency": self._currency,
        }
        whole = self._budget
        for field, read in readings.items():
            if self._path(field):
                self._budget = whole.part(self._each) if self._each else whole
                yield field, read

    def _closed_at(self) -> str:
        """When it was closed, as the till's clock shows it."""
        at = self._time("closed_at")
        return f"{at.astimezone(ZoneInfo(self._set.zone)):%Y-%m-%d %H:%M}" if at else self._needed("closed_at")

    # --- reading ----------------------------------------------------------------------------------------------

    def _path(self, field: str) -> str:
        found: str = getattr(self._set, f"map_{field}")
        return found

    def _found(self, field: str, within: Any) -> Any:
        """What is at a field's path. Raises `BadPayload` where following it costs too much."""
        try:
            return found_in(self._path(field), within, self._budget)
        except TooCostly:
            raise wrong(field, COSTLY, path=self._path(field)) from None

    def _nothing(self, field: str, where: str = "") -> BadPayload:
        return wrong(where or field, "nothing is at {path}", path=self._path(field))

    def value(self, field: str, within: Any = None) -> str:
        """One text; empty where there is nothing. Raises `BadPayload` for several, or what is no text."""
        found = self._found(field, self._raw if within is None else within)
        if isinstance(found, list):
            several = list(dict.fromkeys(str(one) for one in found if one is not None))
            if len(several) > 1:
                raise wrong(field, "{number} values are at {path}", number=len(several), path=self._path(field))
            found = next((one for one in found if one is not None), None)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise wrong(field, "what is at {path} is no text or number", path=self._path(field))
        return found.strip()

    def _needed(self, field: str) -> str:
        found = self.value(field)
        if not found:
            raise self._nothing(field)
        return found

    # --- money ------------------------------------------------------------------------------------------------

    def _currency(self) -> str:
        """The receipt's own currency, where it says one. Raises `BadPayload` for another than the till's."""
        found = self.value("currency").upper()
        if self._set.map_currency and found != self._set.currency:
            raise wrong("currency", "is not {currency}", currency=self._set.currency)
        return found

    def _paid(self) -> Money:
        paid, tip = self._money("paid"), self._money("tip")
        if paid is None:
            raise self._nothing("paid")
        if paid.minor < 0 or (tip is not None and tip.minor < 0):
            raise wrong("paid" if paid.minor < 0 else "tip", "is below zero")
        if tip is not None and paid < tip:
            raise wrong("tip", "is more than was paid")
        return paid - tip if tip is not None else paid

    def _money(self, field: str) -> Money | None:
        """The sum of what is at a path, in exact minor units; `None` where nothing is."""
        found = self._found(field, self._raw)
        texts = [one for one in (found if isinstance(found, list) else [found]) if one is not None and one != ""]
        if not texts:
            return Money.zero(self._set.currency) if isinstance(found, list) else None
        total = Money.zero(self._set.currency)
        try:
            for one in texts:
                total += self.amount(field, one)
        except ValueError as error:
            raise BadPayload(field, str(error)) from None
        return total

    def amount(self, field: str, value: Any) -> Money:
        """One amount. Raises `BadPayload`, `ValueError`."""
        if not isinstance(value, str):
            raise wrong(field, "what is at {path} is no number", path=self._path(field))
        text = "".join(value.split())
        if self._set.units is Units.minor:
            try:
                minor = whole_of(text)
            except ValueError:
                raise wrong(field, "{found} is no whole number of minor units", found=_quoted(text)) from None
            return Money(minor, self._set.currency)
        if self._set.decimal_sign is DecimalSign.comma:
            text = text.translate(_SWAP)
        if _GROUPED.fullmatch(text):
            text = text.replace(",", "")
        try:
            amount = decimal_of(text)
        except ValueError:
            raise wrong(field, _SIGNS[self._set.decimal_sign], found=_quoted(value)) from None
        return Money.from_decimal(amount, self._set.currency)

    # --- time and state ---------------------------------------------------------------------------------------

    def _time(self, field: str) -> datetime | None:
        text = self.value(field)
        if not text:
            return None
        at = self._moment(text)
        if at is None or not _EPOCH <= at < _EPOCH + timedelta(days=365 * 130):
            raise wrong(
                field,
                "{found} is no time written as {kind}",
                found=_quoted(text),
                kind=Message(DATE_WORDS[self._set.dates]),
            )
        return at

    def _moment(self, text: str) -> datetime | None:
        if len(text) > _LONGEST_TIME:
            return None
        try:
            match self._set.dates:
                case Dates.iso:
                    at = datetime.fromisoformat(text)
                case Dates.pattern:
                    at = time_by(self._set.date_pattern, text)
                case Dates.unix | Dates.unix_ms as kind:
                    units = 10**6 if kind is Dates.unix else 1000
                    return _EPOCH + timedelta(microseconds=int(decimal_of(text) * units))
        except (ValueError, OverflowError):
            return None
        try:
            zoned = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(self._set.dates_zone or self._set.zone))
            return zoned.astimezone(UTC)
        except OverflowError:
            return None

    def _version(self) -> int | None:
        """A whole number, or a time as microseconds; `None` where the till has neither."""
        text = self.value("version")
        if not text:
            return None
        if text.isdigit():
            with suppress(ValueError):  # a time may be all digits too, and longer than any number
                return whole_of(text)
        at = self._moment(text)
        if at is None:
            raise wrong("version", "{found} is neither a whole number nor a time", found=_quoted(text))
        return (at - _EPOCH) // timedelta(microseconds=1)

    def _status(self) -> tuple[SaleStatus, bool]:
        """The status, and whether it says that all money was given back."""
        found = self.value("status").lower()
        if not self._set.map_status:
            return SaleStatus.closed, False
        if found in self._set.statuses("voided_statuses"):
            return SaleStatus.voided, False
        if found in self._set.statuses("refunded_statuses"):
            return SaleStatus.closed, True
        closed = self._set.statuses("closed_statuses")
        if found in closed or (found and not closed):
            return SaleStatus.closed, False
        if found and found not in self._set.statuses("open_statuses"):
            # it may be another word for paid: a stamp must not be lost over it
            raise wrong("status", "{found} is a word that nobody has explained", found=_quoted(found))
        return SaleStatus.open, False

    # --- who and what -----------------------------------------------------------------------------------------

    def _customer(self) -> Customer | None:
        """Who bought; a name that cannot be one is left out, the others are still good."""
        phone, email, number = self.value("phone"), self.value("email"), self.value("number")
        digits = sum(sign.isdigit() for sign in phone)
        who = Customer(
            number=number if _NUMBER.fullmatch(number) else None,
            phone=phone if 5 <= digits <= 15 and len(phone) <= 40 else None,
            email=email if _EMAIL.fullmatch(email) else None,
        )
        return who or None

    def _codes(self) -> tuple[str, ...]:
        found = self._found("codes", self._raw)
        codes = found if isinstance(found, list) else [found]
        return tuple(dict.fromkeys(one.strip() for one in codes if isinstance(one, str) and one.strip()))

    def _lines(self) -> Iterator[Line]:
        found = self._found("lines", self._raw) or []
        if not isinstance(found, list):
            raise wrong("lines", "what is at {path} is no list", path=self._path("lines"))
        for at, one in enumerate(found):
            product = self.value("product", one) if isinstance(one, dict) else ""
            if not product:
                raise self._nothing("product", f"lines.{at}.product")
            quantity = self.value("quantity", one) or "1"
            plain = quantity.translate(_SWAP) if self._set.decimal_sign is DecimalSign.comma else quantity
            try:
                exact = quantity_of(plain)
            except ValueError:
                raise wrong(f"lines.{at}.quantity", "{found} is no quantity", found=_quoted(quantity)) from None
            yield Line(product_id=product, category_id=self.value("category", one) or None, quantity=exact)
