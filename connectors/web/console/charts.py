"""Charts as plain SVG geometry: no script, and no style that the page's content security policy would refuse.

Owns the geometry; the template draws it, and the numbers stand in a table behind each chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# in units of the view box, from the top left; one day is a step wide, and has two bars beside each other
_STEP, _HEIGHT, _TOP, _FLOOR = 80, 240, 36, 204
_BAR_WIDTH, _GAP = 32, 4
_ABOVE = 8
"""From a bar's top to the number above it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A column of the chart from its top left corner, and where its number stands: above the middle of its top."""

    x: float
    y: float
    height: float
    number: int

    @property
    def middle(self) -> float:
        """The middle of the bar, from the left."""
        return self.x + _BAR_WIDTH / 2

    @property
    def above(self) -> float:
        """The line on which its number stands."""
        return self.y - _ABOVE


@dataclass(frozen=True, slots=True)
class Chart:
    """Some days side by side: two bars each, on one scale, with their numbers."""

    width: int
    height: int
    floor: int
    bar_width: int
    left: tuple[Bar, ...]
    right: tuple[Bar, ...]
    middles: tuple[float, ...]
    """The middle of each day, from the left."""


def chart_of_days(left: Sequence[int], right: Sequence[int]) -> Chart:
    """Draw two numbers a day, each against the largest of all."""
    maximum = max([1, *left, *right])  # at least 1, so that days without anything are drawn too
    start = (_STEP - 2 * _BAR_WIDTH - _GAP) // 2
    return Chart(
        width=len(left) * _STEP,
        height=_HEIGHT,
        floor=_FLOOR,
        bar_width=_BAR_WIDTH,
        left=tuple(_bar(day * _STEP + start, number, maximum) for day, number in enumerate(left)),
        right=tuple(_bar(day * _STEP + start + _BAR_WIDTH + _GAP, number, maximum) for day, number in enumerate(right)),
        middles=tuple(day * _STEP + _STEP / 2 for day in range(len(left))),
    )


def _bar(x: float, number: int, maximum: int) -> Bar:
    # a day on which more stamps were taken back than given has a bar without height
    top = round(_FLOOR - max(0, number) * (_FLOOR - _TOP) / maximum, 1)
    return Bar(x, top, round(_FLOOR - top, 1), number)
