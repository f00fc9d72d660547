"""Planning: what a sale is entitled to, less what is planned for it already, is what to plan next.

Owns that subtraction, per sale and card, as a pure function; `connectors.sync.planner` writes its answer down.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from connectors.domain.operation import MOVABLE, Planned, State


@dataclass(frozen=True, slots=True)
class Step:
    """Cancel these operations (in this order), then plan `remainder` signed stamps if it is not 0."""

    cancel: tuple[str, ...]
    remainder: int


def plan(target: int, operations: Iterable[Planned]) -> Step:
    """Return the step that brings the operations of one (sale, card) to `target` stamps.

    Every operation but a cancelled one counts as planned, whatever became of it, so that nothing is planned twice.
    """
    counted = [operation for operation in operations if operation.state is not State.cancelled]
    remainder = target - sum(operation.signed for operation in counted)
    # what was rejected counts as planned, but never took effect
    given = sum(operation.signed for operation in counted if operation.state is not State.rejected)
    cancelled: list[str] = []
    oldest_first = _movable_youngest_first(counted)[::-1]
    additions = [operation for operation in oldest_first if operation.signed > 0]
    reversals = [operation for operation in oldest_first if operation.signed < 0]
    # an operation against the wanted direction is cancelled rather than answered by its opposite; that may turn the
    # direction, so that another one is against it then
    while remainder and (against := reversals if remainder > 0 else additions):
        opposite = against.pop()
        cancelled.append(opposite.id)
        remainder += opposite.signed
        given -= opposite.signed
    return Step(tuple(cancelled), _bounded(remainder, target - given))


def _movable_youngest_first(operations: Iterable[Planned]) -> Sequence[Planned]:
    """Return what is neither on the wire nor settled, the operation planned last first."""
    movable = [operation for operation in operations if operation.state in MOVABLE]
    return sorted(movable, key=lambda operation: -operation.n)


def _bounded(remainder: int, missing: int) -> int:
    """Bound what is planned by what is `missing` on the card once everything planned has taken effect.

    A rejected addition was never given, so no reversal takes it back. A rejected reversal left its stamps on the card,
    so no addition gives them again.
    """
    if remainder > 0:
        return min(remainder, max(0, missing))
    return max(remainder, min(0, missing))


def net_out(operations: Iterable[Planned]) -> Step:
    """Return the step that cancels opposites which wait side by side, now that one came back unapplied."""
    movable = _movable_youngest_first(operations)
    added = sum(operation.signed for operation in movable if operation.signed > 0)
    reversed_ = sum(operation.signed for operation in movable if operation.signed < 0)
    if not added or not reversed_:
        return Step((), 0)
    return Step(tuple(operation.id for operation in movable), added + reversed_)
