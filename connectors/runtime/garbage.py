"""Garbage collection in a process that runs for months.

Owns the collector's settings; commands that end soon keep Python's own.
"""

from __future__ import annotations

import gc

_THRESHOLDS = (20_000, 50, 100)
"""Python's own are (700, 10, 10): made for small programs, they look through all of ours many times a second."""


def collect_rarely() -> None:
    """Leave out of collections what is there now, modules above all, and make them rarer.

    Called once, when the process has what it keeps. A tenth less work for each sale (`bench.delivery`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
