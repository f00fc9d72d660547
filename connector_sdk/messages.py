"""Messages as an id and parameters, worded when they are read, in the reader's language.

Owns the value and the catalogues (gettext, `locale/<language>/messages.po` beside a package); choosing a reader's
language is left to whoever shows the message.
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
from functools import cached_property, lru_cache
from importlib import resources

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
    """A statement that is not worded yet: `Message("sale.earned", {"receipt": "42", "count": 2})`.

    Parameters are text, numbers, `Money`, dates, or messages themselves; `count` chooses the plural form.
    """

    id: str
    params: Mapping[str, object] = field(default_factory=dict)

    def stored(self) -> str:
        """Return the message as JSON text; `restored` is the inverse.

        Lone surrogates, which no text has and no database takes, become question marks.
        """
        text = json.dumps(_to_json(self), ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "replace").decode()

    @classmethod
    def restored(cls, text: str) -> Message:
        """Return the message that `stored` wrote."""
        message_id, params = json.loads(text)
        return cls(message_id, _params_from_json(params))


# In JSON a message is a list of id and parameters, and an amount or a date is an object: parameters themselves are
# never lists or objects, so each can be told apart again.


def _to_json(value: object) -> object:
    """Return a message or a parameter as what `json.dumps` can write."""
    match value:
        case Message():
            return [value.id, {name: _to_json(param) for name, param in value.params.items()}]
        case Money():
            return {"minor": value.minor, "currency": value.currency}
        case date():
            return {"date": value.isoformat()}
    return value


def _from_json(value: object) -> object:
    """Return the parameter that `_to_json` wrote."""
    match value:
        case [str(message_id), dict(params)]:
            return Message(message_id, _params_from_json(params))
        case {"minor": int(minor), "currency": str(currency)}:
            return Money(minor, currency)
        case {"date": str(text)}:
            return date.fromisoformat(text)
    return value


def _params_from_json(params: Mapping[str, object]) -> dict[str, object]:
    return {name: _from_json(param) for name, param in params.items()}


class Catalogue:
    """The wordings of several packages; an earlier package's wording of a message wins over a later one's."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = tuple(packages)

    @cached_property  # asked at every request, and packages do not change under a process that runs
    def languages(self) -> tuple[str, ...]:
        """The languages of the first package's catalogue, English first, then by code."""
        folder = resources.files(self.packages[0]) / "locale"
        translated = sorted(language.name for language in folder.iterdir() if (language / "messages.po").is_file())
        return tuple(dict.fromkeys((FALLBACK, *translated)))

    def word(self, message: Message, language: str = FALLBACK) -> str:
        """Word a message in `language`, or in English, or as its bare id where no catalogue has it."""
        params = self._word_params(message.params, language)
        return _fill(self._template(message.id, message.params.get("count"), language), params)

    def count(self, singular: str, plural: str, count: int, language: str = FALLBACK, /, **params: object) -> str:
        """Word a counted phrase in `language`, by that language's plural rules; both English forms hold `{count}`."""
        template = self._template(singular, count, language)
        # no catalogue translates it: English, which has no catalogue of its own phrases, chooses between its two forms
        if template == singular and count != 1:
            template = plural
        return _fill(template, {"count": count, **self._word_params(params, language)})

    def _word_params(self, params: Mapping[str, object], language: str) -> dict[str, object]:
        return {name: self._word_param(value, language) for name, value in params.items()}

    def _word_param(self, value: object, language: str) -> object:
        """Word a parameter that is a message, an amount or a date; return any other as it is."""
        match value:
            case Message():
                return self.word(value, language)
            case Money():
                return money_in(value, language)
            case date():
                return format_date(value, "long", locale=locale_of(language))
        return value

    def _template(self, message_id: str, count: object, language: str) -> str:
        """Return the first translation: of the exact language, its main language, English; each by package."""
        for candidate in dict.fromkeys((language, language.partition("-")[0], FALLBACK)):
            for package in self.packages:
                template = _translate(_translations(package, candidate), message_id, count)
                if template != message_id:
                    return template
        return message_id


def _translate(translations: gettext.NullTranslations, message_id: str, count: object) -> str:
    """Return a message's translation, in the plural form for `count` where it has one; else the id itself."""
    if not message_id:  # gettext's entry of the empty id is the catalogue's own header
        return ""
    # gettext answers with the id where it has no translation, and keeps messages with and without plurals apart
    if isinstance(count, int):
        counted = translations.ngettext(message_id, message_id, count)
        if counted != message_id:
            return counted
    return translations.gettext(message_id)


def _fill(template: str, params: Mapping[str, object]) -> str:
    """Fill a template; append the parameters where it asks for others, for a reader must always see something."""
    if not params:
        return template
    try:
        return template.format(**params)
    except (KeyError, IndexError, ValueError):
        return f"{template} {dict(params)}"


# Both caches are bounded: a language comes from a request's header, and may be anything.
@lru_cache(maxsize=256)
def locale_of(language: str) -> Locale:
    """Return Babel's locale of a language (`ms`, `en-GB`); English for a language that Babel does not know."""
    try:
        return Locale.parse(language.replace("_", "-"), sep="-")
    except (UnknownLocaleError, ValueError):
        return Locale(FALLBACK)


def money_in(amount: Money, language: str) -> str:
    """Format an amount as a language writes it: `UAH 127.50`."""
    text = format_currency(Decimal(amount.decimal), amount.currency, locale=locale_of(language))
    return _LETTER_BY_FIGURE.sub("\xa0", text)  # CLDR's "currency spacing", which Babel leaves out


@lru_cache(maxsize=256)
def _translations(package: str, language: str) -> gettext.NullTranslations:
    """Read a package's catalogue from its `.po` file at first use: no build step, and gettext's own plurals."""
    try:
        source = resources.files(package).joinpath("locale", language, "messages.po")
    except TypeError:  # before Python 3.12 a plugin that is a single module has no files, so no words of its own
        return gettext.NullTranslations()
    # a language comes from a request's header: one that is no plain word must not lead out of the folder
    if not language.isalnum() or not source.is_file():
        return gettext.NullTranslations()
    # gettext reads compiled catalogues only, so the text is compiled in memory
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
