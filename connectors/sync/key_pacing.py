"""Pacing: how fast a 7stamp key may be used, learned from 7stamp's own 429 answers.

Owns the arithmetic of one key's rate; who sends at all is `delivery`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

_FASTEST = 5000.0
"""Operations a second above which a rate is no limit any more."""
_GROWTH = 1.1


@dataclass(slots=True)
class Pace:
    """One key's rate: unlimited until 7stamp says 429, then half of what it was, growing back by a tenth a second.

    Times are seconds of the event loop's clock. `not_before` is what the last 429 asked for: it holds at once, for what
    is claimed already too.
    """

    per_second: float | None = None
    not_before: float = 0.0
    next: float = 0.0
    _second: int = 0
    _sent: int = 0
    _sent_before: int = 0

    def ready(self, now: float) -> bool:
        """Say whether one more may be claimed now."""
        return now >= self.not_before and (self.per_second is None or now >= self.next)

    def take(self, now: float) -> None:
        """Count one more claim."""
        if int(now) != self._second:
            self._begin_second(int(now))
        self._sent += 1
        if self.per_second is not None:
            self.next = max(self.next, now) + 1 / self.per_second

    def _begin_second(self, second: int) -> None:
        self._sent_before = self._sent if second == self._second + 1 else 0
        self._second, self._sent = second, 0
        if self.per_second is not None:
            self.per_second = self.per_second * _GROWTH if self.per_second < _FASTEST else None

    def limited(self, now: float, retry_after: float) -> None:
        """Slow down: 7stamp said 429, and to wait for `retry_after` seconds."""
        if now >= self.not_before:  # the others of the same burst say nothing new
            rate = max(self._sent_before, self._sent, 2)
            self.per_second = max(1.0, min(self.per_second or rate, rate) / 2)
        self.not_before = max(self.not_before, now + retry_after)
