"""Messages as an id and parameters, worded when read, in the reader's language.

Owns the value and the catalogues (gettext, `locale/<language>/messages.po` beside a package); which
language a reader wants is the reader's side.
"""

from __future__ import annotations

import gettext
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

FALLBACK = "en"


@dataclass(frozen=True, slots=True)
class Message:
    """What happened, not yet in words: `Message("sale.earned", {"receipt": "42", "count": 2})`.

    Parameters are text, numbers, or messages themselves (as `Message.stored`).
    """

    id: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> str:
        """As JSON text, for keeping; `restored` is its inverse."""
        return json.dumps(self._plain(), ensure_ascii=False, separators=(",", ":"))

    def _plain(self) -> list[Any]:
        return [
            self.id,
            {name: value._plain() if isinstance(value, Message) else value for name, value in self.params.items()},
        ]

    @classmethod
    def restored(cls, text: str) -> Message:
        return cls._from(json.loads(text))

    @classmethod
    def _from(cls, plain: list[Any]) -> Message:
        name, params = plain
        return cls(name, {key: cls._from(v) if isinstance(v, list) else v for key, v in params.items()})


class Catalogue:
    """The wordings of some packages; a later package's do not replace an earlier one's."""

    def __init__(self, packages: Iterable[str]) -> None:
        self.packages = tuple(packages)

    def word(self, message: Message, language: str = FALLBACK) -> str:
        """The message in `language`, or in English, or as its bare id where nobody has words for it."""
        params = {
            name: self.word(value, language) if isinstance(value, Message) else value
            for name, value in message.params.items()
        }
        template = self._template(message.id, params.get("count"), language)
        try:
            return template.format(**params)
        except (KeyError, IndexError, ValueError):
            return f"{template} {dict(params)}"

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


@cache
def _translations(package: str, language: str) -> gettext.NullTranslations:
    """A package's catalogue, read from its `.po` file at first use: no build step, real gettext plurals."""
    source = resources.files(package).joinpath("locale", language, "messages.po")
    if not language.isalnum() or not source.is_file():
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    write_mo(compiled, read_po(io.BytesIO(source.read_bytes()), locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)
