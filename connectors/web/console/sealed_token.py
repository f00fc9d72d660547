"""Tokens in a form that carry what one page has found on to the next, sealed so that only this host can read them.

Owns that a token is for one purpose on one connection and for a quarter of an hour; what it carries is the page's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from connectors.domain.clock import MINUTE
from connectors.domain.connection import Connection
from connectors.store.errors import StoreError
from connectors.web.console.visit import PageNotFound, Visit

_LIFETIME = 15 * MINUTE


@dataclass(frozen=True, slots=True)
class OpenedToken:
    """The content of a token, `expired` where its quarter of an hour is over."""

    content: list[JsonValue]
    expired: bool


def seal_token(visit: Visit, purpose: str, connection: Connection, content: Sequence[JsonValue]) -> str:
    """Seal what was found for a purpose on a connection."""
    # bound to purpose, connection and time: a token of another page or cafe opens nothing
    expires_at = visit.localizer.now + _LIFETIME
    return visit.host.store.vault.encrypt(json.dumps([purpose, connection.id, expires_at, *content]))


def open_token(visit: Visit, purpose: str, connection: Connection, token: str) -> OpenedToken:
    """Open a token. Raises `PageNotFound` where it is not ours, or is for another purpose or connection."""
    try:
        opened_purpose, connection_id, expires_at, *content = json.loads(visit.host.store.vault.decrypt(token))
    # whatever was tampered with looks the same: not ours
    except (StoreError, ValueError, TypeError):
        raise PageNotFound from None
    if (opened_purpose, connection_id) != (purpose, connection.id):
        raise PageNotFound
    return OpenedToken(content, expired=expires_at < visit.localizer.now)
