"""What a cafe sends to support: one file, redacted, that says itself what is in it.

Owns what goes in and that nothing secret or personal does; who may ask for it is the caller's.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from connector_sdk.messages import Catalogue, Message
from connector_sdk.redaction import MASK, redact
from connectors.domain.clock import moment
from connectors.domain.connection import Connection
from connectors.domain.operation import outward
from connectors.store import inbox, ledger, queries
from connectors.store.engine import Store, Transaction

_LINES = 2000
_OPERATIONS = 500

CONTENTS: Mapping[str, str] = {
    "connection.json": "Which till, how it is doing and since when, the stamp rule. No tokens, no keys.",
    "days.json": "How many receipts, stamps and vouchers there were each day.",
    "journal.txt": "What happened, the last 2000 lines, in English. Phones and emails are masked.",
    "operations.json": "The last 500 stamps and vouchers sent to 7stamp, and what became of each.",
    "unreadable.json": "Which receipts could not be read, where and why. Not what was in them.",
    "installation.json": "Which versions run here.",
}
"""What is in the file, a sentence for a cafe each."""


async def bundle(store: Store, one: Connection, shown: Mapping[str, Any], words: Catalogue) -> bytes:
    """The file (zip) about a connection; `shown` is what scripts read of it."""
    secrets = [store.vault.decrypt(kept) for kept in (one.sevenstamp_key, one.hook_token)]
    secrets += [str(value) for value in json.loads(store.vault.decrypt(one.settings)).values() if len(str(value)) > 4]

    def read(tx: Transaction) -> dict[str, Any]:
        return {
            "lines": ledger.journal.of_connection(tx, one.id, limit=_LINES),
            "operations": queries.operations.list_newest(tx, one.id, limit=_OPERATIONS),
            "days": ledger.daily_totals.of_days(tx, [one.id], "")[one.id],
            "kept": inbox.unreadable.without_bodies(tx, one.id),
        }

    found = await store.read(read)
    files: dict[str, Any] = {
        "connection.json": {name: value for name, value in shown.items() if name not in ("hook_url", "title")},
        "days.json": {
            day: {"receipts": sums.receipts, "stamps": sums.stamps, "redemptions": sums.redemptions}
            for day, sums in sorted(found["days"].items())
        },
        "journal.txt": "\n".join(
            f"{moment(line.at).isoformat(timespec='seconds')}  {words.word(_masked(line.message))}"
            for line in found["lines"]
        ),
        "operations.json": [
            {
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
            for operation in found["operations"]
        ],
        "unreadable.json": [
            {
                "receipt": one.receipt_id,
                "where": one.where,
                "why": words.word(one.why),
                "at": moment(one.at).isoformat(),
            }
            for one in found["kept"]
        ],
        "installation.json": {
            "version": version("sevenstamp-connectors"),
            "python": platform.python_version(),
            "database": "embedded" if store.embedded else "server",
        },
        "README.txt": "\n".join(f"{name}: {what}" for name, what in CONTENTS.items()),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            clean = _redacted(content, secrets)
            text = clean if isinstance(clean, str) else json.dumps(clean, ensure_ascii=False, indent=2)
            archive.writestr(name, text)
    return packed.getvalue()


def _masked(message: Message) -> Message:
    """Without the code of a voucher, which is good as money as long as it is not used."""
    return Message(message.id, {name: MASK if name == "code" else value for name, value in message.params.items()})


def _redacted(content: Any, secrets: list[str]) -> Any:
    """Redacted before it is written as JSON, whose escapes would hide what to look for."""
    match content:
        case str():
            return redact(content, secrets)
        case dict():
            return {name: _redacted(value, secrets) for name, value in content.items()}
        case list():
            return [_redacted(value, secrets) for value in content]
    return content
