"""All benchmarks, one after the other, and their figures as a table and a picture in `bench/results/`.

`python -m bench [NAME…]` runs all, or those named. Each is a process of its own. What a figure means, and what was
measured last, is in `docs/reference/figures.md`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

from bench.figures import COLLECTED, Figure

RESULTS = Path(__file__).parent / "results"
ALL = (
    "startup",
    "idle",
    "delivery",
    "job_per_sale",
    "ingest",
    "hooks",
    "latency",
    "on_time",
    "pages",
    "large_ledger",
    "workers",
    "relay",
    "counter",
    "attacks",
)
_ARGUMENTS = {"attacks": ["--quick"]}
_BAR, _ROW, _LEFT = 320, 44, 20


def main(names: list[str]) -> int:
    """Run benchmarks, write the results, and return how many of them failed."""
    RESULTS.mkdir(exist_ok=True)
    collected = RESULTS / "figures.jsonl"
    collected.unlink(missing_ok=True)
    environment = {**os.environ, COLLECTED: str(collected)}
    failed = [
        name
        for name in names
        if subprocess.run(
            [sys.executable, "-m", f"bench.{name}", *_ARGUMENTS.get(name, [])], env=environment, check=False
        ).returncode
    ]
    lines = collected.read_text().splitlines() if collected.exists() else []
    figures = [Figure(**json.loads(line)) for line in lines]
    (RESULTS / "figures.md").write_text(table(figures))
    (RESULTS / "figures.svg").write_text(picture(figures))
    print(f"\n{table(figures)}\nAlso in {RESULTS / 'figures.md'} and {RESULTS / 'figures.svg'}.")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def table(figures: list[Figure]) -> str:
    """Return the figures as a table in Markdown, with the machine and the day."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    rows = [
        f"| {figure.name} | {figure.ours:,.4g} {figure.unit} | {figure.against}: {figure.baseline:,.4g} "
        f"| {figure.ratio:.2f} | {figure.wish} | {'yes' if figure.is_met else 'no'} |"
        for figure in figures
    ]
    heading = ["| figure | measured | baseline | ratio | asked | met |", "|---|---|---|---|---|---|"]
    return "\n".join([f"{machine}, {datetime.now(UTC):%Y-%m-%d}.", "", *heading, *rows, ""])


def picture(figures: list[Figure]) -> str:
    """Return the figures as bars in SVG: how far each is from what was asked, whose mark all bars share."""
    height = _ROW * len(figures) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_BAR * 2 + 60} {height}" font-family="sans-serif">',
        f'<line x1="{_LEFT + _BAR}" y1="0" x2="{_LEFT + _BAR}" y2="{height}" stroke="#888" stroke-dasharray="4"/>',
    ]
    for number, figure in enumerate(figures):
        top = number * _ROW + 10
        width = min(2.0, figure.ratio / figure.asked) * _BAR
        colour = "#2f7d5b" if figure.is_met else "#b4572d"
        words = f"{figure.name}: {figure.ratio:.2f}, {figure.wish}"
        parts += [
            f'<text x="{_LEFT}" y="{top + 12}" font-size="12">{escape(words)}</text>',
            f'<rect x="{_LEFT}" y="{top + 18}" width="{width:.0f}" height="14" rx="3" fill="{colour}"/>',
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(ALL)))
