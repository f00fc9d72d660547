"""What somebody typed to find a receipt: its number, a phone, a card, an amount, a day or a time, in any mixture.

Owns the reading; each word is everything it can be, and a receipt must fit all words.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from babel import Locale
from babel.numbers import get_currency_symbol

from connector_sdk.money import Money
from connectors.domain.clock import SECOND, micros, moment
from connectors.domain.person import Reference, parse_phone
from connectors.store.queries.receipts import SearchTerm

_MOST_WORDS = 5
_DAYS_BACK = 28
_CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]([0-5]\d)(?::[0-5]\d)?", re.ASCII)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_SHORT_DAY = re.compile(r"(\d{1,2})[./](\d{1,2})(?:[./](\d{4}))?", re.ASCII)
_PHONE = re.compile(r"\+?[\d\s()-]{7,24}", re.ASCII)
_HALF_DAY = re.compile(r"\b(\d{1,2}):([0-5]\d)(?::[0-5]\d)?\s*(am|pm|pg|ptg)\b", re.ASCII | re.IGNORECASE)
_DAY_MONTH = re.compile(r"\b(\d{1,2})\s+([^\W\d_]{3,12})\.?(?:,?\s+(\d{4})\b)?")
_MONTH_DAY = re.compile(r"\b([^\W\d_]{3,12})\.?\s+(\d{1,2})\b(?:,?\s+(\d{4})\b)?")
_GROUPED = re.compile(r"\d{1,3}(?: \d{3})+", re.ASCII)
_SAID = re.compile(r"#|\b(?:receipt|resit)\b", re.IGNORECASE)
_TODAY, _YESTERDAY = ("today", "hari ini"), ("yesterday", "semalam")


def terms(
    text: str, *, zone: ZoneInfo, now: int, currency: str, country: str | None, locale: Locale
) -> list[SearchTerm]:
    """What to look for; nothing where nothing was typed. What our own pages show can be typed as it stands there."""
    text = " ".join(text.split())[:120]  # also the narrow spaces that times and amounts are written with
    phone = parse_phone(text, country) if _PHONE.fullmatch(text) and len(re.sub(r"\D", "", text)) >= 7 else None
    if phone and (text.startswith("+") or " " in text):  # written with spaces it is one thing all the same
        return [SearchTerm(receipt=text, names=(Reference("phone", phone),))]
    today = moment(now).astimezone(zone).date()
    plain = _plain(text, today, currency, locale)
    return [_term(word, zone, today, currency, country) for word in plain.split()[:_MOST_WORDS]]


def _plain(text: str, today: date, currency: str, locale: Locale) -> str:
    """The same with days as 2026-11-23, times as 14:05, and amounts and numbers in one piece, without their signs."""
    months = {
        name.casefold().rstrip("."): number
        for width in ("wide", "abbreviated")
        for number, name in locale.months["format"][width].items()
    }
    symbol = get_currency_symbol(currency, locale)
    for sign in (currency, symbol) if len(symbol) else (currency,):
        text = re.sub(rf"(?<![\w]){re.escape(sign)}(?=[\s\d-])|(?<=\d)\s?{re.escape(sign)}(?!\w)", " ", text)
    text = _SAID.sub(" ", text)
    text = _HALF_DAY.sub(_of_24, text)

    def written(day: str, month: str, year: str | None, whole: str) -> str:
        number = months.get(month.casefold())
        return f" {int(year or today.year):04d}-{number:02d}-{int(day):02d} " if number else whole

    text = _DAY_MONTH.sub(lambda found: written(found[1], found[2], found[3], found[0]), text)
    text = _MONTH_DAY.sub(lambda found: written(found[2], found[1], found[3], found[0]), text)
    for names, day in ((_TODAY, today), (_YESTERDAY, today - timedelta(days=1))):
        for name in names:
            text = re.sub(rf"\b{name}\b", day.isoformat(), text, flags=re.IGNORECASE)
    text = " ".join(text.replace(", ", " ").split())
    return text.replace(" ", "") if _GROUPED.fullmatch(text) else text


def _of_24(found: re.Match[str]) -> str:
    hour = int(found[1]) % 12 + (12 if found[3].casefold() in ("pm", "ptg") else 0)
    return f"{hour:02d}:{found[2]}"


def _term(word: str, zone: ZoneInfo, today: date, currency: str, country: str | None) -> SearchTerm:
    names: list[Reference] = []
    if re.fullmatch(r"\d{6}", word, re.ASCII):
        names.append(Reference("number", word))
    if re.fullmatch(r"\+?\d{7,15}", word, re.ASCII) and (phone := parse_phone(word, country)):
        names.append(Reference("phone", phone))
    if "@" in word:
        names.append(Reference("email", word.lower()))
    return SearchTerm(
        receipt=word,
        paid=amount(word, currency),
        card_ending=word if re.fullmatch(r"\d{4}", word, re.ASCII) else None,
        names=tuple(names),
        between=_between(word, zone, today),
    )


def amount(text: str, currency: str) -> int | None:
    """An amount as people write it (127.50, 127,50 or 1 250), in minor units."""
    plain = text.strip().replace("\xa0", "").replace(" ", "")
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", plain):
        plain = plain.replace(",", "")
    elif re.fullmatch(r"\d{1,3}(\.\d{3})+,\d+", plain):
        plain = plain.replace(".", "").replace(",", ".")
    else:
        plain = plain.replace(",", ".")
    try:
        return Money.from_decimal(plain, currency).minor
    except ValueError:
        return None


def _between(word: str, zone: ZoneInfo, today: date) -> tuple[tuple[int, int], ...]:
    """A day whole, or a minute of each of the last days."""
    minutes: tuple[tuple[int, int], ...] = ()
    if found := _CLOCK.fullmatch(word):
        at = time(int(found[1]), int(found[2]))
        starts = [_start(today - timedelta(days=ago), at, zone) for ago in range(_DAYS_BACK)]
        minutes = tuple((start, start + 60 * SECOND) for start in starts)
    day: date | None = None
    try:
        if found := _DAY.fullmatch(word):
            day = date(int(found[1]), int(found[2]), int(found[3]))
        elif found := _SHORT_DAY.fullmatch(word):
            day = date(int(found[3] or today.year), int(found[2]), int(found[1]))
    except ValueError:
        return minutes
    if day is None:
        return minutes
    if day > today and day.year == today.year and not _DAY.fullmatch(word):  # said without its year
        day = date(day.year - 1, day.month, min(day.day, 28) if day.month == 2 else day.day)
    try:
        return (*minutes, (_start(day, time(0), zone), _start(day + timedelta(days=1), time(0), zone)))
    except OverflowError:  # the last day that there is has no day after it
        return minutes


def _start(day: date, at: time, zone: ZoneInfo) -> int:
    return micros(datetime.combine(day, at, zone))
