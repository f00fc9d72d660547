"""The search for receipts: a text is read as a number, a phone, a card, an amount, a day or a time, in any mixture.

Owns the reading of the text into search terms: each word is everything it can be, and a receipt must fit all words.
Finding the receipts is `connectors.store.queries.receipts`'.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from babel import Locale
from babel.numbers import get_currency_symbol

from connector_sdk.money import Money
from connectors.domain.clock import SECOND, micros, moment
from connectors.domain.person import Reference, parse_phone
from connectors.store.queries.receipts import SearchTerm
from connectors.web.console.typed_amounts import parse_amount

Span = tuple[int, int]
"""From a moment up to another, in UTC microseconds."""

_MOST_WORDS = 5
_DAYS_BACK = 28
_CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]([0-5]\d)(?::[0-5]\d)?", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_SHORT_DAY = re.compile(r"(\d{1,2})[./](\d{1,2})(?:[./](\d{4}))?", re.ASCII)
_PHONE = re.compile(r"\+?[\d\s()-]{7,24}", re.ASCII)
_HALF_DAY = re.compile(r"\b(\d{1,2}):([0-5]\d)(?::[0-5]\d)?\s*(am|pm|pg|ptg)\b", re.ASCII | re.IGNORECASE)
_DAY_MONTH = re.compile(r"\b(\d{1,2})\s+([^\W\d_]{3,12})\.?(?:,?\s+(\d{4})\b)?")
_MONTH_DAY = re.compile(r"\b([^\W\d_]{3,12})\.?\s+(\d{1,2})\b(?:,?\s+(\d{4})\b)?")
_GROUPED = re.compile(r"\d{1,3}(?: \d{3})+(?:[.,]\d{1,3})?", re.ASCII)
_BY_POINTS = re.compile(r"\d{1,3}(?:\.\d{3})+", re.ASCII)
_RECEIPT_WORD = re.compile(r"#|\b(?:receipt|resit)\b", re.IGNORECASE)
_TODAY, _YESTERDAY = ("today", "hari ini"), ("yesterday", "semalam")


@dataclass(frozen=True, slots=True)
class SearchContext:
    """Where and when somebody searches; `now` in UTC microseconds, the others of the connection and its reader."""

    zone: ZoneInfo
    now: int
    currency: str
    country: str | None
    locale: Locale

    @property
    def today(self) -> date:
        """The venue's day."""
        return moment(self.now).astimezone(self.zone).date()


def parse_terms(text: str, context: SearchContext) -> list[SearchTerm]:
    """Read the terms to search by; none where nothing was typed.

    What our own pages show (`23 Nov 2026, 14:05`, `RM1,250.00`, `Receipt 17`) can be typed as it stands there.
    """
    text = " ".join(text.split())[:120]  # also the narrow spaces that times and amounts are written with
    phone = _whole_phone(text, context.country)
    # a phone written with spaces is one thing all the same, not several words
    if phone and (text.startswith("+") or " " in text):
        return [SearchTerm(receipt=text, names=(Reference("phone", phone),))]
    words = _normalise(text, context).split()[:_MOST_WORDS]
    return [_parse_word(word, context) for word in words]


def _whole_phone(text: str, country: str | None) -> str | None:
    enough_digits = len(re.sub(r"\D", "", text)) >= 7
    return parse_phone(text, country) if _PHONE.fullmatch(text) and enough_digits else None


def _normalise(text: str, context: SearchContext) -> str:
    """Write days as 2026-11-23, times as 14:05, and amounts and numbers in one piece, without their signs."""
    text = _without_currency(text.replace("…", " "), context)
    text = _RECEIPT_WORD.sub(" ", text)
    text = _HALF_DAY.sub(_to_24_hours, text)
    text = _normalise_days(text, context)
    text = " ".join(text.replace(", ", " ").split())
    return text.replace(" ", "") if _GROUPED.fullmatch(text) else text


def _without_currency(text: str, context: SearchContext) -> str:
    # signs stand before an amount or behind it, with a space or without; € and its like are no word of anything else
    text = "".join(" " if unicodedata.category(sign) == "Sc" else sign for sign in text)
    symbol = get_currency_symbol(context.currency, context.locale)
    for sign in (context.currency, symbol) if symbol else (context.currency,):
        text = re.sub(rf"(?<![\w]){re.escape(sign)}(?=[\s\d-])|(?<=\d)\s?{re.escape(sign)}(?!\w)", " ", text)
    return text


