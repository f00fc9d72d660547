"""What a secret that a person chose must have, so that nobody guesses it: a pure judgement of its text."""

from __future__ import annotations

from itertools import pairwise

DISTINCT = 6
_REPEATED = 8  # a shorter piece, repeated, is a pattern


def easily_guessed(text: str) -> bool:
    """Whether a secret has few different signs, repeats a short piece, or counts up or down."""
    if len(set(text)) < DISTINCT:
        return True
    if any(text == (text[:length] * len(text))[: len(text)] for length in range(1, min(_REPEATED, len(text) // 2 + 1))):
        return True
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return len(steps) == 1
