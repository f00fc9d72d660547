"""Redeem codes as people read them: in any case, with spaces or dashes, and with signs that look alike.

Owns what counts as the same reading, and which words of a cashier's text may be a code; which codes a business has is
the store's. A code that is written as nobody else's reading is found however it is typed; two codes that read alike are
each found only by their own spelling.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

_LOOK_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})
_WORD = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*")
_SHORTEST, _LONGEST = 5, 64
"""Signs of what may be a code among other words; shorter words are words."""
_MOST_WORDS = 120
_MOST_JOINED = 3
"""Words that may be one code, typed with spaces."""


def reading(code: str) -> str:
    """Return how a code reads: the same for all spellings of it, in capitals without separators and look-alikes."""
    return "".join(sign for sign in code.upper() if sign.isalnum()).translate(_LOOK_ALIKE)


def readings_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield each run of words that may be a code, as typed and as it reads: the longest runs first.

    Its work grows with the text's length only: of a long text the first words count.
    """
    words = [match[0] for match in _limited(_WORD.finditer(text))]
    for size in range(_MOST_JOINED, 0, -1):
        for at in range(len(words) - size + 1):
            typed = " ".join(words[at : at + size])
            reads = reading(typed)
            # without a letter it is a number of something else: a phone, a table, a card
            if _SHORTEST <= len(reads) <= _LONGEST and any(sign.isalpha() for sign in typed):
                yield typed, reads


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
    covered: set[str] = set()
    for remark in remarks:
        for typed, reads in readings_in(remark):
            if (code := _only_match(typed, known.get(reads, ()))) is not None:
                codes[code] = None
                covered.update(reading(word) for word in typed.split())
    for typed in typed_codes:
        code = _only_match(typed, known.get(reading(typed), ()))
        # a part of a code that was typed with a space is none by itself
        if code is None and reading(typed) in covered:
            continue
        codes[code if code is not None else typed] = None
    return tuple(codes)


def _only_match(typed: str, codes: Sequence[str]) -> str | None:
    """Return the code that is meant: the one of exactly this spelling, or the only one that reads so."""
    if typed in codes:
        return typed
    return codes[0] if len(codes) == 1 else None
