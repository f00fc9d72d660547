"""Replace secrets and personal data in a till's answers by others of the same shape, so that they still read as before.

Owns what is replaced and by what; `connector_sdk.redaction` owns which field names say a secret or a person.
"""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from typing import cast
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from pydantic import JsonValue

from connector_sdk.redaction import personal_name, secret_name

_EMAIL = re.compile(r"[\w.+%-]{1,64}(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?:\+|%2B|\b00)[1-9][\d ()-]{7,18}\d")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# a form, or the query of a URL: names and values without spaces, angle brackets and braces, so no text and no markup
_FORM = re.compile(r"[\w.%\[\]-]+=[^\s<>{}]*")
# fields whose value may be the name of another field's value: {"key": "phone", "value": "600111222"}
_NAMING_FIELDS = ("key", "name", "type", "kind", "code", "label")
_PREFIX_LENGTH = 4  # characters of a phone that stay after the first: its country, so that it reads as one from there
_SHORTEST_TEXT = 2  # shorter texts say nothing of anybody, and are often a code; of numbers, one digit more
_SHORTEST_NUMBER = 4
_DEEPEST = 200  # levels of nesting; far below where Python's own recursion ends
_SHORT_BODY = 20  # characters: "OK", "<html>"
# Characters of the same kind replace one another. Hex letters are a kind of their own, so that an id stays hexadecimal.
_CHARACTER_CLASSES = (
    "0123456789",
    "abcdef",
    string.ascii_lowercase[6:],
    "ABCDEF",
    string.ascii_uppercase[6:],
)


class Undisguisable(ValueError):
    """A body cannot be understood, so nothing of it may be stored."""


