"""What somebody typed to find a receipt: its number, a phone, a card, an amount, a day or a time, in any mixture.

Owns the reading; each word is everything it can be, and a receipt must fit all words.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from connector_sdk.money import Money
from connectors.domain.clock import DAY, SECOND, micros, moment
from connectors.store.looking import Term
from connectors.sync.identifying import international

_MOST_WORDS = 5
_DAYS_BACK = 14
_CLOCK = re.compile(r"([01]?\d|2[0-3])[:.]([0-5]\d)")
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)")
_SHORT_DAY = re.compile(r"(\d{1,2})[./](\d{1,2})(?:[./](\d{4}))?")
_PHONE = re.compile(r"\+?[\d\s()-]{7,24}")


def terms(text: str, *, zone: ZoneInfo, now: int, currency: str, country: str | None) -> list[Term]:
    """What to look for; nothing where nothing was typed."""
    text = text.strip()[:120]
    phone = international(text, country) if _PHONE.fullmatch(text) and len(re.sub(r"\D", "", text)) >= 7 else None
    if phone and (text.startswith("+") or " " in text):  # written with spaces it is one thing all the same
        return [Term(receipt=text, names=(("phone", phone),))]
    today = moment(now).astimezone(zone).date()
    return [_term(word, zone, today, currency, country) for word in text.split()[:_MOST_WORDS]]


def _term(word: str, zone: ZoneInfo, today: date, currency: str, country: str | None) -> Term:
    names: list[tuple[str, str]] = []
    if re.fullmatch(r"\d{6}", word):
        names.append(("number", word))
    if re.fullmatch(r"\+?\d{7,15}", word) and (phone := international(word, country)):
        names.append(("phone", phone))
    if "@" in word:
        names.append(("email", word.lower()))
    return Term(
        receipt=word,
        paid=amount(word, currency),
        card_ending=word if re.fullmatch(r"\d{4}", word) else None,
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
    if found := _CLOCK.fullmatch(word):
        at = time(int(found[1]), int(found[2]))
        starts = [_start(today - timedelta(days=ago), at, zone) for ago in range(_DAYS_BACK)]
        return tuple((start, start + 60 * SECOND) for start in starts)
    day: date | None = None
    try:
        if found := _DAY.fullmatch(word):
            day = date(int(found[1]), int(found[2]), int(found[3]))
        elif found := _SHORT_DAY.fullmatch(word):
            day = date(int(found[3] or today.year), int(found[2]), int(found[1]))
    except ValueError:
        return ()
    if day is None:
        return ()
    start = _start(day, time(0), zone)
    return ((start, start + DAY),)


def _start(day: date, at: time, zone: ZoneInfo) -> int:
    return micros(datetime.combine(day, at, zone))
