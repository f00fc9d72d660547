"""Secrets and people made unrecognisable in what a till said, shapes kept, so that it is read as before.

Owns what counts as a secret or a person there; nothing of the original is in what it gives.
"""

from __future__ import annotations

import json
import random
import re
import secrets
import string
from collections.abc import Iterable
from typing import Any

from connector_sdk.redaction import personal_name

_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"\+\d[\d ()-]{7,18}\d")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SHOWN_DIGITS = 4  # of a phone: its country, so that it is read as from there
_SHORT = 3  # fewer signs say nothing of anybody, and are often a code
_CLASSES = ("0123456789", "abcdef", string.ascii_lowercase[6:], "ABCDEF", string.ascii_uppercase[6:])


class Disguise:
    """One recording's: the same secret or person is always disguised in the same way."""

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        self._chance = random.Random(secrets.randbits(128))  # noqa: S311 - nothing is derived from the original
        self._made: dict[str, str] = {}
        self._secrets = sorted({one for one in hidden if one}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Any text: secrets, emails and phones in it."""
        for one in self._secrets:
            text = text.replace(one, self._other(one))
        text = _EMAIL.sub(lambda found: self._email(found[0]), text)
        return _PHONE.sub(lambda found: self._other(found[0], shown=_SHOWN_DIGITS), text)

    def body(self, body: bytes) -> bytes:
        """A body, by its keys where it is JSON, a line for each value; numbers stay as they were sent."""
        try:
            found = json.loads(body, parse_float=_Number, parse_int=_Number)
        except (ValueError, RecursionError):
            return self.text(body.decode("utf-8", "replace")).encode()
        return _written(self.value(found)).encode()

    def value(self, value: Any, key: str = "", personal: bool = False) -> Any:
        """A value that stands under a key; what stands under a personal one is disguised whole."""
        personal = personal or personal_name(key)
        match value:
            case dict():
                return {name: self.value(one, name, personal) for name, one in value.items()}
            case list() | tuple():
                return [self.value(one, key, personal) for one in value]
            case _Number():
                return _Number(self._person(value)) if personal and len(value) > _SHORT else value
            case str():
                hidden = self.text(value)
                return self._person(value) if personal and hidden == value and len(value) >= _SHORT else hidden
        return value

    def _person(self, text: str) -> str:
        if _DATE.fullmatch(text):
            return f"{text[:4]}-01-01"
        digits = sum(sign.isdigit() for sign in text)
        return self._other(text, shown=_SHOWN_DIGITS if digits > len(text) / 2 else 0)

    def _email(self, text: str) -> str:
        return f"{self._other(text.partition('@')[0])}@example.com"

    def _other(self, text: str, *, shown: int = 0) -> str:
        """Another text of the same shape: digits for digits, letters for letters."""
        if text not in self._made:
            self._made[text] = "".join(self._sign(sign, at, shown) for at, sign in enumerate(text))
        return self._made[text]

    def _sign(self, sign: str, at: int, shown: int) -> str:
        if at <= shown and shown:
            return sign
        for signs in _CLASSES:
            if sign in signs:
                return self._chance.choice(signs if sign != "0" or at else "0")
        if sign.isalpha():
            return self._chance.choice(string.ascii_uppercase if sign.isupper() else string.ascii_lowercase)
        return sign


class _Number(str):
    """A number as the text that was sent."""


def _written(value: Any, indent: str = "\n") -> str:
    """JSON, a line for each value, with its numbers as they were sent."""
    inner = f"{indent} "
    match value:
        case dict() if value:
            rows = (f"{json.dumps(name, ensure_ascii=False)}: {_written(one, inner)}" for name, one in value.items())
            return f"{{{inner}{f',{inner}'.join(rows)}{indent}}}"
        case list() if value:
            return f"[{inner}{f',{inner}'.join(_written(one, inner) for one in value)}{indent}]"
        case _Number():
            return str(value)
    return json.dumps(value, ensure_ascii=False)
