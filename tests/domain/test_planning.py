"""What is planned next for a receipt and a card: all of it against what has been planned, whatever became of that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.domain.operation import MOVABLE, Planned, State
from connectors.domain.planning import Step, net_out, plan


def planned(*operations: tuple[int, State]) -> list[Planned]:
    return [Planned(f"o{n}", n, "card", signed, state) for n, (signed, state) in enumerate(operations, 1)]


ADDED = (3, State.applied)


@pytest.mark.parametrize(
    ("target", "operations", "step"),
    [
        (0, planned(), Step((), 0)),
        (3, planned(), Step((), 3)),
        (3, planned(ADDED), Step((), 0)),
        (5, planned(ADDED), Step((), 2)),
        (1, planned(ADDED), Step((), -2)),
        # what is on the wire, or in doubt, counts, and is answered by its opposite
        (0, planned((3, State.sending)), Step((), -3)),
        (0, planned((3, State.uncertain)), Step((), -3)),
        # what waits is cancelled instead, the youngest first, and what is too much of it is planned anew
        (0, planned((3, State.pending)), Step(("o1",), 0)),
        (1, planned((3, State.held)), Step(("o1",), 1)),
        (2, planned((3, State.pending), (2, State.pending)), Step(("o2", "o1"), 2)),
        (3, planned((3, State.pending), (2, State.pending)), Step(("o2",), 0)),
        (3, planned(ADDED, (-2, State.pending)), Step(("o2",), 0)),
        (4, planned(ADDED, (-2, State.pending)), Step(("o2",), 1)),
        # what is cancelled may turn the direction: then what is against that one is cancelled, too
        (3, planned((-3, State.held), (5, State.pending)), Step(("o1", "o2"), 3)),
        (5, planned((-2, State.held), (3, State.rejected), (3, State.pending)), Step(("o1", "o3"), 2)),
        # what was cancelled does not count
        (3, planned((3, State.cancelled)), Step((), 3)),
        # what was rejected counts as planned, so that it is not sent again, and was never given
        (3, planned((3, State.rejected)), Step((), 0)),
        (0, planned((3, State.rejected)), Step((), 0)),
        (5, planned((3, State.rejected)), Step((), 2)),
        (0, planned(ADDED, (2, State.rejected)), Step((), -3)),
        (0, planned(ADDED, (-3, State.rejected)), Step((), 0)),
        (3, planned(ADDED, (-1, State.rejected)), Step((), 0)),
        (5, planned(ADDED, (-3, State.rejected)), Step((), 2)),
        (3, planned(ADDED, (-3, State.rejected)), Step((), 0)),
    ],
)
def test_what_is_planned_next_is_what_is_missing(target: int, operations: Sequence[Planned], step: Step) -> None:
    assert plan(target, operations) == step


@pytest.mark.parametrize(
    ("operations", "step"),
    [
        (planned((3, State.pending), (-1, State.pending)), Step(("o2", "o1"), 2)),
        (planned((1, State.held), (-3, State.pending)), Step(("o2", "o1"), -2)),
        (planned((2, State.pending), (-2, State.held)), Step(("o2", "o1"), 0)),
        (planned((3, State.pending), (1, State.pending)), Step((), 0)),
        (planned((-3, State.pending), (-1, State.pending)), Step((), 0)),
        (planned((3, State.applied), (-1, State.pending)), Step((), 0)),
        (planned((3, State.pending), (-1, State.sending)), Step((), 0)),
        (planned(), Step((), 0)),
    ],
)
def test_opposites_that_wait_side_by_side_are_cancelled(operations: Sequence[Planned], step: Step) -> None:
    assert net_out(operations) == step


operations_of_a_card = st.lists(
    st.tuples(st.integers(-9, 9).filter(bool), st.sampled_from(sorted(State))), max_size=8
).map(lambda drawn: planned(*drawn))


@given(st.integers(0, 30), operations_of_a_card)
def test_a_plan_that_was_carried_out_leaves_nothing_to_plan(target: int, operations: list[Planned]) -> None:
    step = plan(target, operations)
    after = [one for one in operations if one.id not in step.cancel]
    if step.remainder:
        after.append(Planned("new", len(operations) + 1, "card", step.remainder, State.pending))
    assert plan(target, after) == Step((), 0)
    waiting = {one.id for one in operations if one.state in MOVABLE}
    assert set(step.cancel) <= waiting
    # what counts, without what was rejected, is never beyond the target by what this step plans
    given_ = sum(one.signed for one in after if one.state not in (State.cancelled, State.rejected))
    assert step.remainder <= 0 or given_ <= target
    assert step.remainder >= 0 or given_ >= target
