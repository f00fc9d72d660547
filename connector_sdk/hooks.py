"""Webhooks of a till: the request that the host received, and the values to which a connector parses it.

Owns the values that pass between the host's HTTP server and `Connector.route` and `Connector.receive`; pluggy's hook
specifications, which are another thing of the same name, are in `hookspecs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from connector_sdk.authorisation import Grant
from connector_sdk.sale import Sale, Unreadable


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A till's request as it arrived: `headers` have lower-case names, `body` is byte for byte what was sent.

    `url` is the whole address as the operator's public address makes it, for tills that sign it: never what a proxy on
    the way says. It may hold a connection's token.
    """

    method: str
    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = field(repr=False)
    url: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP answer that the till expects; `retry_after`, in seconds, asks it to send the hook again."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """The till account, by its id, to which a hook belongs; `Connector.route` has verified the hook.

    `hook_name` is for tills that sign another name of the account than its id: the host compares it with
    `TillAccount.hook_name`, and refuses a hook in which the two belong to different accounts.
    """

    id: str
    hook_name: str | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """The till says that a receipt changed; `closed` where it also says that it was paid and closed."""

    receipt_id: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Hints:
    """A thin hook: it names receipts, which the host then fetches."""

    hints: tuple[Hint, ...]


@dataclass(frozen=True, slots=True)
class Sales:
    """A full hook: it carries whole sales, and receipts that could not be mapped."""

    sales: tuple[Sale, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """The till account granted our application access, or withdrew it.

    `grant` replaces what the connection has, where the hook carried one. `at` (aware) is when the till says that it
    happened: a late withdrawal does not end a newer grant, and an old grant that somebody sends again replaces nothing.
    With `recheck` the host trusts nothing of the hook and asks the till, whose answer decides: also what venues the
    account has now.
    """

    authorised: bool = True
    grant: Grant | None = None
    at: datetime | None = None
    recheck: bool = False


@dataclass(frozen=True, slots=True)
class Ignored:
    """A verified hook that concerns no receipt and no access; `why` is a short English phrase."""

    why: str


Received = Hints | Sales | AccountChanged | Ignored
