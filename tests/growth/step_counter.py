"""Counts the work that Python does: a step for each line and each call in our code and what it calls.

A count is the same on every machine, however busy: twice the input should cost about twice the steps.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from functools import cache
from types import FrameType
from typing import Any

# loops within C (a regular expression, `str.replace`) make no steps: patterns are in `test_regexes`
_OURS = tuple(
    "/connector_sdk/ /connectors/ _connector/ /jmespath/ /starlette/ /http/cookies /urllib/ /tests/growth/".split()
)


@cache
def _is_ours(file: str) -> bool:
    """Say whether each line of a file is a step, and not only each call into it."""
    return any(part in file for part in _OURS)


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
        return in_lines if _is_ours(frame.f_code.co_filename) else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(before)
    return count
