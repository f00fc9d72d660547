"""Mask secrets, personal data and terminal control characters in every text that leaves the process.

Owns the patterns by which each of them is recognised; errors, logs and output call it before they print.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable

MASK = "…"

# A pattern with a group masks a value and keeps the name before it (the group); one without masks all that it matches.
# Each has a bounded start, or begins with a fixed text, so that a long line cannot make it backtrack for long.
_PATTERNS = (
    re.compile(r"7loc_sc_[^\s\"'<>]+"),
    re.compile(r"7con_[\w-]+"),
    re.compile(r"(?i)(?<!\w)\d{1,12}(?::|%3A)[0-9a-f]{16,64}(?!\w)"),  # a Poster token
    re.compile(r"(?i)(?<=bearer )\S+"),
    re.compile(
        r"(?i)(?<![\w-])((?:access_|refresh_)?token|secret|application_secret|password|api_key|phone|email|number)"
        r"[\"']?\s?[=:]\s?[\"']?[^&\s\"'>)},]+"
    ),
    re.compile(r"(?i)(?<![\w-])(code)=[^&\s\"'>)]+"),
    re.compile(r"(?<=://)([^/\s:@]+):[^/\s@]+(?=@)"),
    re.compile(r"[\w.+%-]{1,64}(?:@|%40)[\w-]+(?:\.[\w-]+)+"),
    re.compile(r"(?<![0-9A-Za-z.-])(?:\+|%2B)?\d{10,15}(?![\w-]|\.\d)"),  # a phone number; long ids go with it
    re.compile(r"(?:\+|%2B)\d{1,4}(?:[ ()-]{1,2}\d{1,4}){2,6}"),  # the same as people write it
    re.compile(r"(?<=/hooks/tills/)([\w-]+)/[\w-]+"),
    re.compile(r"(?<=/hooks/7stamp/)[\w-]+"),
    re.compile(r"whsec_[A-Za-z0-9+/=_-]+"),
)

# Control characters, marks and overrides of the direction of writing, line separators, lone surrogates (which no output
# can encode) and invisible tags. Joiners, which Persian, Hindi and emoji need, are left alone.
_CONTROL_CHARACTERS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f"
)
_CONTROL = re.compile(f"[{_CONTROL_CHARACTERS}]")
_CONTROL_OR_LINE_BREAK = re.compile(f"[\t\n{_CONTROL_CHARACTERS}]")

# Names of fields in the languages that tills mostly speak, in lower case and the singular: `_words_of` splits
# `customerName` and `customer_names` into these. The parts are for names written together, such as `customername`.
_PERSONAL = frozenset(
    "name firstname lastname surname fullname nickname username login phone phonenumber mobile msisdn tel telephone "
    "whatsapp email mail address street city zip postcode postal birthday birthdate birth dob comment note remark iban "
    "ip lat lng latitude longitude customer client guest buyer contact person given family waiter employee staff "
    "cashier nombre apellido telefono movil correo direccion cliente nama telefon emel alamat pelanggan vorname "
    "nachname kunde gast handy adresse nom prenom courriel".split()
)
_PERSONAL_PARTS = ("phone", "mobile", "email", "telefon", "customername", "firstname", "lastname")
_SECRET = frozenset(
    "token secret password passwd pass pwd apikey key session sid cookie signature verify authorization auth bearer "
    "jwt credential pin".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_END_LENGTH = 2  # characters that `masked` shows of each end
_LONGEST_NAME = 200  # of a field; a till that sends longer ones must not make us split them
_PHONE_DIGITS = 9


def _words_of(name: str) -> set[str]:
    """Split a field's name into its lower-case words, each also without a plural s."""
    words = {word.lower() for word in _WORDS.findall(name[:_LONGEST_NAME])}
    return words | {word.removesuffix("s") for word in words}


def personal_name(name: str) -> bool:
    """Tell whether a field of this name, in a till's payload, likely holds personal data."""
    words = _words_of(name)
    joined = "".join(_WORDS.findall(name[:_LONGEST_NAME])).lower()
    return bool(words & _PERSONAL) or {"card", "number"} <= words or any(part in joined for part in _PERSONAL_PARTS)


def secret_name(name: str) -> bool:
    """Tell whether a field of this name likely holds a secret."""
    words = _words_of(name)
    return bool(words & _SECRET) and words != {"key"}  # in {"key": …, "value": …} the key is a name, not a secret


def personal_text(text: str) -> bool:
    """Tell whether a text looks like an email or a phone number, whatever the name of its field."""
    digits = sum(character.isdigit() for character in text[:60])
    return "@" in text or (text.startswith(("+", "00")) and digits >= _PHONE_DIGITS)


def masked(text: str) -> str:
    """Mask all but the first and last two characters; a text of six or fewer is masked whole."""
    if len(text) <= 3 * _END_LENGTH:
        return MASK
    return f"{text[:_END_LENGTH]}{MASK}{text[-_END_LENGTH:]}"


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Mask everything in `text` that looks like a secret, a phone number or an email, and each of `secrets`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(_mask_match, text)
    return text


def _mask_match(match: re.Match[str]) -> str:
    """Mask one match of a pattern of `_PATTERNS`, and keep the name of its group."""
    return f"{match[1]}={MASK}" if match.re.groups else MASK


def printable(text: str, *, lines: bool = False) -> str:
    """Replace every control character in `text` by its code, as in `\\x1b`, so that it cannot steer a terminal.

    `lines` keeps line breaks and tabs: for text that is meant to be several lines.
    """
    return (_CONTROL if lines else _CONTROL_OR_LINE_BREAK).sub(_escape_match, text)


def printable_json(value: object, *, indent: int | None = None) -> str:
    """Write a value as JSON in which control characters are escaped, as JSON escapes them."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if not _CONTROL.search(text):
        return text
    # escape everything that is not ASCII; DEL is the only control character that JSON itself leaves unescaped
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _escape_match(match: re.Match[str]) -> str:
    """Write a character as Python's shortest escape of its code."""
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class RedactingFormatter(logging.Formatter):
    """Redacts the finished line, so that arguments and tracebacks are covered as well."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, mask secrets and personal data, and escape control characters."""
        return printable(redact(super().format(record)), lines=True)
