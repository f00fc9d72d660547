"""Charts as plain SVG geometry: no script, and no style that the page's content security policy would refuse.

Owns the geometry; the template draws it, and the numbers stand in a table behind each chart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# in units of the view box, from the top left; one day is a step wide
_STEP, _HEIGHT, _TOP, _FLOOR = 40, 140, 12, 116
_BAR_WIDTH, _MARK_BELOW_FLOOR = 24, 14


@dataclass(frozen=True, slots=True)
class Point:
    """A place in the chart, in units of its view box."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A column of the chart, from its top left corner."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Some days side by side: a bar of stamps, a point of receipts on a line, and a mark where vouchers were used."""

    width: int
    height: int
    bar_width: float
    stamps: tuple[Bar, ...]
    receipt_line: str
    """The points of receipts, as a polyline takes them."""
    receipt_points: tuple[Point, ...]
    voucher_marks: tuple[Point, ...]
    maximum: int
    """The number that the chart's full height stands for."""


def chart_of_days(receipts: Sequence[int], stamps: Sequence[int], redemptions: Sequence[int]) -> Chart:
    """Draw three numbers a day, each against the largest of all stamps and receipts."""
    maximum = max([1, *receipts, *stamps])  # at least 1, so that days without anything are drawn too
    points = tuple(Point(_middle(day), _top(number, maximum)) for day, number in enumerate(receipts))
    return Chart(
        width=len(receipts) * _STEP,
        height=_HEIGHT,
        bar_width=_BAR_WIDTH,
        stamps=tuple(_bar(day, number, maximum) for day, number in enumerate(stamps)),
        receipt_line=" ".join(f"{point.x:.1f},{point.y:.1f}" for point in points),
        receipt_points=points,
        voucher_marks=tuple(_voucher_mark(day) for day, number in enumerate(redemptions) if number),
        maximum=maximum,
    )


def _middle(day: int) -> float:
    return day * _STEP + _STEP / 2


def _top(number: int, maximum: int) -> float:
    """Return how far from the chart's top a number is drawn; the maximum is drawn at `_TOP`."""
    return round(_FLOOR - number * (_FLOOR - _TOP) / maximum, 1)


def _bar(day: int, number: int, maximum: int) -> Bar:
    # a day on which more stamps were taken back than given has a bar without height
    top = _top(max(0, number), maximum)
    return Bar(day * _STEP + (_STEP - _BAR_WIDTH) // 2, top, round(_FLOOR - top, 1))


def _voucher_mark(day: int) -> Point:
    return Point(_middle(day), _FLOOR + _MARK_BELOW_FLOOR)
