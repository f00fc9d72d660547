"""How often strangers may open links of receipts, claim them, and type receipts' numbers: by address and by venue.

Owns the bounds and nothing else. A link holds 64 bits of a hash and a signature of 56, so it is not guessed at any
pace: these bounds are on what a stranger costs. A receipt's number and amount can be guessed, so they bound that too:

- An address has ten numbers at once, then one in twenty seconds: 4,330 a day. A cafe's guests share one address, and
  wait seconds where one of them guesses, not for good.
- All addresses that guess at a venue share thirty numbers at once, then one in five seconds. An address that has typed
  no more than three there lately is not among them: whatever guessers do, a guest who comes with a receipt is let in.
"""

from __future__ import annotations

from collections import OrderedDict

from connectors.web.console.sign_in_limits import MAX_REMEMBERED, RateLimits, TooManyAttempts

_OPENED_PER_SECOND, _OPENED_AT_ONCE = 2.0, 120
_CLAIMS_PER_SECOND, _CLAIMS_AT_ONCE = 0.1, 20
_CLAIMS_OF_VENUE_PER_SECOND, _CLAIMS_OF_VENUE_AT_ONCE = 1.0, 60
_CARDS_OF_VENUE_PER_SECOND, _CARDS_OF_VENUE_AT_ONCE = 1.0, 60
_NUMBERS_PER_SECOND, _NUMBERS_AT_ONCE = 0.05, 10
_NUMBERS_OF_VENUE_PER_SECOND, _NUMBERS_OF_VENUE_AT_ONCE = 0.2, 30
_FREE_NUMBERS = 3


class ClaimLimits:
    """All bounds on claims; each method raises `TooManyAttempts`."""

    def __init__(self) -> None:
        self._opened = RateLimits(_OPENED_PER_SECOND, _OPENED_AT_ONCE)
        self._claims = RateLimits(_CLAIMS_PER_SECOND, _CLAIMS_AT_ONCE)
        self._claims_of_venue = RateLimits(_CLAIMS_OF_VENUE_PER_SECOND, _CLAIMS_OF_VENUE_AT_ONCE)
        self._numbers = RateLimits(_NUMBERS_PER_SECOND, _NUMBERS_AT_ONCE)
        self._numbers_of_venue = RateLimits(_NUMBERS_OF_VENUE_PER_SECOND, _NUMBERS_OF_VENUE_AT_ONCE)
        self._cards_of_venue = RateLimits(_CARDS_OF_VENUE_PER_SECOND, _CARDS_OF_VENUE_AT_ONCE)
        self._typed: OrderedDict[tuple[str, str], int] = OrderedDict()

    def count_opening(self, address: str) -> None:
        """Count a link that is opened."""
        self._opened.take(address)

    def count_claim(self, address: str, connection_id: str) -> None:
        """Count a claim, which costs a call of 7stamp with the key of the connection."""
        self._claims.take(address)
        self._claims_of_venue.take(connection_id)

    def count_number(self, address: str, connection_id: str) -> None:
        """Count a receipt's number that somebody types at a venue."""
        self._numbers.take(address)
        if self._count_typed(address, connection_id) > _FREE_NUMBERS:
            self._numbers_of_venue.take(connection_id)

    def forgive_number(self, address: str, connection_id: str) -> None:
        """Take back that an address typed a number, which was right; what it typed before was wrong all the same."""
        place = (address, connection_id)
        if place in self._typed:
            self._typed[place] = max(0, self._typed[place] - 1)

    def may_read_card(self, connection_id: str) -> bool:
        """Count a card that 7stamp is asked for to show it; say whether that may be."""
        try:
            self._cards_of_venue.take(connection_id)
        except TooManyAttempts:
            return False
        return True

    def _count_typed(self, address: str, connection_id: str) -> int:
        place = (address, connection_id)
        count = self._typed.pop(place, 0) + 1
        self._typed[place] = count
        while len(self._typed) > MAX_REMEMBERED:
            self._typed.popitem(last=False)
        return count
