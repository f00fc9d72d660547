"""How a cafe grants access to its till: a token that it pastes, or the till's own consent page (OAuth).

Owns the values that pass between a connector's OAuth functions and the host. Storing a grant, renewing it and handing
it to the connector is the host's; which request header it becomes is the connector's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import httpx
from pydantic import SecretStr

from connector_sdk.errors import NotAuthorised

# `Any` is forced by Python's types: a class cannot say "an instance of my own `app_model`" without a second type
# parameter that every connector, also one without such settings, would have to write.
OperatorSettings: TypeAlias = Any
"""An instance of a connector's `app_model`, or `None` where it has none."""


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that a cafe finds in its till's admin and pastes into the settings field `field`.

    `where_to_find` is a sentence for a cafe.
    """

    field: str
    where_to_find: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a till gave us for a consent: secrets by name, and when the access ends.

    `secrets` are the connector's own (`access_token`, `refresh_token`, …): the host stores them encrypted and never
    shows them. `expires_at` (aware) is when the till stops taking them; `None` where they do not end. `issued_at`
    (aware) is when they were given; the host fills it in where it is `None`, and renews after a quarter of the time
    between the two. `single_use` says that the refresh token is good once, as with PKCE at many tills: of a renewal
    that was interrupted nobody knows then whether the token is used up, and the host does not show it again.
    """

    secrets: Mapping[str, SecretStr] = field(repr=False)
    expires_at: datetime | None = None
    issued_at: datetime | None = None
    single_use: bool = False

    def secret(self, name: str) -> str:
        """Return one secret in the clear. Raises `NotAuthorised` where the grant has none of that name."""
        secret = self.secrets.get(name)
        if secret is None:
            raise NotAuthorised(f"the till's consent brought no {name}")
        return secret.get_secret_value()


@dataclass(frozen=True, slots=True)
class Consent:
    """What the host puts into a request for consent.

    `redirect_uri` is where the browser comes back: the same for every connection of this host, so that it can be
    registered at the till to the letter. `state` tells whose browser it is, once and for ten minutes.
    `code_challenge` is PKCE's (RFC 7636), by the method S256, for tills that have it.
    """

    redirect_uri: str
    state: str
    code_challenge: str


@dataclass(frozen=True, slots=True)
class Returned:
    """What a browser brought back from the till's consent page.

    `query` is the address's query, which anybody could have written; the host has checked its `state`, and that it has
    a `code` and no `error`. `redirect_uri` is that of the `Consent`, `code_verifier` the one of its `code_challenge`.
    """

    query: Mapping[str, str]
    redirect_uri: str
    code_verifier: str = field(repr=False)


AuthoriseUrl = Callable[[OperatorSettings, Consent], str]
Exchange = Callable[[OperatorSettings, Returned, httpx.AsyncBaseTransport], Awaitable[Grant]]
Refresh = Callable[[OperatorSettings, Grant, httpx.AsyncBaseTransport], Awaitable[Grant]]
Revoke = Callable[[OperatorSettings, Grant, httpx.AsyncBaseTransport], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class OAuth:
    """A till's own consent page. The host owns state, PKCE, storage and renewal; the connector speaks to the till.

    `authorise_url(app, consent)` returns the address to which the browser goes. `exchange(app, returned, transport)`
    trades what it brings back for a grant. `refresh(app, grant, transport)`, where grants end, trades one for the next.
    `revoke(app, grant, transport)` tells the till that the last connection of an account ended. `transport` sends the
    requests: `connector_sdk.token_endpoint.post` makes one of them.

    All raise `NotConfigured` where the operator has not set what they need, `NotAuthorised` with the till's own reason
    where it refuses for good, `TillUnavailable` where it may be asked again, `Ambiguous` where it may have answered.
    """

    authorise_url: AuthoriseUrl
    exchange: Exchange
    refresh: Refresh | None = None
    revoke: Revoke | None = None


class Credentials:
    """A connection's grant as it is now; the host replaces it when it renews.

    A connector reads `grant` for every request, and never keeps what it read. This class holds a grant that cannot be
    renewed, for tests; the host passes its own subclass.
    """

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    @property
    def grant(self) -> Grant:
        """The newest grant."""
        return self._grant

    async def renew(self, refused: Grant) -> Grant:
        """Return a newer grant than the one that the till refused. Raises `NotAuthorised` where there is none."""
        if self.grant is refused:
            raise NotAuthorised("the till refuses its consent, and it cannot be renewed")
        return self.grant
