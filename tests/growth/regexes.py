"""Counts what a regular expression costs: a backtracking matcher over Python's own parse of it, a step for each try.

`re` tries the same things in the same order, but its work cannot be counted, only timed. What is not needed for the
patterns of this project raises, so that nothing passes uncounted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

parse: Any = __import__("re._parser", fromlist=["parse"]).parse
_MAXREPEAT = int(__import__("re._constants", fromlist=["MAXREPEAT"]).MAXREPEAT)
_CLASSES: dict[str, Callable[[str], bool]] = {
    "CATEGORY_DIGIT": str.isdigit,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda sign: sign.isalnum() or sign == "_",
}
Rest = Callable[[int], bool]


class Steps(Exception):
    """More than were allowed."""


class Matcher:
    """One pattern; `steps` counts."""

    def __init__(self, pattern: str, flags: int, *, most: int) -> None:
        self.tree = parse(pattern, flags)
        self.ignore = bool(self.tree.state.flags & re.IGNORECASE)
        self.most = most
        self.steps = 0
        # by the ids of nodes, which live as long as the tree: both are asked for at nearly every step
        self._known_fits: dict[tuple[int, str], bool] = {}
        self._known_lists: dict[int, list[Any]] = {}

    def search(self, text: str) -> None:
        """Look for all matches, as `findall` does."""
        at = 0
        while at <= len(text):
            end = self._ends(text, at)
            at = max(end, at + 1) if end is not None else at + 1

    def match(self, text: str, *, whole: bool) -> None:
        self._ends(text, 0, whole=whole)

    def _ends(self, text: str, at: int, *, whole: bool = False) -> int | None:
        ends: list[int] = []

        def done(position: int) -> bool:
            if whole and position != len(text):
                return False
            ends.append(position)
            return True

        self._step()
        self._sequence(self._list(self.tree), 0, text, at, done)
        return ends[0] if ends else None

    def _step(self) -> None:
        self.steps += 1
        if self.steps > self.most:
            raise Steps

    def _list(self, nodes: Any) -> list[Any]:
        """Return nodes as a list of Python's own, which is faster to look into."""
        known = self._known_lists.get(id(nodes))
        if known is None:
            known = self._known_lists[id(nodes)] = list(nodes)
        return known

    def _sequence(self, nodes: list[Any], number: int, text: str, at: int, rest: Rest) -> bool:
        while number < len(nodes) and _is_one_sign(nodes[number]):
            self._step()
            if at >= len(text) or not self._fits(nodes[number], text[at]):
                return False
            at, number = at + 1, number + 1
        if number == len(nodes):
            return rest(at)
        return self._node(nodes[number], text, at, lambda then: self._sequence(nodes, number + 1, text, then, rest))

    def _node(self, node: Any, text: str, at: int, rest: Rest) -> bool:
        kind, value = node[0].name, node[1]
        self._step()
        match kind:
            case "SUBPATTERN":
                return self._sequence(self._list(value[3]), 0, text, at, rest)
            case "BRANCH":
                return any(self._sequence(self._list(branch), 0, text, at, rest) for branch in value[1])
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, inner = value[0], int(value[1]), self._list(value[2])
                if len(inner) == 1 and _is_one_sign(inner[0]):
                    return self._run_of_signs(inner[0], least, most, text, at, rest, lazy=kind == "MIN_REPEAT")
                return self._repeat(inner, least, most, text, at, rest)
            case "AT":
                return self._is_at(str(value), text, at) and rest(at)
            case "ASSERT" | "ASSERT_NOT":
                direction, inner = value[0], value[1]
                start = at if direction > 0 else at - inner.getwidth()[0]
                matches = start >= 0 and self._sequence(self._list(inner), 0, text, start, lambda _end: True)
                return matches is (kind == "ASSERT") and rest(at)
        raise NotImplementedError(kind)

    def _run_of_signs(self, node: Any, least: int, most: int, text: str, at: int, rest: Rest, *, lazy: bool) -> bool:
        count = 0
        if lazy:
            while not (count >= least and rest(at + count)):
                self._step()
                if count >= most or at + count >= len(text) or not self._fits(node, text[at + count]):
                    return False
                count += 1
            return True
        while count < most and at + count < len(text) and self._fits(node, text[at + count]):
            self._step()
            count += 1
        while count >= least:
            self._step()
            if rest(at + count):
                return True
            count -= 1
        return False

    def _repeat(self, inner: list[Any], least: int, most: int, text: str, at: int, rest: Rest, count: int = 0) -> bool:
        self._step()

        def repeat(then: int) -> bool:
            return then > at and self._repeat(inner, least, most, text, then, rest, count + 1)

        if count < most and self._sequence(inner, 0, text, at, repeat):
            return True
        return count >= least and rest(at)

    def _is_at(self, where: str, text: str, at: int) -> bool:
        match where:
            case "AT_BEGINNING" | "AT_BEGINNING_STRING":
                return at == 0
            case "AT_END" | "AT_END_STRING":
                return at == len(text)
            case "AT_BOUNDARY" | "AT_NON_BOUNDARY":
                before = at > 0 and _CLASSES["CATEGORY_WORD"](text[at - 1])
                after = at < len(text) and _CLASSES["CATEGORY_WORD"](text[at])
                return (before != after) is (where == "AT_BOUNDARY")
        raise NotImplementedError(where)

    def _fits(self, node: Any, sign: str) -> bool:
        known = self._known_fits.get((id(node), sign))
        if known is None:
            known = self._known_fits[id(node), sign] = self._find_fit(node, sign)
        return known

    def _find_fit(self, node: Any, sign: str) -> bool:
        if not self.ignore:
            return _fits(node, sign)
        every = all if node[0].name == "NOT_LITERAL" or (node[0].name == "IN" and _is_negated(node)) else any
        return every(_fits(node, variant) for variant in (sign, sign.lower(), sign.upper()))


