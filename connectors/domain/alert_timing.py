"""Alerts: when a cafe is told that a connection needs a person, and that it works again.

Owns that decision, as a pure function: one message when trouble has lasted, one at its end, none for what passes.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.domain.clock import MINUTE

PATIENCE = 15 * MINUTE
"""Trouble that ends sooner is not worth a message."""


@dataclass(frozen=True, slots=True)
class AlertState:
    """Since when there is trouble, and when the cafe was told of it (UTC microseconds)."""

    since: int | None
    told_at: int | None


@dataclass(frozen=True, slots=True)
class AlertStep:
    """The state that follows, and whether the cafe is told now."""

    state: AlertState
    tells: bool


def next_step(state: AlertState, *, trouble: bool, now: int) -> AlertStep:
    """Decide what follows from whether there is trouble now."""
    if not trouble:
        # the end is told where the trouble was
        return AlertStep(AlertState(None, None), tells=state.told_at is not None)
    # trouble begins in silence: most of it is a till that was restarted
    if state.since is None:
        return AlertStep(AlertState(now, None), tells=False)
    if state.told_at is None and state.since <= now - PATIENCE:
        return AlertStep(AlertState(state.since, now), tells=True)
    return AlertStep(state, tells=False)
