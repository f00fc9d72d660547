"""File descriptors: how many this process has, and how they are divided between clients and calls to tills.

Owns the division, so that neither takes what the other needs, or what files and the database do.
"""

from __future__ import annotations

import sys

_FILES = 128
"""For files, the database, 7stamp and subscribers."""
_MOST_TILL_CALLS = 1000


def till_calls() -> int:
    """Return how many calls to tills may be under way at once: a thousand, or a quarter of what there is."""
    return max(1, min(_MOST_TILL_CALLS, _raise_to(4 * _MOST_TILL_CALLS) // 4))


def client_connections(wanted: int) -> int:
    """Return how many connections of clients there may be beside everything else, at most `wanted`."""
    others = _FILES + till_calls()
    return max(1, min(wanted, _raise_to(wanted + others) - others))


def _raise_to(needed: int) -> int:
    """Raise the soft limit as far as `needed` and the hard limit let it; return how many descriptors there are."""
    if sys.platform == "win32":
        return needed
    import resource

    # soft is what holds now, hard how far the process may raise it by itself
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return needed
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
