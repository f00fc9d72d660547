"""Keeps secrets, people and what steers a terminal out of every text that leaves the process: errors, logs, output.

Owns what each of them looks like; who prints is not its concern.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from typing import Any

MASK = "…"

_PATTERNS = (
    re.compile(r"7loc_sc_[^\s\"'<>]+"),
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
)

# control characters, marks and overrides of the direction of writing, separators of lines, halves of a character (which
# no output can encode) and invisible tags; what joins letters in Persian or Hindi, and emoji, is left alone
_STEERS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    r"\U000e0000-\U000e007f"
)
_STEERING = re.compile(f"[{_STEERS}]")
_STEERING_A_LINE = re.compile(f"[\t\n{_STEERS}]")

# in the languages that tills mostly speak; plurals and what is written together are found, too
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
_SHOWN = 2  # of each end of what is masked
_DIGITS_OF_A_PHONE = 9


def _words_of(name: str) -> set[str]:
    words = {one.lower() for one in _WORDS.findall(name[:200])}
    return words | {one.removesuffix("s") for one in words}


def personal_name(name: str) -> bool:
    """Whether what stands under this name, in what a till sends, is likely somebody's own."""
    words = _words_of(name)
    joined = "".join(_WORDS.findall(name[:200])).lower()
    return bool(words & _PERSONAL) or {"card", "number"} <= words or any(one in joined for one in _PERSONAL_PARTS)


def secret_name(name: str) -> bool:
    """Whether what stands under this name is likely a secret."""
    words = _words_of(name)
    return bool(words & _SECRET) and words != {"key"}  # `key` beside `value` names what the value is


def personal_text(text: str) -> bool:
    """Whether a text is somebody's email or phone by its looks, wherever it stands."""
    digits = sum(sign.isdigit() for sign in text[:60])
    return "@" in text or (text.startswith(("+", "00")) and digits >= _DIGITS_OF_A_PHONE)


def masked(text: str) -> str:
    """A text of which only its ends are shown: enough to know one's own by, and not to learn another's."""
    if len(text) <= 3 * _SHOWN:
        return MASK
    return f"{text[:_SHOWN]}{MASK}{text[-_SHOWN:]}"


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with everything that looks like a secret, a phone number or an email masked, and `secrets` too."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: f"{found[1]}={MASK}" if found.re.groups else MASK, text)
    return text


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with every sign that steers a terminal or turns the writing round shown as its code, as in `\\x1b`.

    `lines` leaves line breaks and tabs as they are: only for what is meant to be several lines.
    """
    return (_STEERING_A_LINE if not lines else _STEERING).sub(_as_code, text)


def printable_json(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON; a sign that would steer a terminal stands as JSON's own escape."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if not _STEERING.search(text):
        return text
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")  # the one such sign that is ASCII as well


def _as_code(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class RedactingFormatter(logging.Formatter):
    """Redacts the finished line, so that arguments and tracebacks are covered as well."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)), lines=True)
