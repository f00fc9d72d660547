"""Messages as an id and parameters, worded when read, in the reader's language.

Owns the value and the catalogues (gettext, `locale/<language>/messages.po` beside a package); which
language a reader wants is the reader's side.
"""

from __future__ import annotations

import gettext
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import lru_cache
from importlib import resources
from typing import Any

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency

from connector_sdk.money import Money

FALLBACK = "en"
_LETTER_BY_FIGURE = re.compile(r"(?<=[A-Z]{2})(?=\d)|(?<=\d)(?=[A-Z]{2})")


@dataclass(frozen=True, slots=True)
class Message:
    """What happened, not yet in words: `Message("sale.earned", {"receipt": "42", "count": 2})`.

    Parameters are text, numbers, `Money`, dates, or messages themselves.
    """

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> str:
        """As JSON text, for keeping; `restored` is its inverse, but for halves of characters, which no text has."""
        text = json.dumps(self._plain(), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace").decode()

    def _plain(self) -> list[Any]:
        return [
            self.id,
            {name: _plain(value) for name, value in self.params.items()},
        ]

    @classmethod
    def restored(cls, text: str) -> Message:
        """The message that `stored` wrote."""
        return cls._from(json.loads(text))

    @classmethod
    def _from(cls, plain: list[Any]) -> Message:
        name, params = plain
        return cls(name, {key: _restored(value) for key, value in params.items()})


def _plain(value: Any) -> Any:
    match value:
        case Message():
            return value._plain()
        case Money():
            return {"minor": value.minor, "currency": value.currency}
        case date():
            return {"date": value.isoformat()}
    return value


def _restored(plain: Any) -> Any:
    match plain:
        case list():
            return Message._from(plain)
        case {"minor": int(minor), "currency": str(currency)}:
            return Money(minor, currency)
        case {"date": str(text)}:
            return date.fromisoformat(text)
    return plain


class Catalogue:
    """The wordings of some packages; a later package's do not replace an earlier one's."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = tuple(packages)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages the first package speaks, English first."""
        folder = resources.files(self.packages[0]) / "locale"
        found = sorted(one.name for one in folder.iterdir() if (one / "messages.po").is_file())
        return tuple(dict.fromkeys((FALLBACK, *found)))

    def word(self, message: Message, language: str = FALLBACK) -> str:
        """The message in `language`, or in English, or as its bare id where nobody has words for it."""
        params = {name: self._said(value, language) for name, value in message.params.items()}
        return _filled(self._template(message.id, message.params.get("count"), language), params)

    def count(self, one: str, many: str, count: int, language: str = FALLBACK, /, **params: Any) -> str:
        """`one` or `many` in `language`, by its own rules of plural; both hold `{count}`."""
        template = self._template(one, count, language)
        if template == one and count != 1:
            template = many
        said = {name: self._said(value, language) for name, value in params.items()}
        return _filled(template, {"count": count, **said})

    def _said(self, value: Any, language: str) -> Any:
        match value:
            case Message():
                return self.word(value, language)
            case Money():
                return money_in(value, language)
            case date():
                return format_date(value, "long", locale=locale_of(language))
        return value

    def _template(self, name: str, count: Any, language: str) -> str:
        for wanted in dict.fromkeys((language, language.partition("-")[0], FALLBACK)):
            for package in self.packages:
                translations = _translations(package, wanted)
                found = translations.ngettext(name, name, count) if isinstance(count, int) else name
                if found == name:
                    found = translations.gettext(name)
                if found != name:
                    return found
        return name


def _filled(template: str, params: Mapping[str, Any]) -> str:
    if not params:
        return template
    try:
        return template.format(**params)
    except (KeyError, IndexError, ValueError):
        return f"{template} {dict(params)}"


@lru_cache(maxsize=256)
def locale_of(language: str) -> Locale:
    """How a language (`ms`, `en-GB`) writes dates and numbers; English where nobody knows it."""
    try:
        return Locale.parse(language.replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale(FALLBACK)


def money_in(amount: Money, language: str) -> str:
    """An amount as a language writes it: `UAH 127.50`."""
    said = format_currency(Decimal(amount.decimal), amount.currency, locale=locale_of(language))
    return _LETTER_BY_FIGURE.sub("\xa0", said)  # CLDR's "currency spacing", which Babel leaves out


@lru_cache(maxsize=256)
def _translations(package: str, language: str) -> gettext.NullTranslations:
    """A package's catalogue, read from its `.po` file at first use: no build step, real gettext plurals."""
    try:
        source = resources.files(package).joinpath("locale", language, "messages.po")
    except TypeError:  # before Python 3.12 a plugin that is a single module has no files, so no words of its own
        return gettext.NullTranslations()
    if not language.isalnum() or not source.is_file():
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
