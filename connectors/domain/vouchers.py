"""Vouchers that a person or a program issues and redeems, apart from any receipt.

Owns the states of such a request, how long it is tried, and the redeem codes that we make.
"""

from __future__ import annotations

import secrets
from enum import StrEnum

from connectors.domain.clock import DAY, HOUR

TRIED_FOR = HOUR
"""What surely did not reach 7stamp within this time is given up: whoever asked for it has gone home."""

LOOKED_FOR = 7 * DAY
"""A doubt that nobody can settle for so long, because no key of the business works any more, is given up as unknown."""

MOST_OPEN = 500
"""Requests of a business that are not settled; more are refused."""
MOST_KEPT = 10_000
"""Requests of a business that are kept; beyond that the oldest settled ones go."""

_LETTERS = "ABCDEFGHJKMNPQRTUVWXY"  # no sign that is read as another: O and 0, I and 1, L, S and 5, Z and 2
_SIGNS = f"{_LETTERS}346789"
_LENGTH = 10


class RequestKind(StrEnum):
    """What is asked of 7stamp."""

    issue = "issue"
    redeem = "redeem"


class RequestState(StrEnum):
    """Where a request stands."""

    sending = "sending"
    """On the wire, or its sender died."""
    waiting = "waiting"
    """It surely did not take effect, and is sent again."""
    uncertain = "uncertain"
    """It may have taken effect: the voucher is looked up before anything is sent again."""
    applied = "applied"
    refused = "refused"
    """7stamp said no."""
    given_up = "given_up"
    """It is sent and looked up no more: it surely did not take effect within the time, or nobody could tell."""

    @property
    def is_settled(self) -> bool:
        """Whether it stays so."""
        return self in (RequestState.applied, RequestState.refused, RequestState.given_up)


def new_redeem_code() -> str:
    """Make a redeem code that nobody guesses and everybody can read out: 47 bits, in two groups."""
    # a letter first: what a cashier types into a comment is known as a code by its letters
    text = secrets.choice(_LETTERS) + "".join(secrets.choice(_SIGNS) for _ in range(_LENGTH - 1))
    return f"{text[:5]}-{text[5:]}"


def own_spelling(typed: str) -> str:
    """Return a code as `new_redeem_code` would write it, where it may be one that was typed without the dash."""
    return f"{typed[:5]}-{typed[5:]}" if len(typed) == _LENGTH and typed.isalnum() else typed


def tidy_redeem_code(text: str) -> str:
    """Return a redeem code as 7stamp knows it, from how a person types it: in capitals, without spaces."""
    return "".join(text.split()).upper()
