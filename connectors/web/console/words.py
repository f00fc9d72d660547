"""What a page says, in its reader's language: texts, amounts, times and counts.

Owns formatting (Babel) in the venue's zone; the catalogues are `connector_sdk.messages`'.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime, format_skeleton, format_time, format_timedelta
from babel.numbers import format_decimal

from connector_sdk.messages import Catalogue, Message, locale_of, money_in
from connector_sdk.money import Money
from connectors.domain.clock import micros, moment


def zone_of(name: str) -> ZoneInfo:
    """A zone by name; UTC where nobody knows it (7stamp's word for a zone may be none we know)."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def language_for(catalogue: Catalogue, chosen: str, accepted: str) -> str:
    """The reader's choice, or the browser's preference, or English; with the browser's region where it names one."""
    names = _preferred(accepted)
    if chosen not in catalogue.languages:
        chosen = negotiate_locale(names, list(catalogue.languages)) or catalogue.languages[0]
    region = next((name for name in names if re.fullmatch(rf"{chosen}_[A-Za-z]{{2}}", name)), chosen)
    return region.replace("_", "-")


def _preferred(accepted: str) -> list[str]:
    preferred: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        name, _, weight = part.partition(";q=")
        try:
            preferred.append((-float(weight or 1), name.strip().replace("-", "_")))
        except ValueError:
            continue
    return [name for _, name in sorted(preferred, key=lambda one: one[0])]


@dataclass(frozen=True)
class Words:
    """One reader's language and zone, at one moment (`now`, UTC microseconds)."""

    catalogue: Catalogue
    language: str
    zone: ZoneInfo
    now: int

    @property
    def locale(self) -> Locale:
        return locale_of(self.language)

    @property
    def direction(self) -> str:
        return self.locale.text_direction

    def text(self, text: str, /, **params: Any) -> str:
        """A text of ours, in English its own id."""
        return self.catalogue.word(Message(text, params), self.language)

    def count(self, one: str, many: str, count: int, /, **params: Any) -> str:
        return self.catalogue.count(one, many, count, self.language, **params)

    def say(self, message: Message) -> str:
        return self.catalogue.word(message, self.language)

    def sentence(self, message: Message) -> str:
        """A message as a sentence: reasons begin small."""
        said = self.say(message)
        return said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?", "…")) else ".")

    def money(self, minor: int, currency: str) -> str:
        return self._said(money_in(Money(minor, currency), self.language))

    def number(self, value: int) -> str:
        return format_decimal(value, locale=self.locale)

    def _local(self, at: int) -> datetime:
        return moment(at).astimezone(self.zone)

    def when(self, at: int, how: str = "short") -> str:
        """A moment as people say it: the time today, with the day otherwise."""
        local = self._local(at)
        if local.date() == self._local(self.now).date():
            return self.text("today {time}", time=format_time(local, how, locale=self.locale))
        return self._said(format_datetime(local, "medium", locale=self.locale))

    def exactly(self, at: int) -> str:
        """The same to the second."""
        return self.when(at, "medium")

    def at(self, local: datetime) -> str:
        return self.when(micros(local))

    def day(self, at: int) -> str:
        return self._said(format_date(self._local(at).date(), "long", locale=self.locale))

    def date(self, day: str) -> str:
        """A venue's day (`2026-11-23`)."""
        return self._said(format_date(date.fromisoformat(day), locale=self.locale))

    def short_day(self, day: str) -> str:
        """The same without its year."""
        return self._said(format_skeleton("MMMd", date.fromisoformat(day), locale=self.locale))

    def ago(self, at: int) -> str:
        """How long ago, or in how long."""
        delta = timedelta(microseconds=at - self.now)
        return self._said(format_timedelta(delta, add_direction=True, locale=self.locale, threshold=0.95))

    def iso(self, at: int) -> str:
        return moment(at).isoformat(timespec="seconds")

    def today(self) -> str:
        return self._local(self.now).date().isoformat()

    def languages(self) -> Mapping[str, str]:
        """Language → its own name."""
        return {one: (locale_of(one).get_display_name(one) or one).capitalize() for one in self.catalogue.languages}

    def reads(self, language: str) -> bool:
        return self.language.partition("-")[0] == language

    def _said(self, text: str) -> str:
        """Every text that a library words for us goes through here."""
        return text
