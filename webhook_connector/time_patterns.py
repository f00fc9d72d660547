"""Times written by a pattern of `strptime`, such as `%d.%m.%Y %H:%M`.

Owns which patterns are taken; a pattern comes from a form, so it may be anything. Zones are `formats`'.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache

_LONGEST = 100  # of a pattern, which a form sends
# no width and no flag between % and its letter: strftime would write as many signs as a width says
_WRITTEN = re.compile(r"(?:[^%\x00-\x1f]|%[A-Za-z%])+")
_EXAMPLE = datetime(2026, 11, 20, 8, 15, tzinfo=UTC)


@lru_cache(256)
def is_pattern(pattern: str) -> bool:
    """Say whether times can be read by a pattern: one that is written by it reads back."""
    if len(pattern) > _LONGEST or not _WRITTEN.fullmatch(pattern):
        return False
    try:
        datetime.strptime(_EXAMPLE.strftime(pattern), pattern)
    except (ValueError, re.error):  # the latter where a part stands twice, as in %d %d
        return False
    return True


def parse_time_by(pattern: str, text: str) -> datetime:
    """Parse a time by a pattern, without a zone where it says none. Raises `ValueError`."""
    if not is_pattern(pattern):
        raise ValueError("this is no pattern of times")
    return datetime.strptime(text, pattern)
