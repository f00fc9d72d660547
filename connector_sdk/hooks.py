"""What a till posts to us, and what a connector makes of it.

Owns the values that pass between the host's HTTP face and `Connector.route` and `Connector.receive`; pluggy's
hook specifications are in `hookspecs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import SecretStr

from connector_sdk.sale import Sale, Unreadable


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request as it came: `headers` have lower-case names, `body` is byte for byte what was sent."""

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the till wants to read: a status and a body; `retry_after` (seconds) says when to send it again."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """`Connector.route` found the proof good and the hook to be this till account's."""

    id: str


@dataclass(frozen=True, slots=True)
class Hint:
    """A receipt changed; `closed` where the till said that it was paid and closed."""

    receipt_id: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Hints:
    """A thin hook: receipts to read again."""

    hints: tuple[Hint, ...]


@dataclass(frozen=True, slots=True)
class Sales:
    """A full hook: whole sales, and what could not be mapped."""

    sales: tuple[Sale, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The till account was joined to or taken from our application.

    `settings` replaces those fields of the connection's settings where the hook carried new ones; `at` is when the
    till says that it happened (aware), so that a late farewell does not end a newer welcome, and an old welcome that
    somebody sends again replaces nothing. `recheck` believes nothing: the till is read at once, and its answer decides.
    """

    authorised: bool = True
    settings: Mapping[str, SecretStr] = field(default_factory=dict)
    at: datetime | None = None
    recheck: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """Proven and understood, and nothing of ours; `why` is a short English phrase."""

    why: str


Received = Hints | Sales | AccountChanged | Ignored
