"""Measure how the code reads: sizes, tokens, docstrings, comments, complexity, `Any`, and words that are no names.

`python -m tools.code_metrics` prints the figures of the product packages beside those of codebases we learn from;
`python -m tools.code_metrics --worst` lists the functions to look at first. Nothing fails by it: it is for reading.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = (
    "connectors",
    "connector_sdk",
    "poster_connector",
    "serve_connector",
    "square_connector",
    "square_connector",
    "webhook_connector",
)
NO_NAMES = ("one", "found", "some", "told", "kept", "again")
"""Words that say nothing of what a variable is."""
ANCHORS = (
    ("pluggy", "8 / 31", "88", "43", "83 %", "9.0"),
    ("stamina", "8 / 28", "54", "40", "90 %", "6.0"),
    ("httpx", "9 / 34", "248", "44", "55 %", "6.0"),
    ("Procrastinate", "8 / 32", "45", "45", "35 %", "4.7"),
    ("Singer SDK", "13 / 38", "114", "39", "99 %", "5.1"),
)
"""Codebase, function lines (median / 90th percentile), file lines, tokens a function, public docstrings, comments."""
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class FunctionFigures:
    """One function: where it is, its lines and tokens without its docstring, and its cyclomatic complexity."""

    where: str
    lines: int
    tokens: int
    complexity: int


@dataclass(slots=True)
class Figures:
    """What was counted in a set of files."""

    functions: list[FunctionFigures] = field(default_factory=list)
    file_lines: list[int] = field(default_factory=list)
    code_lines: int = 0
    comments: int = 0
    public: int = 0
    documented: int = 0
    undocumented: list[str] = field(default_factory=list)
    any_uses: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)


def measure(paths: list[Path]) -> Figures:
    """Count everything in these files."""
    figures = Figures()
    for path in paths:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
        figures.file_lines.append(source.count("\n"))
        figures.code_lines += sum(1 for line in source.splitlines() if line.strip())
        figures.comments += sum(token.type == tokenize.COMMENT for token in tokens)
        figures.any_uses[str(path)] += sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))
        figures.words.update(_bound_names(tree))
        for function in _functions(tree):
            figures.functions.append(_measure_function(path, function, tokens))
        for name, node in _public(tree):
            figures.public += 1
            if ast.get_docstring(node) is None:
                figures.undocumented.append(f"{path}:{getattr(node, 'lineno', 1)} {name}")
            else:
                figures.documented += 1
    return figures


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _public(tree: ast.Module) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """The module, and its public classes, functions and methods; overridden dunder methods need no docstring."""
    yield "module", tree
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            for member in node.body:
                if isinstance(member, Function) and not member.name.startswith("_"):
                    yield f"{node.name}.{member.name}", member
        elif isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node


def _measure_function(path: Path, function: Function, tokens: list[tokenize.TokenInfo]) -> FunctionFigures:
    first, last = function.lineno, function.end_lineno or function.lineno
    documentation = _docstring_lines(function)
    own = [
        token
        for token in tokens
        if first <= token.start[0] <= last and token.start[0] not in documentation and token.type not in _LAYOUT
    ]
    branches = sum(_branches(node) for node in ast.walk(function))
    return FunctionFigures(
        where=f"{path}:{first} {function.name}",
        lines=last - first + 1 - len(documentation),
        tokens=len(own),
        complexity=1 + branches,
    )


def _docstring_lines(function: Function) -> range:
    statement = function.body[0]
    if ast.get_docstring(function) is None:
        return range(0)
    return range(statement.lineno, (statement.end_lineno or statement.lineno) + 1)


def _branches(node: ast.AST) -> int:
    """How many further ways through the code a node opens, as McCabe counts them."""
    match node:
        case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler() | ast.IfExp():
            return 1
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.match_case():
            return 0 if isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None else 1
    return 0


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Every use as a name (bound or read) of the words that name nothing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in NO_NAMES:
            yield node.id
        elif isinstance(node, ast.arg) and node.arg in NO_NAMES:
            yield node.arg


def _files(packages: list[str]) -> list[Path]:
    listed = subprocess.run(  # noqa: S603 - git, with the folders of this repository
        ["git", "ls-files", *(f"{package}/*.py" for package in packages)],  # noqa: S607
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(line) for line in listed.splitlines() if "/migrations/versions/" not in line and Path(line).exists()]


def _percentile(values: list[int], share: float) -> int:
    return sorted(values)[int(share * (len(values) - 1))]


def table(figures: Figures) -> str:
    """The figures as Markdown, beside the codebases we learn from."""
    lines = [function.lines for function in figures.functions]
    tokens = [function.tokens for function in figures.functions]
    too_complex = sum(function.complexity > 10 for function in figures.functions)
    ours = (
        "this project",
        f"{int(statistics.median(lines))} / {_percentile(lines, 0.9)}",
        str(int(statistics.median(figures.file_lines))),
        str(int(statistics.median(tokens))),
        f"{100 * figures.documented / figures.public:.0f} %",
        f"{100 * figures.comments / figures.code_lines:.1f}",
    )
    header = (
        "codebase",
        "function lines",
        "file lines",
        "tokens a function",
        "public docstrings",
        "comments per 100 lines",
    )
    rows = [header, ("---",) * len(header), *ANCHORS, ours]
    words = ", ".join(f"`{word}` {figures.words[word]}" for word in NO_NAMES)
    return "\n".join(
        [
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            f"- Functions: {len(figures.functions)}",
            f"- Files: {len(figures.file_lines)}, with {sum(figures.file_lines)} lines",
            f"- Complexity over ten: {too_complex} ({100 * too_complex / len(figures.functions):.1f} %)",
            f"- `Any`: {figures.any_uses.total()}",
            f"- Words used as names: {words}",
        ]
    )


def worst(figures: Figures) -> str:
    """The most complex and longest functions, the files with most `Any`, and what has no docstring."""
    by_complexity = sorted(figures.functions, key=lambda function: -function.complexity)
    by_tokens = sorted(figures.functions, key=lambda function: -function.tokens)
    sections = (
        ("Complexity", [f"{f.complexity:4} {f.where}" for f in by_complexity if f.complexity > 10]),
        ("Tokens", [f"{f.tokens:4} {f.where}" for f in by_tokens[:40]]),
        ("Any", [f"{count:4} {path}" for path, count in figures.any_uses.most_common() if count]),
        ("No docstring", figures.undocumented),
    )
    return "\n".join(f"## {title}\n" + "\n".join(lines) + "\n" for title, lines in sections)


def main(arguments: list[str]) -> None:
    """Print the figures; further arguments are packages or folders to count instead of all."""
    folders = [argument.rstrip("/") for argument in arguments if not argument.startswith("--")]
    figures = measure(_files(folders or list(PACKAGES)))
    sys.stdout.write((worst(figures) if "--worst" in arguments else table(figures)) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
