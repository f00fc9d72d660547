"""Redeem codes as people read them: in any case, with spaces or dashes, and with signs that look alike.

Owns what counts as the same reading, and which words of a cashier's text may be a code; which codes a business has is
the store's. A code that is written as nobody else's reading is found however it is typed; two codes that read alike are
each found only by their own spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_LOOK_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})
_WORD = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*")
_SEPARATORS = re.compile(r"[\s_-]+")
_SHORTEST, _LONGEST = 5, 64
"""Signs of what may be a code among other words; shorter words are words."""
_MOST_WORDS = 120
_MOST_JOINED = 3
"""Words that may be one code, typed with spaces."""


def reading(code: str) -> str:
    """Return how a code reads: the same for all spellings of it, in capitals without separators and look-alikes."""
    return "".join(sign for sign in code.upper() if sign.isalnum()).translate(_LOOK_ALIKE)


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring words of a text that may be one code: the places of the words, as typed, and as they read."""

    places: range
    typed: str
    reads: str


def runs_in(text: str) -> Iterator[Run]:
    """Yield each run of words that may be a code, the longest runs first.

    Its work grows with the text's length only: of a long text the first words count.
    """
    words = [match[0] for match in _limited(_WORD.finditer(text))]
    for size in range(_MOST_JOINED, 0, -1):
        for at in range(len(words) - size + 1):
            typed = " ".join(words[at : at + size])
            reads = reading(typed)
            # without a letter it is a number of something else: a phone, a table, a card
            if _SHORTEST <= len(reads) <= _LONGEST and any(sign.isalpha() for sign in typed):
                yield Run(range(at, at + size), typed, reads)


def _limited(matches: Iterator[re.Match[str]]) -> Iterator[re.Match[str]]:
    for _, match in zip(range(_MOST_WORDS), matches, strict=False):
        yield match


def match_codes(
    typed_codes: Sequence[str], remarks: Sequence[str], known: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return the redeem codes that a receipt carries, each once, in 7stamp's own spelling where it is known.

    `typed_codes` are surely meant as codes, words of `remarks` only where they read as a code that the business has.
    `known` maps a reading to the codes that read so.
    """
    codes: dict[str, None] = {}
    parts: set[str] = set()
    for remark in remarks:
        for run, code in _codes_in(remark, known):
            codes[code] = None
            if len(run.places) > 1:
                parts.update(reading(word) for word in run.typed.split())
    for typed in typed_codes:
        # a part of a code that was typed with a space is none by itself
        if reading(typed) not in parts:
            codes[_only_match(typed, known.get(reading(typed), ())) or typed] = None
    return tuple(codes)


def _codes_in(text: str, known: Mapping[str, Sequence[str]]) -> list[tuple[Run, str]]:
    """Find the codes of a text; a word belongs to one code at most.

    `COFFEE-1 2 pcs` is COFFEE-1, though COFFEE-12 may be a code too: a code that is written as it is goes first, and of
    two of those, or of none, the longer one.
    """
    matches = [(run, code) for run in runs_in(text) if (code := _only_match(run.typed, known.get(run.reads, ())))]
    matches.sort(key=lambda match: _spelling(match[0].typed) != _spelling(match[1]))  # the longest stay first
    taken: set[int] = set()
    found: list[tuple[Run, str]] = []
    for run, code in matches:
        if taken.isdisjoint(run.places):
            taken.update(run.places)
            found.append((run, code))
    return found


def _spelling(text: str) -> str:
    return _SEPARATORS.sub("-", text).upper()


def _only_match(typed: str, codes: Sequence[str]) -> str | None:
    """Return the code that is meant: the one of exactly this spelling, or the only one that reads so."""
    if typed in codes:
        return typed
    return codes[0] if len(codes) == 1 else None
