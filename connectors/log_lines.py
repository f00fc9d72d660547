"""Log lines as JSON, each with the connection and the receipt that it is about.

Owns what a line is about, for whatever is called meanwhile; how lines are written is chosen on the command line.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from connector_sdk.redaction import RedactingFormatter, printable, redact

_subject: ContextVar[Mapping[str, str] | None] = ContextVar("subject", default=None)


@contextmanager
def about(connection: str, receipt: str | None = None, **more: str) -> Iterator[None]:
    """Have every line of the block, and of the tasks made in it, say what it is about.

    The lines of one receipt, from its hook to its stamp, have the same `sale`: the connection's id and the receipt's.
    """
    subject = {"connection": connection, **more}
    if receipt is not None:
        subject |= {"receipt": receipt, "sale": f"{connection}/{receipt}"}
    token = _subject.set(subject)
    try:
        yield
    finally:
        _subject.reset(token)


def subject() -> Mapping[str, str] | None:
    """Return what this block is about, by name; `None` outside of any."""
    return _subject.get()


class JsonFormatter(RedactingFormatter):
    """Formats a record as one line of JSON: `at` (UTC), `level`, `logger`, `message`, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; the message, with its traceback if there is one, is redacted as in text."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": super().format(record),
            # a till names its receipts as it likes: such a name may be a person's
            **{name: printable(redact(value)) for name, value in (subject() or {}).items()},
        }
        return json.dumps(line, ensure_ascii=False)
