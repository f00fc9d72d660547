"""Lists of currencies, countries and time zones, in a reader's language, for settings that hold the code of one.

Owns which are listed; names are Babel's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from zoneinfo import available_timezones

from babel import Locale
from babel.core import get_global

_NO_COUNTRIES = {"AC", "CP", "DG", "EA", "EU", "EZ", "IC", "TA", "UN", "ZZ"}
"""Codes of two letters that Babel names, and that ISO 3166 gives to no country."""
_AREAS = ("Africa/", "America/", "Antarctica/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/")
Choices = tuple[tuple[str, str], ...]
"""The codes, each with its name, in the order of the names."""


@lru_cache(maxsize=64)
def choices_of(kind: str, language: str) -> Choices:
    """Return the codes of a kind (`currency`, `country`, `zone`) with their names in a language such as `ms_MY`."""
    return _LISTS[kind](Locale.parse(language))


def _currencies(locale: Locale) -> Choices:
    # of each territory: (code, since, until, whether it is money one pays with)
    used = {
        currency[0]
        for of_territory in get_global("territory_currencies").values()
        for currency in of_territory
        if currency[2] is None and currency[3]
    }
    return _by_name({code: f"{locale.currencies[code]} ({code})" for code in used if code in locale.currencies})


def _countries(locale: Locale) -> Choices:
    known = get_global("territory_currencies").keys() - _NO_COUNTRIES
    return _by_name({code: name for code, name in locale.territories.items() if len(code) == 2 and code in known})


def _zones(_locale: Locale) -> Choices:
    zones = sorted(zone for zone in available_timezones() if zone.startswith(_AREAS) or zone == "UTC")
    return tuple((zone, zone.replace("_", " ")) for zone in zones)


def _by_name(names: Mapping[str, str]) -> Choices:
    return tuple(sorted(names.items(), key=lambda one: one[1].casefold()))


_LISTS: Mapping[str, Callable[[Locale], Choices]] = {"currency": _currencies, "country": _countries, "zone": _zones}
