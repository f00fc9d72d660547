"""Texts, amounts, times and counts in the reader's language, and times in the venue's zone.

Owns formatting (with Babel) and the choice of a language; the catalogues of texts are `connector_sdk.messages`'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime, format_skeleton, format_time, format_timedelta, get_day_names
from babel.numbers import format_compact_decimal, format_decimal, get_decimal_symbol

from connector_sdk.messages import Catalogue, Message, locale_of, money_in
from connector_sdk.money import Money, exponent
from connectors.domain.clock import micros, moment

_MAX_ACCEPTED = 500  # characters of `Accept-Language`; browsers send some dozens

_SHORTENED = 1000
"""From here on a number is shortened where there is little room: 1.4K."""


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name, or UTC where it is unknown: 7stamp may name one that this system lacks."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def language_for(catalogue: Catalogue, chosen: str, accepted: str) -> str:
    """Return the language that the reader chose, or else the first that the browser accepts, or else English.

    The browser's region stays where it names one (`en-GB`), because dates and amounts depend on it.
    """
    names = _accepted_languages(accepted)
    if chosen not in catalogue.languages:
        chosen = negotiate_locale(names, list(catalogue.languages)) or catalogue.languages[0]
    region = next((name for name in names if re.fullmatch(rf"{chosen}_[A-Za-z]{{2}}", name)), chosen)
    return region.replace("_", "-")


def _accepted_languages(header: str) -> list[str]:
    """List the languages of an `Accept-Language` header as Babel names them (`en_GB`), the preferred one first."""
    weighted: list[tuple[float, str]] = []
    for part in header[:_MAX_ACCEPTED].split(","):
        name, _, weight = part.partition(";q=")
        try:
            weighted.append((float(weight or 1), name.strip().replace("-", "_")))
        except ValueError:
            continue
    # sorted by weight alone, and stably: languages of equal weight stay in the order of the header
    return [name for _, name in sorted(weighted, key=lambda pair: -pair[0])]


@dataclass(frozen=True, slots=True)
class Localizer:
    """Texts and formats in one reader's language and zone, at one moment (`now`, UTC microseconds)."""

    catalogue: Catalogue
    language: str
    """A language with or without a region, such as `uk` or `en-GB`."""
    zone: ZoneInfo
    now: int

    def in_zone(self, zone: ZoneInfo) -> Localizer:
        """Return the same language and moment, with times in another zone."""
        return replace(self, zone=zone)

    # --- the language -------------------------------------------------------------------------------------------

    @property
    def locale(self) -> Locale:
        """Babel's locale of the language."""
        return locale_of(self.language)

    @property
    def direction(self) -> str:
        """The direction of writing: `ltr` or `rtl`."""
        return self.locale.text_direction

    def languages(self) -> Mapping[str, str]:
        """Map each language that can be chosen to its own name for itself."""
        return {code: _own_name(code) for code in self.catalogue.languages}

    def is_language(self, language: str) -> bool:
        """Tell whether the reader reads this language, in whatever region."""
        return self.language.partition("-")[0] == language

    # --- texts --------------------------------------------------------------------------------------------------

    def text(self, text: str, /, **params: object) -> str:
        """Translate a text of ours, whose id is the English text itself."""
        return self.message(Message(text, params))

    def count(self, singular: str, plural: str, count: int, /, **params: object) -> str:
        """Translate a text with a count, in the plural form that the language has for it."""
        return self.catalogue.count(singular, plural, count, self.language, **{"count": self.number(count), **params})

    def message(self, message: Message) -> str:
        """Translate a message, as it is stored with what it explains."""
        return self.catalogue.word(message, self.language)

    def sentence(self, message: Message) -> str:
        """Translate a message as a sentence: with a capital and a full stop, which reasons of refusals lack."""
        text = self.message(message)
        return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")

    # --- numbers ------------------------------------------------------------------------------------------------

    def money(self, minor: int, currency: str) -> str:
        """Format an amount in minor units."""
        return self._formatted(money_in(Money(minor, currency), self.language))

    def sum_of_money(self, minor: int, currency: str) -> str:
        """Format a sum of many amounts in minor units, to the whole unit: nobody counts its cents."""
        digits = exponent(currency)
        text = self.money(round(minor, -digits), currency)
        return text.replace(get_decimal_symbol(self.locale) + "0" * digits, "", 1) if digits else text

    def number(self, value: int) -> str:
        """Format a whole number."""
        return format_decimal(value, locale=self.locale)

    def short_number(self, value: int) -> str:
        """Format a whole number for a place that has room for four signs."""
        return format_compact_decimal(value, locale=self.locale) if value >= _SHORTENED else self.number(value)

    # --- times --------------------------------------------------------------------------------------------------

    # moments are UTC microseconds; days are the venue's own, as ISO dates

    def time(self, at: int, style: str = "short") -> str:
        """Format a moment as people say it: the time where it is today, with the date otherwise."""
        local = self._in_zone(at)
        if local.date() == self._in_zone(self.now).date():
            return self.text("today {time}", time=format_time(local, style, locale=self.locale))
        if style == "short" and local.year == self._in_zone(self.now).year:
            day = format_skeleton("MMMd", local, locale=self.locale)
            return self._formatted(f"{day}, {format_time(local, style, locale=self.locale)}")
        return self._formatted(format_datetime(local, "medium", locale=self.locale))

    def exact_time(self, at: int) -> str:
        """Format a moment like `time`, with its seconds."""
        return self.time(at, "medium")

    def local_time(self, local: datetime) -> str:
        """Format a moment like `time`, given with its own zone."""
        return self.time(micros(local))

    def relative_time(self, at: int) -> str:
        """Format how long ago a moment was, or in how long it comes."""
        delta = timedelta(microseconds=at - self.now)
        return self._formatted(format_timedelta(delta, add_direction=True, locale=self.locale, threshold=0.95))

    def day(self, at: int) -> str:
        """Format the day of a moment."""
        return self._formatted(format_date(self._in_zone(at).date(), "long", locale=self.locale))

    def date(self, day: str) -> str:
        """Format a day of the venue (`2026-11-23`)."""
        return self._formatted(format_date(date.fromisoformat(day), locale=self.locale))

    def short_date(self, day: str) -> str:
        """Format a day of the venue without its year."""
        return self._formatted(format_skeleton("MMMd", date.fromisoformat(day), locale=self.locale))

    def date_of_week(self, day: str) -> str:
        """Format a day of the venue with its weekday, and without its year where it is this year's."""
        at = date.fromisoformat(day)
        skeleton = "MMMEd" if at.year == self._in_zone(self.now).year else "yMMMEd"
        return self._formatted(format_skeleton(skeleton, at, locale=self.locale))

    def clock(self, at: int) -> str:
        """Format the time of the day of a moment."""
        return self._formatted(format_time(self._in_zone(at), "short", locale=self.locale))

    def iso_day(self, at: int) -> str:
        """Return the venue's day of a moment, as an ISO date."""
        return self._in_zone(at).date().isoformat()

    def weekdays(self, width: Literal["wide", "abbreviated"] = "wide") -> dict[int, str]:
        """Map each weekday (0 is Monday) to its name, in the order of the reader's week."""
        names = get_day_names(width, context="stand-alone", locale=self.locale)
        first = self.locale.first_week_day
        return {(first + number) % 7: self._formatted(names[(first + number) % 7]) for number in range(7)}

    def weekday_of(self, day: str) -> str:
        """Name the weekday of a day of the venue, in short."""
        return self.weekdays("abbreviated")[date.fromisoformat(day).weekday()]

    def hour_of_day(self, hour: int) -> str:
        """Write an hour as short as its reader's language does: `17`, or `5 PM`; 24 is midnight."""
        has_24_hours = "13" in self.time_of_day(13 * 60)
        pattern = "HH" if has_24_hours else "h a"
        return self._formatted(format_time(time(hour % 24), pattern, locale=self.locale))

    def time_of_day(self, minutes: int) -> str:
        """Format a time of the day, given as minutes from midnight."""
        return self._formatted(format_time(time(minutes // 60 % 24, minutes % 60), "short", locale=self.locale))

    def iso(self, at: int) -> str:
        """Format a moment for machines, in UTC to the second."""
        return moment(at).isoformat(timespec="seconds")

    def today(self) -> str:
        """Return the venue's day now, as an ISO date."""
        return self.iso_day(self.now)

    def _in_zone(self, at: int) -> datetime:
        return moment(at).astimezone(self.zone)

    def _formatted(self, text: str) -> str:
        """Return a text that a library worded for us; a test replaces this to see that a page shows no other text."""
        return text


def _own_name(language: str) -> str:
    locale = locale_of(language)
    return (locale.get_display_name(language) or language).capitalize()
