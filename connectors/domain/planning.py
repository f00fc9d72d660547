"""Entitlement minus what is already planned is the next operation.

Owns that subtraction, per (sale, card), as a pure function; writing its answer down is ingest's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.domain.operation import MOVABLE, Planned, State


@dataclass(frozen=True, slots=True)
class Step:
    """Cancel these operations (in this order), then plan `remainder` signed stamps if it is not 0."""

    cancel: tuple[str, ...]
    remainder: int


def plan(target: int, operations: Iterable[Planned]) -> Step:
    """What brings the operations of one (sale, card) to `target` stamps.

    Every operation but a cancelled one counts as planned, whatever became of it, so that nothing is planned twice.
    An operation against the wanted direction that is not on the wire is cancelled rather than answered by its
    opposite; the youngest goes first. And what was rejected never took effect: no reversal takes back more than
    was or may have been given, and no addition gives again what a rejected reversal left on the card.
    """
    counted = [operation for operation in operations if operation.state is not State.cancelled]
    remainder = target - sum(operation.signed for operation in counted)
    given = sum(operation.signed for operation in counted if operation.state is not State.rejected)
    cancel: list[str] = []
    for operation in sorted((o for o in counted if o.state in MOVABLE), key=lambda o: -o.n):
        if remainder * operation.signed < 0:
            cancel.append(operation.id)
            remainder += operation.signed
            given -= operation.signed
    if remainder > 0:
        remainder = min(remainder, max(0, target - given))
    else:
        remainder = max(remainder, min(0, target - given))
    return Step(tuple(cancel), remainder)


def net(operations: Iterable[Planned]) -> Step:
    """What to undo once an operation came back from the wire unapplied: opposites that now meet off it cancel out."""
    movable = [operation for operation in operations if operation.state in MOVABLE]
    ups = sum(operation.signed for operation in movable if operation.signed > 0)
    downs = sum(operation.signed for operation in movable if operation.signed < 0)
    if not ups or not downs:
        return Step((), 0)
    return Step(tuple(operation.id for operation in sorted(movable, key=lambda o: -o.n)), ups + downs)
