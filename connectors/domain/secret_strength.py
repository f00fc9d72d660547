"""Secrets that a person chose: a judgement of their text, so that nobody guesses them.

Owns what counts as easily guessed; which settings are such secrets, and the refusal, is `connectors.services`'.
"""

from __future__ import annotations

from itertools import pairwise

DISTINCT = 6
"""The fewest different characters of a secret."""
_LONGEST_PIECE = 8
"""Characters of the longest piece whose repetition counts as a pattern."""


def easily_guessed(text: str) -> bool:
    """Say whether a secret has few different characters, repeats a short piece, or counts up or down."""
    return len(set(text)) < DISTINCT or _repeats_a_piece(text) or _is_a_row(text)


def _repeats_a_piece(text: str) -> bool:
    # a repetition may be cut off at its end (`abcabcab`); one of a long piece is as good as the piece itself
    longest = min(_LONGEST_PIECE, len(text) // 2)
    return any(text == (text[:length] * len(text))[: len(text)] for length in range(1, longest + 1))


def _is_a_row(text: str) -> bool:
    """Say whether every character is as far from the one before as the next: `abcdef`, `97531`."""
    # a row has one and the same step everywhere; 0, a character repeated, was refused before
    return len({ord(after) - ord(before) for before, after in pairwise(text)}) == 1
