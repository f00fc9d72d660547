"""Keeps secrets and people out of every text that leaves the process: errors, logs, diagnostics.

Owns what a secret looks like; who prints is not its concern.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

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


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` with everything that looks like a secret, a phone number or an email masked, and `secrets` too."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda found: f"{found[1]}={MASK}" if found.re.groups else MASK, text)
    return text


class RedactingFormatter(logging.Formatter):
    """Redacts the finished line, so that arguments and tracebacks are covered as well."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
