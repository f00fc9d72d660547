"""Counts the work that Python does: a step for each line and each call in our code and what it calls.

A count is the same on every machine, however busy: twice the input should cost about twice the steps.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

# loops within C (a regular expression, `str.replace`) make no steps: patterns are in `test_regexes`
_OURS = tuple(
    "/connector_sdk/ /connectors/ _connector/ /jmespath/ /starlette/ /http/cookies /urllib/ /tests/growth/".split()
)


async def count_steps(work: Callable[[], Awaitable[object]]) -> int:
    """The steps of some asynchronous work in this thread."""
    count = 0

    def in_lines(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return in_lines

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        nonlocal count
        count += 1
        name = frame.f_code.co_filename
        return in_lines if any(part in name for part in _OURS) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return count
