"""A finding: one line of what an examination of an installation shows.

Owns the value; an examination decides what is looked at, and a command or page how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about what was checked: `ok` is false where something is wrong, `None` for what is worth knowing."""

    check: str
    """What was looked at, in a word or two."""
    ok: bool | None
    text: str
    """What was found, and what to do where something is wrong."""