def _normalise_days(text: str, context: SearchContext) -> str:
    # a day without a year is this year's
    months, today = _month_numbers(context.locale), context.today

    def iso_day(day: str, month: str, year: str | None, typed: str) -> str:
        number = months.get(month.casefold())
        return f" {int(year or today.year):04d}-{number:02d}-{int(day):02d} " if number else typed

    text = _DAY_MONTH.sub(lambda match: iso_day(match[1], match[2], match[3], match[0]), text)
    text = _MONTH_DAY.sub(lambda match: iso_day(match[2], match[1], match[3], match[0]), text)
    for names, day in ((_TODAY, today), (_YESTERDAY, today - timedelta(days=1))):
        for name in names:
            text = re.sub(rf"\b{name}\b", day.isoformat(), text, flags=re.IGNORECASE)
    return text


def _month_numbers(locale: Locale) -> dict[str, int]:
    """Map the names of months in a language, long and short, to their numbers."""
    return {
        name.casefold().rstrip("."): number
        for width in ("wide", "abbreviated")
        for number, name in locale.months["format"][width].items()
    }


def _to_24_hours(match: re.Match[str]) -> str:
    # 12 am is 00, 12 pm is 12: the hour counts from noon or midnight
    hour = int(match[1]) % 12 + (12 if match[3].casefold() in ("pm", "ptg") else 0)
    return f"{hour:02d}:{match[2]}"


def _parse_word(word: str, context: SearchContext) -> SearchTerm:
    """Read one word as everything it can be."""
    return SearchTerm(
        # 330660 may be a receipt, the digits on a card, or an amount: whatever it fits is found
        receipt=word,
        paid=_parse_paid(word, context.currency),
        card_ending=word if re.fullmatch(r"\d{4}", word, re.ASCII) else None,
        names=tuple(_customer_names(word, context.country)),
        between=(*_minutes(word, context), *_whole_day(word, context)),
    )


def _parse_paid(word: str, currency: str) -> tuple[int, int] | None:
    """Read a word as an amount, the least and the most that it may mean; 1.234 as thousands where that is no amount.

    A whole number is every amount that begins so: who asks for 27 may have paid 27.50.
    """
    amount = parse_amount(word, currency)
    # a search may guess: a form that read 10.005 as ten thousand would not be forgiven
    if amount is None and _BY_POINTS.fullmatch(word):
        amount = parse_amount(word.replace(".", ""), currency)
    if amount is None:
        return None
    whole = Money.from_decimal("1", currency).minor
    return amount, amount + whole - 1 if word.isascii() and word.isdigit() else amount


def _customer_names(word: str, country: str | None) -> list[Reference]:
    """Return what a word can be of a customer: a card's number, a phone, an email."""
    names: list[Reference] = []
    if re.fullmatch(r"\d{6}", word, re.ASCII):
        names.append(Reference("number", word))
    if re.fullmatch(r"\+?\d{7,15}", word, re.ASCII) and (phone := parse_phone(word, country)):
        names.append(Reference("phone", phone))
    if "@" in word:
        names.append(Reference("email", word.lower()))
    return names


def _minutes(word: str, context: SearchContext) -> tuple[Span, ...]:
    """Return the minute that a time names, on each of the last days; none where the word is no time."""
    match = _CLOCK.fullmatch(word)
    if match is None:
        return ()
    clock, today = time(int(match[1]), int(match[2])), context.today
    # a time alone is of some day lately: far back it would fit too many receipts
    starts = [_start(today - timedelta(days=ago), clock, context.zone) for ago in range(_DAYS_BACK)]
    return tuple((start, start + 60 * SECOND) for start in starts)


def _whole_day(word: str, context: SearchContext) -> tuple[Span, ...]:
    """Return the day that a word names, from midnight to midnight of the venue; none where it names none."""
    try:
        day = _parse_day(word, context.today)
        if day is None:
            return ()
        return (span_of_day(day, context.zone),)
    except (ValueError, OverflowError):  # no such day; or the last that there is, after which comes none
        return ()


def span_of_day(day: date, zone: ZoneInfo) -> Span:
    """Return a day of a venue, from midnight to midnight. Raises `ValueError`, `OverflowError` at the end of time."""
    return _start(day, time(0), zone), _start(day + timedelta(days=1), time(0), zone)


def _parse_day(word: str, today: date) -> date | None:
    """Read 2026-11-23, 23.11.2026, or 23.11 as the newest such day. Raises `ValueError` for a day there is not."""
    if match := _DAY.fullmatch(word):
        return date(int(match[1]), int(match[2]), int(match[3]))
    match = _SHORT_DAY.fullmatch(word)
    if match is None:
        return None
    day = date(int(match[3] or today.year), int(match[2]), int(match[1]))
    # receipts are of the past: a day to come is taken for last year's, whose February may be a day shorter
    if day > today and day.year == today.year:
        return date(day.year - 1, day.month, min(day.day, 28) if day.month == 2 else day.day)
    return day


def _start(day: date, clock: time, zone: ZoneInfo) -> int:
    return micros(datetime.combine(day, clock, zone))
