"""Every regular expression of ours costs twice as much for twice the text, and not four times as much."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import threading
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest

from tests.growth.regexes import cost, texts

PACKAGES = (
    "connector_sdk",
    "connectors",
    "poster_connector",
    "serve_connector",
    "square_connector",
    "webhook_connector",
)
WAYS = {"search": "search", "findall": "search", "finditer": "search", "sub": "search", "subn": "search",
        "split": "search", "match": "match", "fullmatch": "fullmatch"}  # fmt: skip
SHORT, LONG = 150, 700  # the second is beyond the longest bounded repetition: up to it, those look like others
MOST = 600_000
STACK = 512 * 1024 * 1024


def modules() -> Iterator[ModuleType]:
    for package in PACKAGES:
        root = importlib.import_module(package)
        yield root
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            if ".migrations." not in module.name and not module.name.endswith("__main__"):
                yield importlib.import_module(module.name)


def _compiled(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        yield from (pattern for member in value.values() for pattern in _compiled(member))
    elif isinstance(value, tuple | list | frozenset):
        yield from (pattern for member in value for pattern in _compiled(member))


@lru_cache
def patterns() -> list[tuple[str, int, str, str]]:
    """(pattern, flags, how it is used, where) for all in our packages: compiled ones, and those given in a call."""
    used: dict[str, set[str]] = defaultdict(set)
    named: list[tuple[str, re.Pattern[str], str]] = []
    uses: set[tuple[str, int, str, str]] = set()
    for module in modules():
        for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAYS):
                continue
            way, owner = WAYS[node.func.attr], node.func.value
            if isinstance(owner, ast.Name) and owner.id == "re":
                uses.add((_written(node.args[0]), 0, way, module.__name__))
            elif isinstance(owner, ast.Name):
                used[owner.id].add(way)
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                named.append((name, value, module.__name__))
            elif not name.startswith("__"):
                uses |= {_entry(pattern, "search", module.__name__) for pattern in _compiled(value)}
    for name, pattern, where in named:
        uses |= {_entry(pattern, way, where) for way in used[name] or {"search"}}
    once = {(pattern, flags, way): where for pattern, flags, way, where in sorted(uses)}
    return [(*seen, where) for seen, where in once.items()]


def _written(argument: ast.expr) -> str:
    """A pattern as it stands in the source; what is put into it at run time is escaped, and so as a word."""
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    texts = [part.value if isinstance(part, ast.Constant) else "EUR" for part in parts]
    return "".join(text.decode("latin-1") if isinstance(text, bytes) else str(text) for text in texts)


def _entry(pattern: re.Pattern[str], way: str, where: str) -> tuple[str, int, str, str]:
    text = pattern.pattern if isinstance(pattern.pattern, str) else bytes(pattern.pattern).decode("latin-1")
    return text, pattern.flags & (re.IGNORECASE | re.DOTALL | re.VERBOSE), way, where


def superlinear(pattern: str, flags: int, way: str) -> str:
    """A text that costs more than twice as much when it is twice as long; empty where there is none."""
    for made in texts(pattern, flags):
        for length in (SHORT, LONG):
            short = cost(pattern, flags, way, made(length), most=MOST)
            long = cost(pattern, flags, way, made(2 * length), most=MOST)
            if long <= min(2.6 * short, MOST):
                break
        else:
            return f"{made(12)!r}… costs {short} and then {long}"
    return ""


def in_a_thread(work: list[tuple[str, int, str, str]]) -> list[str]:
    """Backtracking here is recursion: it needs a deeper stack than a test has."""
    bad: list[str] = []

    def run() -> None:
        for pattern, flags, way, where in work:
            if reason := superlinear(pattern, flags, way):
                bad.append(f"{where}: {pattern} by {way}: {reason}")

    before = threading.stack_size(STACK)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    return bad


def test_there_are_patterns_to_look_at() -> None:
    assert len(patterns()) > 60


@pytest.mark.parametrize("part", range(4))
def test_no_pattern_costs_more_than_its_text_is_long(part: int) -> None:
    assert in_a_thread(patterns()[part::4]) == []


@pytest.mark.parametrize(
    ("pattern", "way"),
    [
        (r"\s*(webhook_id=[0-9]{1,20})?\s*", "fullmatch"),
        (r"[^\W\d_]{2,}[\s,;]+[^\W\d_]{2,}", "search"),
        (r"(a+)+b", "match"),
        (r"[a-z]+@", "search"),
    ],
)
def test_patterns_that_were_or_would_be_slow_are_found(pattern: str, way: str) -> None:
    assert in_a_thread([(pattern, 0, way, "here")]) != []


@pytest.mark.parametrize("pattern", [r"[a-z]{1,20}[0-9]{2,3}", r"(?i)\bab[^x]?(?=c)|de*", r"(?:a|bc){2,}d"])
@pytest.mark.parametrize("text", ["", "abc", "zzz12", "bcbcad", "deee", "abXc" * 5, "ab1cd99"])
def test_the_counting_matcher_finds_what_re_finds(pattern: str, text: str) -> None:
    from tests.growth.regexes import Matcher

    for start in range(len(text) + 1):
        end = Matcher(pattern, 0, most=10**6)._ends(text, start)
        real = re.compile(pattern).match(text, start)
        assert end == (real.end() if real else None)
