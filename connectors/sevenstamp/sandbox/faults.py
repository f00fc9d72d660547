"""The faults that the sandbox can be told to have: how likely each is, and how long things take.

Owns which values are allowed; committing a fault is the application's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

# 7stamp's promise: so long after its caller gave up, a write has taken effect and stands in the card's history, or
# never will. Faults may use all of that time and no more, or a host could not be right.
SETTLE_MS = 10_000
_LONGEST_LATENCY_MS = 60_000
_RANGES = {
    "latency_ms": _LONGEST_LATENCY_MS,
    "apply_late_ms": SETTLE_MS,
    "history_lag_ms": SETTLE_MS,
    "webhook_delay_ms": _LONGEST_LATENCY_MS,
}
"""Each range in milliseconds with its upper bound."""
_PROBABILITIES = ("drop_before", "drop_after", "status_500", "status_429", "garbage", "webhook_repeat")


@dataclass(slots=True)
class Faults:
    """Probabilities from 0 to 1; ranges in milliseconds as `(from, to)`, of which each request draws its own."""

    drop_before: float = 0.0
    """Cut the connection before anything is done."""
    drop_after: float = 0.0
    """Cut the connection after a write took effect, or while it will (`apply_late_ms`)."""
    status_500: float = 0.0
    """Answer 500; half of the writes take effect all the same."""
    status_429: float = 0.0
    """Answer 429 and ask for a second's pause."""
    garbage: float = 0.0
    """Do what was asked and answer with something that is not JSON."""
    latency_ms: Sequence[float] = (0, 0)
    apply_late_ms: Sequence[float] = (0, 0)
    """How long after its connection was cut a write takes effect."""
    history_lag_ms: Sequence[float] = (0, 0)
    """How long what took effect stays out of the card's history."""
    webhook_repeat: float = 0.0
    """Post an event twice, under one id."""
    webhook_delay_ms: Sequence[float] = (0, 0)
    """How long each event waits before it is posted: a range lets events overtake each other."""
    ignore_idempotency_keys: bool = False
    seed: int | None = None
    """Makes the draws repeatable."""

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Faults:
        """Read faults from JSON, where a range may be one number. Raises `ValueError` that names the field."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown fault {unknown[0]!r}; known: {', '.join(sorted(known))}")
        faults = cls()
        for name, value in values.items():
            setattr(faults, name, _parse_value(name, value))
        return faults


def _parse_value(name: str, value: object) -> object:
    if name in _RANGES:
        return _parse_range(name, value)
    if name in _PROBABILITIES:
        return _parse_probability(name, value)
    if name == "seed" and not isinstance(value, int | None):
        raise ValueError("seed: a whole number")
    return value


def _parse_range(name: str, value: object) -> tuple[float, float]:
    # one number is a range of its own
    bounds = value if isinstance(value, list | tuple) else (value, value)
    numbers = [bound for bound in bounds if isinstance(bound, int | float)]
    most = _RANGES[name]
    if len(numbers) != 2 or len(bounds) != 2 or not 0 <= numbers[0] <= numbers[1] <= most:
        raise ValueError(f"{name}: a range from 0 to {most}")
    return numbers[0], numbers[1]


def _parse_probability(name: str, value: object) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{name}: a probability from 0 to 1")
    return value