def _is_one_sign(node: Any) -> bool:
    return node[0].name in ("LITERAL", "NOT_LITERAL", "ANY", "IN")


def _is_negated(node: Any) -> bool:
    return node[1][0][0].name == "NEGATE"


def _fits(node: Any, sign: str) -> bool:
    kind, value = node[0].name, node[1]
    match kind:
        case "LITERAL":
            return len(sign) == 1 and ord(sign) == value
        case "NOT_LITERAL":
            return len(sign) == 1 and ord(sign) != value
        case "ANY":
            return sign != "\n"
        case "RANGE":
            return len(sign) == 1 and value[0] <= ord(sign) <= value[1]
        case "CATEGORY":
            name = str(value)
            return _CLASSES[name.replace("_NOT_", "_")](sign) is ("_NOT_" not in name)
        case "IN":
            negated = _is_negated(node)
            return any(_fits(member, sign) for member in value[negated:]) is not negated
    raise NotImplementedError(kind)


# --- texts that make it work --------------------------------------------------------------------------------------

_TRIED = "aA0 _-.:;,@=+/'\"(){}[]<>%&?!#\t\n~|\\^$*\u0417\u00e9"


def _signs(node: Any, ignore: bool) -> str:
    """Some signs that fit a node."""
    own = chr(node[1]) if node[0].name == "LITERAL" else ""
    if node[0].name == "IN":
        own = "".join(
            chr(member[1] if member[0].name == "LITERAL" else member[1][0])
            for member in node[1]
            if member[0].name in ("LITERAL", "RANGE")
        )
    return "".join(dict.fromkeys(sign for sign in own + _TRIED if _fits(node, sign)))


def _example(nodes: Any, ignore: bool) -> str:
    """A short text that fits some nodes, assertions aside."""
    text = ""
    for node in nodes:
        kind, value = node[0].name, node[1]
        if _is_one_sign(node):
            text += _signs(node, ignore)[:1]
        elif kind in ("MAX_REPEAT", "MIN_REPEAT"):
            text += _example(value[2], ignore) * value[0]
        elif kind == "SUBPATTERN":
            text += _example(value[3], ignore)
        elif kind == "BRANCH":
            text += _example(value[1][0], ignore)
        elif kind == "ASSERT" and value[0] < 0:
            text += _example(value[1], ignore)
    return text


def _repeats(nodes: Any, before: str, ignore: bool) -> Iterator[tuple[str, str]]:
    """What leads to each long repetition, and some text that it repeats."""
    for number, node in enumerate(nodes):
        kind, value = node[0].name, node[1]
        here = before + _example(list(nodes)[:number], ignore)
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            if value[1] >= 8:
                inner = list(value[2])
                if len(inner) == 1 and _is_one_sign(inner[0]):
                    yield from ((here, sign) for sign in _signs(inner[0], ignore)[:2])
                else:
                    yield here, _example(inner, ignore)
            yield from _repeats(value[2], here, ignore)
        elif kind == "SUBPATTERN":
            yield from _repeats(value[3], here, ignore)
        elif kind == "BRANCH":
            for branch in value[1]:
                yield from _repeats(branch, here, ignore)


def texts(pattern: str, flags: int) -> list[Callable[[int], str]]:
    """Texts of any length that could make a pattern try much: its own repetitions, ended by what does not fit."""
    tree = parse(pattern, flags)
    pumped = list(dict.fromkeys(_repeats(list(tree), "", False)))
    signs = dict.fromkeys([repeated for _, repeated in pumped] + [" ", "a", "0"])
    made: list[Callable[[int], str]] = []
    for before, repeated in pumped:
        if repeated:
            for end in ("", "\x00"):
                made.append(lambda n, b=before, r=repeated, e=end: b + r * (n // len(r)) + e)  # type: ignore[misc]
            made.append(lambda n, b=before, r=repeated: (b + r * 3) * (n // (len(b) + 3 * len(r))))  # type: ignore[misc]
    for first in signs:
        for second in signs:
            if first != second and first and second:
                made.append(lambda n, f=first, s=second: f * (n // 2 // len(f)) + s * (n // 2 // len(s)) + "\x00")  # type: ignore[misc]
    return made


def cost(pattern: str, flags: int, way: str, text: str, *, most: int) -> int:
    """The steps of one call of `search`, `match` or `fullmatch`; at most so many, then it is said to be more."""
    matcher = Matcher(pattern, flags, most=most)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 40 * len(text) + 10_000))
    try:
        if way == "search":
            matcher.search(text)
        else:
            matcher.match(text, whole=way == "fullmatch")
    except Steps:
        return most + 1
    finally:
        sys.setrecursionlimit(before)
    return matcher.steps
