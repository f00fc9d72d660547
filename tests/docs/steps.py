"""Follows the tutorial: reads the code blocks of the page and does them in a folder, in their order.

Owns how the line above a block says what to do with it, and doing that; the tutorial owns the steps.
`python -m tests.docs.steps` follows it with this interpreter and prints each step.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
_FILE = re.compile(
    r"`(?P<path>[\w./-]+)`(?P<new>, a new file)?(?P<imports>, its imports)?(, in `class (?P<inside>\w+)`)?:"
)
_RUN = re.compile(r"<!-- run(?:: exit (?P<exit>\d+))? -->")
_SHOWN = re.compile(r"<!-- shown: .+ -->")
_FENCE = re.compile(r"```(\w*)")
LEFT_OUT = "…"
"""Stands in a block for output that is left out."""

Commands = Mapping[str, Sequence[str] | None]
"""The real command line of each command in a console block; `None` leaves that command out."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block, and the line above it, which says what to do with the block. `at` is the line it begins on."""

    at: int
    above: str
    language: str
    text: str


def blocks(page: Path = TUTORIAL) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in their order."""
    above, start, language, inside = "", 0, "", list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.fullmatch(line)
        if fence is None:
            if start:
                inside.append(line)
            elif line.strip():
                above = line
        elif start:
            yield Block(start, above, language, "\n".join(inside) + "\n")
            above, start = "", 0
        else:
            start, language, inside = number, fence[1], []
    assert not start, f"{page.name}, line {start}: a block without an end"


def follow(folder: Path, commands: Commands, report: Callable[[str], None] = lambda _line: None) -> None:
    """Do every step of the tutorial in a folder. Raises `AssertionError` for output that differs from the page."""
    for block in blocks():
        where = f"{TUTORIAL.name}, line {block.at}"
        if (run := _RUN.fullmatch(block.above)) is not None:
            _run(block, int(run["exit"] or 0), folder, commands, where, report)
        elif (target := _FILE.fullmatch(block.above)) is not None:
            file = folder / target["path"]
            report(f"{where}: {file.relative_to(folder)}")
            _write(file, block.text, target, where)
        else:
            assert _SHOWN.fullmatch(block.above), f"{where}: the line above says nothing of what the block is for"


# --- files ----------------------------------------------------------------------------------------------------------


def _write(file: Path, text: str, target: re.Match[str], where: str) -> None:
    if target["new"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return
    assert file.is_file(), f"{where}: there is no {file.name} yet"
    source = file.read_text(encoding="utf-8")
    if target["imports"]:
        source = _with_imports(source, text)
    else:
        for name, piece in _pieces(text, target["inside"]):
            source = _with_piece(source, name, piece, target["inside"])
    file.write_text(source, encoding="utf-8")


def _with_imports(source: str, text: str) -> str:
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = source.splitlines()
    return "\n".join([*lines[: imports[0].lineno - 1], text.rstrip(), *lines[imports[-1].end_lineno :]]) + "\n"


def _pieces(text: str, inside: str | None) -> Iterator[tuple[str, list[str]]]:
    """Yield each definition in a block: its name, and its lines with the comments right above it."""
    shift = 1 if inside else 0
    lines = ([f"class {inside}:"] if inside else []) + text.splitlines()
    (tree,) = [ast.parse("\n".join(lines))]
    body = tree.body[0].body if inside and isinstance(tree.body[0], ast.ClassDef) else tree.body
    end = shift
    for node in body:
        yield _name(node), _trimmed(lines[end : node.end_lineno])
        end = node.end_lineno or 0


def _with_piece(source: str, name: str, piece: list[str], inside: str | None) -> str:
    """Return the source with a definition replaced, or added at the end of its class or of the file."""
    lines, body = source.splitlines(), ast.parse(source).body
    gap = [""] if inside else ["", ""]
    if inside:
        owner = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == inside)
        end, body = owner.end_lineno or 0, owner.body
    else:
        end = len(lines)
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr) and _name(node) == name:
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
            while lines[first - 2].lstrip().startswith("#") and first > 1:
                first -= 1
            return "\n".join([*lines[: first - 1], *piece, *lines[node.end_lineno :]]) + "\n"
    return "\n".join([*lines[:end], *gap, *piece, *lines[end:]]) + "\n"


def _name(node: ast.stmt) -> str:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    raise AssertionError(f"line {node.lineno} of a block names nothing: {ast.unparse(node)}")


def _trimmed(lines: list[str]) -> list[str]:
    while lines and not lines[0].strip():
        lines = lines[1:]
    return lines


# --- commands -------------------------------------------------------------------------------------------------------


def _run(
    block: Block, exit_code: int, folder: Path, commands: Commands, where: str, report: Callable[[str], None]
) -> None:
    """Run the `$` lines of a block; the lines below each must be in its output, in that order."""
    for typed, *expected in (part.splitlines() for part in ("\n" + block.text).split("\n$ ")[1:]):
        name, *arguments = typed.split()
        command = commands[name]
        if command is None:
            continue
        started = time.monotonic()
        process = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        output = f"{process.stdout}\n{process.stderr}"
        report(f"{where}: {typed} ({time.monotonic() - started:.1f} s)")
        assert process.returncode == exit_code, f"{where}: {typed} ended with {process.returncode}\n{output}"
        rest = _plain(output)
        for part in filter(None, map(_plain, "\n".join(expected).split(LEFT_OUT))):
            _before, match, rest = rest.partition(part)
            assert match, f"{where}: {typed}\ndoes not say (after the parts before it)\n  {part}\nbut\n{output}"


def _plain(text: str) -> str:
    """Remove line ends, which depend on the width of a terminal, and the lines of tables."""
    return " ".join(re.sub(r"[│┃━─╇┼╭╮╰╯┏┓┡┩└┘┴┳┬├┤]", " ", text).split())


def _environment() -> dict[str, str]:
    """Return the environment without anything of ours that could change what runs."""
    left_out = ("PYTHON", "CONNECTORS_", "VIRTUAL_ENV", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


def main() -> None:
    """Follow the tutorial here, and print how long it takes."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        commands = {"connectors": [sys.executable, "-m", "connectors"], "pytest": [sys.executable, "-m", "pytest"]}
        follow(Path(sys.argv[1]) if sys.argv[1:] else Path(folder), commands, report=print)
    print(f"{time.monotonic() - started:.0f} s")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
