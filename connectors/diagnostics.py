"""What a cafe sends to support: one file, redacted, that says itself what is in it.

Owns what goes in and that nothing secret or personal does; who may ask for it is the caller's.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from pydantic import JsonValue

from connector_sdk.messages import Catalogue, Message
from connector_sdk.redaction import MASK, redact
from connectors.domain.clock import moment
from connectors.domain.connection import Connection
from connectors.domain.operation import outward
from connectors.store import connections, inbox, ledger, queries
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.unreadable import UnreadEntry
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.ledger.journal import JournalLine
from connectors.store.ledger.operations import Operation

_LINES = 2000
_OPERATIONS = 500
_SHORTEST_SECRET = 5  # shorter settings are everyday words, which would be masked in every text
_LEFT_OUT = ("hook_url", "title")
"""What scripts read of a connection and support does not: an address with a token in it, and a cafe's own words."""

CONTENTS: Mapping[str, str] = {
    "connection.json": "Which till, how it is doing and since when, the stamp rule. No tokens, no keys.",
    "days.json": "How many receipts, stamps and vouchers there were each day.",
    "journal.txt": "What happened, the last 2000 lines, in English. Phones and emails are masked.",
    "operations.json": "The last 500 stamps and vouchers sent to 7stamp, and what became of each.",
    "unreadable.json": "Which receipts could not be read, where and why. Not what was in them.",
    "installation.json": "Which versions run here.",
}
"""What is in the file, a sentence for a cafe each."""


@dataclass(frozen=True, slots=True)
class _Records:
    """What the database holds of a connection."""

    lines: Sequence[JournalLine]
    operations: Sequence[Operation]
    days: Mapping[str, DayTotals]
    unread: Sequence[UnreadEntry]


async def bundle(store: Store, connection: Connection, shown: Mapping[str, JsonValue], words: Catalogue) -> bytes:
    """Return the file (zip) about a connection; `shown` is what scripts read of it."""
    records = await store.read(lambda tx: _read(tx, connection.id))
    files: dict[str, JsonValue] = {
        "connection.json": {name: value for name, value in shown.items() if name not in _LEFT_OUT},
        "days.json": {day: _totals(totals) for day, totals in sorted(records.days.items())},
        "journal.txt": "\n".join(_line(line, words) for line in records.lines),
        "operations.json": [_operation(operation, words) for operation in records.operations],
        "unreadable.json": [_unread(entry, words) for entry in records.unread],
        "installation.json": _installation(store),
        "README.txt": "\n".join(f"{name}: {sentence}" for name, sentence in CONTENTS.items()),
    }
    secrets = _secrets_of(store, connection)
    return _packed({name: _redacted(content, secrets) for name, content in files.items()})


def _read(tx: Transaction, connection_id: str) -> _Records:
    return _Records(
        lines=ledger.journal.of_connection(tx, connection_id, limit=_LINES),
        operations=queries.operations.list_newest(tx, connection_id, limit=_OPERATIONS),
        days=ledger.daily_totals.of_days(tx, [connection_id], "")[connection_id],
        unread=inbox.unreadable.without_bodies(tx, connection_id),
    )


def _secrets_of(store: Store, connection: Connection) -> list[str]:
    """Return every text of a connection that must not be in the file, wherever it stands."""
    secrets = [store.vault.decrypt(ciphertext) for ciphertext in (connection.sevenstamp_key, connection.hook_token)]
    subscription = connections.subscriptions.of_connection(store.vault, connection)
    if subscription is not None:
        secrets.append(subscription.address)
        secrets += [subscription.key.get_secret_value()] if subscription.key is not None else []
    grant = connections.stored_grants.of_connection(store.vault, connection)
    if grant is not None:
        secrets += [secret.get_secret_value() for secret in grant.secrets.values()]
    settings: dict[str, object] = json.loads(store.vault.decrypt(connection.settings))
    # all settings, not only those that are marked as secret: till addresses and ids are nobody's business either
    return secrets + [str(value) for value in settings.values() if len(str(value)) >= _SHORTEST_SECRET]


def _totals(totals: DayTotals) -> dict[str, JsonValue]:
    return {
        "receipts": totals.receipts,
        "stamps": totals.stamps,
        "redemptions": totals.redemptions,
        "taken_back": totals.taken_back,
    }


def _line(line: JournalLine, words: Catalogue) -> str:
    return f"{moment(line.at).isoformat(timespec='seconds')}  {words.word(_without_code(line.message))}"


def _operation(operation: Operation, words: Catalogue) -> dict[str, JsonValue]:
    return {
        "id": operation.id,
        "code": operation.code,
        "kind": operation.kind.value,
        "count": operation.count,
        "state": outward(operation.state),
        "why": words.word(operation.reason) if operation.reason else None,
        "tries": operation.tries,
        "created": moment(operation.created_at).isoformat(),
        "updated": moment(operation.updated_at).isoformat(),
    }


def _unread(entry: UnreadEntry, words: Catalogue) -> dict[str, JsonValue]:
    return {
        "receipt": entry.receipt_id,
        "where": entry.where,
        "why": words.word(entry.why),
        "at": moment(entry.at).isoformat(),
    }


def _installation(store: Store) -> dict[str, JsonValue]:
    return {
        "version": version("sevenstamp-connectors"),
        "python": platform.python_version(),
        "database": "embedded" if store.embedded else "server",
    }


def _packed(files: Mapping[str, JsonValue]) -> bytes:
    """Return a zip of files: texts as they are, everything else as JSON."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=2)
            archive.writestr(name, text)
    return packed.getvalue()


def _without_code(message: Message) -> Message:
    """Return a message without the code of a voucher, which is good as money as long as it is not used."""
    # by parameter, before the line is worded: in the text a code looks like any other word
    return Message(message.id, {name: MASK if name == "code" else value for name, value in message.params.items()})


def _redacted(content: JsonValue, secrets: list[str]) -> JsonValue:
    """Redact every text of a value, before it is written as JSON, whose escapes would hide what to look for."""
    match content:
        case str():
            return redact(content, secrets)
        case dict():
            return {name: _redacted(value, secrets) for name, value in content.items()}
        case list():
            return [_redacted(value, secrets) for value in content]
    return content
