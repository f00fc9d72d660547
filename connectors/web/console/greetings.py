"""What is said to a customer whose card is looked up at the till, in a sentence.

Owns these words, for the page at the counter and for tills that show them on their own screens.
"""

from __future__ import annotations

from connectors.sync.card_lookups import CardLookup
from connectors.web.console.localization import Localizer


def greeting(words: Localizer, lookup: CardLookup) -> str:
    """Word what a look-up found."""
    if not lookup.cards:
        return unanswered(words) if lookup.as_of is None else words.text("No card yet: a phone or an email makes one.")
    card = lookup.cards[0]
    progress = words.text("{stamps} of {goal} stamps", stamps=words.number(card.stamps), goal=words.number(card.goal))
    return f"{card.customer.name}: {progress}" if card.customer.name else progress


def unanswered(words: Localizer) -> str:
    """Word that 7stamp does not answer: nothing is lost by it."""
    return words.text("7stamp does not answer just now. Go on with the sale: its stamps find the card.")
