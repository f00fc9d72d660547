"""Figures: what a benchmark measured against its baseline, and what was asked of it.

Owns how a figure is said. `python -m bench` collects those of all benchmarks through the file that `BENCH_FIGURES`
names, one JSON object a line.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

COLLECTED = "BENCH_FIGURES"


@dataclass(frozen=True, slots=True)
class Figure:
    """One ratio of one run: `ours` against `baseline`, both in `unit`; asked is at least, or at most, `asked`."""

    name: str
    unit: str
    ours: float
    baseline: float
    against: str
    """What the baseline is, in words."""
    asked: float
    at_most: bool = False

    @property
    def ratio(self) -> float:
        """Our figure divided by the baseline's."""
        return self.ours / self.baseline

    @property
    def is_met(self) -> bool:
        """Whether it is what was asked."""
        return self.ratio <= self.asked if self.at_most else self.ratio >= self.asked

    @property
    def wish(self) -> str:
        """What was asked, in words."""
        return f"{'at most' if self.at_most else 'at least'} {self.asked:g}"


def report(figure: Figure) -> None:
    """Print a figure, and hand it to whoever collects."""
    print(
        f"{figure.name}: {figure.ours:,.4g} {figure.unit}, {figure.against} {figure.baseline:,.4g}: "
        f"{figure.ratio:.2f} ({figure.wish})",
        flush=True,
    )
    if path := os.environ.get(COLLECTED):
        with Path(path).open("a") as file:
            file.write(json.dumps(asdict(figure)) + "\n")
