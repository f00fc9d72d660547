"""Pictures of numbers, made here as plain SVG: no script, no style that the page's policy would refuse.

Owns the geometry; the numbers stand in a table behind each picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """One column, in the picture's own units, from the top left."""

    x: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns of stamps, points of receipts, marks of vouchers used; `width` and `height` are of the view box."""

    width: int
    height: int
    bar_width: float
    stamps: tuple[Bar, ...]
    receipts: str
    dots: tuple[Bar, ...]
    gifts: tuple[Bar, ...]
    most: int


_STEP, _HEIGHT, _TOP, _FLOOR = 40, 140, 12, 116


def fortnight(receipts: Sequence[int], stamps: Sequence[int], redemptions: Sequence[int]) -> Chart:
    """Some days side by side, each number against the largest of all."""
    most = max([1, *receipts, *stamps])
    scale = (_FLOOR - _TOP) / most

    def bar(at: int, value: int) -> Bar:
        height = max(0, value) * scale
        return Bar(at * _STEP + 8, round(_FLOOR - height, 1), round(height, 1))

    points = [(at * _STEP + _STEP / 2, _FLOOR - value * scale) for at, value in enumerate(receipts)]
    return Chart(
        width=len(receipts) * _STEP,
        height=_HEIGHT,
        bar_width=_STEP - 16,
        stamps=tuple(bar(at, value) for at, value in enumerate(stamps)),
        receipts=" ".join(f"{x:.1f},{y:.1f}" for x, y in points),
        dots=tuple(Bar(x, round(y, 1), 0) for x, y in points),
        gifts=tuple(Bar(at * _STEP + _STEP / 2, _FLOOR + 14, 0) for at, value in enumerate(redemptions) if value),
        most=most,
    )
