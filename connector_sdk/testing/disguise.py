"""Secrets and people made unrecognisable in what a till said, shapes kept, so that it is read as before.

Owns what is disguised and how; what a secret or a person looks like is `connector_sdk.redaction`'s.
"""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
import string
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

from connector_sdk.redaction import personal_name, secret_name

_EMAIL = re.compile(r"[\w.+%-]{1,64}(?:@|%40)[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"(?:\+|%2B|\b00)[1-9][\d ()-]{7,18}\d")
_TELLS = ("key", "name", "type", "kind", "code", "label")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORM = re.compile(r"[\w.%\[\]-]+=[^\s<>{}]*")
_SHOWN_DIGITS = 4  # of a phone: its country, so that it is read as from there
_SHORT = 3  # fewer signs say nothing of anybody, and are often a code
_DEEPEST = 200
_FEW_SIGNS = 20  # "OK", "<html>"
_CLASSES = ("0123456789", "abcdef", string.ascii_lowercase[6:], "ABCDEF", string.ascii_uppercase[6:])


class Undisguisable(ValueError):
    """A body that cannot be looked through: nothing of it may be kept."""


class Disguise:
    """One recording's: the same secret or person is always disguised in the same way."""

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        self._chance = random.Random(secrets.randbits(128))  # noqa: S311 - nothing is derived from the original
        self._made: dict[str, str] = {}
        self._fakes: set[str] = set()
        forms = {form for one in hidden if one for form in _forms(one)}
        self._secrets = sorted(forms, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Any text: secrets in whatever way they are written, emails and phones in it."""
        for one in self._secrets:
            if one in text:
                text = text.replace(one, self._other(one))
        text = _EMAIL.sub(lambda found: self._email(found[0]), text)
        return _PHONE.sub(lambda found: self._other(found[0], shown=_SHOWN_DIGITS), text)

    def tells(self, text: str) -> bool:
        """Whether one of the secrets is in a text after all."""
        return any(one in text for one in self._secrets)

    def body(self, body: bytes) -> bytes:
        """A body, by its names where it is JSON or a form, a line for each value; numbers stay as they were sent.

        Raises `Undisguisable` for anything else that is not short.
        """
        try:
            found = json.loads(body, parse_float=_Number, parse_int=_Number)
        except RecursionError:
            raise Undisguisable("a body is nested too deep to be looked through") from None
        except ValueError:
            return self._of_no_json(body)
        return _written(self.value(found)).encode()

    def _of_no_json(self, body: bytes) -> bytes:
        text = body.decode("utf-8", "replace")
        if _FORM.fullmatch(text):
            pairs = parse_qsl(text, keep_blank_values=True)
            return urlencode([(name, self.value(value, name)) for name, value in pairs]).encode()
        if len(text) > _FEW_SIGNS:
            raise Undisguisable("a body is neither JSON nor a form: nobody can say what of it is whose")
        return self.text(text).encode()

    def value(self, value: Any, key: str = "", personal: bool = False, deep: int = 0) -> Any:
        """A value that stands under a name; what stands under a personal or secret one is disguised whole."""
        if deep > _DEEPEST:
            raise Undisguisable("a body is nested too deep to be looked through")
        personal = personal or personal_name(key) or secret_name(key)
        match value:
            case dict():
                told = [one for name, one in value.items() if name in _TELLS and isinstance(one, str)]
                if any(personal_name(one) or secret_name(one) for one in told):  # {"key": "phone", "value": …}
                    return {name: self.value(one, name, name not in _TELLS, deep + 1) for name, one in value.items()}
                return {self.text(name): self.value(one, name, personal, deep + 1) for name, one in value.items()}
            case list() | tuple():
                return [self.value(one, key, personal, deep + 1) for one in value]
            case _Number():
                hidden = self.text(value)
                return _Number(self._person(hidden) if personal and len(value) > _SHORT else hidden)
            case str():
                return self._of_text(value, personal)
        return value

    def _of_text(self, value: str, personal: bool) -> str:
        if value[:1] in ("{", "["):  # JSON within a text
            try:
                inner = json.loads(value, parse_float=_Number, parse_int=_Number)
            except (ValueError, RecursionError):
                inner = None
            if inner is not None:
                return _written(self.value(inner, personal=personal), None)
        address, asks, query = value.partition("?")
        if asks and _FORM.fullmatch(query):  # what an address asks for is under names of its own
            pairs = [(name, self.value(one, name)) for name, one in parse_qsl(query, keep_blank_values=True)]
            return f"{self.text(address)}?{urlencode(pairs)}"
        hidden = self.text(value)
        return self._person(hidden) if personal and len(value) >= _SHORT - 1 else hidden

    def _person(self, text: str) -> str:
        if _DATE.fullmatch(text):
            return f"{text[:4]}-01-01"
        if text in self._fakes or _EMAIL.fullmatch(text):
            return text  # an email, phone or secret that is disguised already
        digits = sum(sign.isdigit() for sign in text)
        return self._other(text, shown=_SHOWN_DIGITS if digits > len(text) / 2 else 0)

    def _email(self, text: str) -> str:
        sign = "%40" if "%40" in text else "@"
        return f"{self._other(text.partition(sign)[0])}{sign}example.com"

    def _other(self, text: str, *, shown: int = 0) -> str:
        """Another text of the same shape: digits for digits, letters for letters."""
        if text not in self._made:
            self._made[text] = "".join(self._sign(sign, at, shown) for at, sign in enumerate(text))
            self._fakes.add(self._made[text])
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


def _forms(secret: str) -> Iterable[str]:
    """A secret in the ways in which it may stand in what is sent."""
    yield from (secret, secret.upper(), secret.lower(), quote(secret, safe=""), quote_plus(secret))
    encoded = base64.b64encode(secret.encode()).decode()
    yield encoded
    yield encoded.rstrip("=")


class _Number(str):
    """A number as the text that was sent."""


def _written(value: Any, indent: str | None = "\n") -> str:
    """JSON with its numbers as they were sent: a line for each value, or all on one."""
    inner = f"{indent} " if indent is not None else ""
    between, end = f",{inner}", indent or ""
    deeper = inner if indent is not None else None
    match value:
        case dict() if value:
            rows = (f"{json.dumps(name, ensure_ascii=False)}: {_written(one, deeper)}" for name, one in value.items())
            return f"{{{inner}{between.join(rows)}{end}}}"
        case list() if value:
            return f"[{inner}{between.join(_written(one, deeper) for one in value)}{end}]"
        case _Number():
            return str(value)
    return json.dumps(value, ensure_ascii=False)
