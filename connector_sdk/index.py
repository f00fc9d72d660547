"""A small index that the host keeps for a connector: values by key, for what a till gives no way to ask.

Owns the interface, and an index in memory for tests. The host's is on disk, and belongs to one business's till account:
a connector that is built anew finds what was there before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

LONGEST_TEXT = 128
"""How many characters a key and a value may have; longer ones are refused with `ValueError`."""


class Index(ABC):
    """Values by key: which returns are of a receipt, say, where the till cannot be asked for them."""

    @abstractmethod
    async def add(self, key: str, value: str) -> None:
        """Add a value to a key; one that is there already changes nothing.

        The host keeps a hundred thousand for an account: beyond that the oldest go.
        """

    @abstractmethod
    async def values(self, key: str) -> tuple[str, ...]:
        """Return the values of a key, the first one added first; none where there is none."""


class MemoryIndex(Index):
    """An index that is gone with its connector: for tests, and where no host is."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, None]] = {}

    async def add(self, key: str, value: str) -> None:
        """Add a value to a key. Raises `ValueError`."""
        require_short(key, value)
        self._values.setdefault(key, {})[value] = None

    async def values(self, key: str) -> tuple[str, ...]:
        """Return the values of a key."""
        return tuple(self._values.get(key, ()))


def require_short(*texts: str) -> None:
    """Raise `ValueError` for a text that is empty or too long for an index."""
    if any(not 1 <= len(text) <= LONGEST_TEXT for text in texts):
        raise ValueError(f"a key or value of an index has 1 to {LONGEST_TEXT} characters")