class Disguise:
    """The replacements of one recording: the same secret or person is replaced by the same text wherever it stands.

    `hidden` are the secrets, which are replaced in whatever spelling they occur.
    """

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        # a fresh seed, and no function of the original: nobody can try candidates and compare
        self._random = random.Random(secrets.randbits(128))  # noqa: S311
        self._replacements: dict[str, str] = {}
        self._fakes: set[str] = set()
        spellings = {spelling for secret in hidden if secret for spelling in _spellings(secret)}
        # the longest first: a part of a secret must not be replaced before the whole of it
        self._secrets = sorted(spellings, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Replace secrets, emails and phone numbers within any text."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, self._replace(secret))
        # after the secrets, one of which may be an email
        text = _EMAIL.sub(lambda match: self._replace_email(match[0]), text)
        return _PHONE.sub(lambda match: self._replace(match[0], prefix=_PREFIX_LENGTH), text)

    def holds_secret(self, text: str) -> bool:
        """Tell whether one of the secrets stands in a text after all."""
        return any(secret in text for secret in self._secrets)

    def body(self, body: bytes) -> bytes:
        """Disguise a body that is JSON or a form, by the names of its fields; JSON gets a line for each value.

        Numbers keep the digits in which they were sent. Raises `Undisguisable` for any other body that is not short.
        """
        try:
            content = json.loads(body, parse_float=_Number, parse_int=_Number)
        except RecursionError:
            raise Undisguisable("a body is nested too deep to be looked through") from None
        except ValueError:
            return self._form_or_short_text(body)
        return _write_json(self.value(content)).encode()

    def _form_or_short_text(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "replace")
        if _FORM.fullmatch(text):
            return self._query(text).encode()
        if len(text) > _SHORT_BODY:
            raise Undisguisable("a body is neither JSON nor a form: nobody can say what of it is whose")
        return self.text(text).encode()

    def _query(self, query: str) -> str:
        """Disguise the values of a form or of a URL's query, each by its name."""
        return urlencode([(name, self.value(value, name)) for name, value in parse_qsl(query, keep_blank_values=True)])

    def value(self, value: JsonValue, name: str = "", personal: bool = False, depth: int = 0) -> JsonValue:
        """Disguise a JSON value that stands under a name; with `personal`, or a name that says so, replace all of it.

        Raises `Undisguisable` beyond 200 levels of nesting.
        """
        if depth > _DEEPEST:
            raise Undisguisable("a body is nested too deep to be looked through")
        personal = personal or _names_private(name)
        match value:
            case dict():
                return self._object(value, personal, depth)
            case list():
                return [self.value(element, name, personal, depth + 1) for element in value]
            case _Number():  # before `str`, of which it is one
                return self._number(value, personal)
            case str():
                return self._string(value, personal)
        return value

    def _object(self, members: Mapping[str, JsonValue], personal: bool, depth: int) -> JsonValue:
        naming = [value for name, value in members.items() if name in _NAMING_FIELDS and isinstance(value, str)]
        if any(map(_names_private, naming)):  # all but the naming fields is the value that they name
            return {
                name: self.value(value, name, name not in _NAMING_FIELDS, depth + 1) for name, value in members.items()
            }
        # a name can be a secret or a phone itself, where a till lists its customers by it
        return {self.text(name): self.value(value, name, personal, depth + 1) for name, value in members.items()}

    def _number(self, digits: str, personal: bool) -> _Number:
        disguised = self.text(digits)
        return _Number(self._replace_person(disguised) if personal and len(digits) >= _SHORTEST_NUMBER else disguised)

    def _string(self, text: str, personal: bool) -> str:
        """Disguise a string: one that holds JSON, or a URL with a query, by the names within."""
        nested = _nested_json(text)
        if nested is not None:
            return _write_json(self.value(nested, personal=personal), None)
        address, question_mark, query = text.partition("?")
        if question_mark and _FORM.fullmatch(query):
            return f"{self.text(address)}?{self._query(query)}"
        disguised = self.text(text)
        return self._replace_person(disguised) if personal and len(text) >= _SHORTEST_TEXT else disguised

    def _replace_person(self, text: str) -> str:
        """Replace a text that is somebody's as a whole, unless it was replaced already."""
        if _DATE.fullmatch(text):
            return f"{text[:4]}-01-01"  # a date of birth: it must stay a date
        if text in self._fakes or _EMAIL.fullmatch(text):
            return text
        digits = sum(character.isdigit() for character in text)
        return self._replace(text, prefix=_PREFIX_LENGTH if digits > len(text) / 2 else 0)

    def _replace_email(self, email: str) -> str:
        at_sign = "%40" if "%40" in email else "@"
        return f"{self._replace(email.partition(at_sign)[0])}{at_sign}example.com"

    def _replace(self, text: str, *, prefix: int = 0) -> str:
        """Return the replacement of a text, of the same shape; `prefix` keeps its first character and so many more."""
        if text not in self._replacements:
            replacement = "".join(
                character if prefix and position <= prefix else self._replace_character(character, first=not position)
                for position, character in enumerate(text)
            )
            self._replacements[text] = replacement
            self._fakes.add(replacement)
        return self._replacements[text]

    def _replace_character(self, character: str, *, first: bool) -> str:
        """Return another character of the same kind; signs, and a zero that comes first, stay as they are."""
        if first and character == "0":
            return character
        for characters in _CHARACTER_CLASSES:
            if character in characters:
                # never the same: a short name that is drawn as itself would not be hidden
                return self._random.choice(characters.replace(character, ""))
        if character.isalpha():  # of another script
            return self._random.choice(string.ascii_uppercase if character.isupper() else string.ascii_lowercase)
        return character


def _names_private(name: str) -> bool:
    """Tell whether a field of this name holds somebody's data or a secret."""
    return personal_name(name) or secret_name(name)


def _spellings(secret: str) -> Iterator[str]:
    """Yield the spellings in which a secret may stand in what is sent."""
    yield from (secret, secret.upper(), secret.lower(), quote(secret, safe=""), quote_plus(secret))
    encoded = base64.b64encode(secret.encode()).decode()
    yield encoded
    yield encoded.rstrip("=")


class _Number(str):
    """A JSON number as the text that was sent: a float would lose "12.50" and long ids."""


def _nested_json(text: str) -> JsonValue:
    """Parse a string that holds a JSON object or list; `None` for any other."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return cast(JsonValue, json.loads(text, parse_float=_Number, parse_int=_Number))
    except (ValueError, RecursionError):
        return None


def _write_json(value: JsonValue, line_break: str | None = "\n") -> str:
    """Write JSON with its numbers as they were sent.

    Each value gets a line of its own after `line_break`, which holds the indentation; all stand on one line where it is
    `None`. `json.dumps` cannot be used: it would write each number as a string.
    """
    inner = f"{line_break} " if line_break is not None else None
    separator, start, end = f",{inner or ''}", inner or "", line_break or ""
    match value:
        case dict() if value:
            members = (
                f"{json.dumps(name, ensure_ascii=False)}: {_write_json(member, inner)}"
                for name, member in value.items()
            )
            return f"{{{start}{separator.join(members)}{end}}}"
        case list() if value:
            return f"[{start}{separator.join(_write_json(element, inner) for element in value)}{end}]"
        case _Number():
            return str(value)
    return json.dumps(value, ensure_ascii=False)
