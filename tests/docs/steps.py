"""The tutorial's steps: its code blocks, read from the page, done in a folder in their order.

Owns how a block says what is to be done with it (by the line above it) and doing that; the tutorial owns the steps.
`python -m tests.docs.steps` does them with this interpreter and prints what is done.
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
"""What each command of a console block really is; `None` where it is not here, and left out."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block and the line above it, which says what is to be done with it."""

    at: int
    above: str
    language: str
    text: str


def blocks(page: Path = TUTORIAL) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
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


def follow(folder: Path, commands: Commands, said: Callable[[str], None] = lambda _line: None) -> None:
    """Do every step of the tutorial in a folder. Raises `AssertionError` where one does not say what the page says."""
    for one in blocks():
        where = f"{TUTORIAL.name}, line {one.at}"
        if (found := _RUN.fullmatch(one.above)) is not None:
            _run(one, int(found["exit"] or 0), folder, commands, where, said)
        elif (found := _FILE.fullmatch(one.above)) is not None:
            file = folder / found["path"]
            said(f"{where}: {file.relative_to(folder)}")
            _write(file, one.text, found, where)
        else:
            assert _SHOWN.fullmatch(one.above), f"{where}: the line above says nothing of what the block is for"


# --- files ----------------------------------------------------------------------------------------------------------


def _write(file: Path, text: str, found: re.Match[str], where: str) -> None:
    if found["new"]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return
    assert file.is_file(), f"{where}: there is no {file.name} yet"
    source = file.read_text(encoding="utf-8")
    if found["imports"]:
        source = _with_imports(source, text)
    else:
        for name, piece in _pieces(text, found["inside"]):
            source = _with_piece(source, name, piece, found["inside"])
    file.write_text(source, encoding="utf-8")


def _with_imports(source: str, text: str) -> str:
    found = [one for one in ast.parse(source).body if isinstance(one, ast.Import | ast.ImportFrom)]
    lines = source.splitlines()
    return "\n".join([*lines[: found[0].lineno - 1], text.rstrip(), *lines[found[-1].end_lineno :]]) + "\n"


def _pieces(text: str, inside: str | None) -> Iterator[tuple[str, list[str]]]:
    """What is defined in a block: its name and its lines, with the comments right above it."""
    shift = 1 if inside else 0
    lines = ([f"class {inside}:"] if inside else []) + text.splitlines()
    (tree,) = [ast.parse("\n".join(lines))]
    body = tree.body[0].body if inside and isinstance(tree.body[0], ast.ClassDef) else tree.body
    end = shift
    for one in body:
        yield _name(one), _trimmed(lines[end : one.end_lineno])
        end = one.end_lineno or 0


def _with_piece(source: str, name: str, piece: list[str], inside: str | None) -> str:
    """The source with the definition of that name replaced, or added at the end of its class or of the file."""
    lines, body = source.splitlines(), ast.parse(source).body
    gap = [""] if inside else ["", ""]
    if inside:
        owner = next(one for one in body if isinstance(one, ast.ClassDef) and one.name == inside)
        end, body = owner.end_lineno or 0, owner.body
    else:
        end = len(lines)
    for one in body:
        if not isinstance(one, ast.Import | ast.ImportFrom | ast.Expr) and _name(one) == name:
            first = min([one.lineno, *(each.lineno for each in getattr(one, "decorator_list", ()))])
            while lines[first - 2].lstrip().startswith("#") and first > 1:
                first -= 1
            return "\n".join([*lines[: first - 1], *piece, *lines[one.end_lineno :]]) + "\n"
    return "\n".join([*lines[:end], *gap, *piece, *lines[end:]]) + "\n"


def _name(one: ast.stmt) -> str:
    match one:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return one.name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
    raise AssertionError(f"line {one.lineno} of a block names nothing: {ast.unparse(one)}")


def _trimmed(lines: list[str]) -> list[str]:
    while lines and not lines[0].strip():
        lines = lines[1:]
    return lines


# --- commands -------------------------------------------------------------------------------------------------------


def _run(one: Block, exit_code: int, folder: Path, commands: Commands, where: str, said: Callable[[str], None]) -> None:
    """Run the `$` lines of a block; what stands under each must be in its output, in that order."""
    for typed, *expected in (part.splitlines() for part in ("\n" + one.text).split("\n$ ")[1:]):
        name, *arguments = typed.split()
        command = commands[name]
        if command is None:
            continue
        begun = time.monotonic()
        done = subprocess.run(
            [*command, *arguments],
            cwd=folder,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        output = f"{done.stdout}\n{done.stderr}"
        said(f"{where}: {typed} ({time.monotonic() - begun:.1f} s)")
        assert done.returncode == exit_code, f"{where}: {typed} ended with {done.returncode}\n{output}"
        rest = _plain(output)
        for wanted in filter(None, map(_plain, "\n".join(expected).split(LEFT_OUT))):
            _before, found, rest = rest.partition(wanted)
            assert found, f"{where}: {typed}\ndoes not say (after what was found)\n  {wanted}\nbut\n{output}"


def _plain(text: str) -> str:
    """Without line ends, which depend on the width of a terminal, and without the lines of tables."""
    return " ".join(re.sub(r"[│┃━─╇┼╭╮╰╯┏┓┡┩└┘┴┳┬├┤]", " ", text).split())


def _environment() -> dict[str, str]:
    """The environment without anything of ours that could change what is run."""
    left_out = ("PYTHON", "CONNECTORS_", "VIRTUAL_ENV", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


def main() -> None:
    """Do the steps here, and say how long they take."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        commands = {"connectors": [sys.executable, "-m", "connectors"], "pytest": [sys.executable, "-m", "pytest"]}
        follow(Path(sys.argv[1]) if sys.argv[1:] else Path(folder), commands, said=print)
    print(f"{time.monotonic() - begun:.0f} s")  # noqa: T201 - a command


if __name__ == "__main__":
    main()
