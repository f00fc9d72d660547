"""Reads the tables of a Markdown page as rows of named cells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by the names of their columns, and the heading above the table."""

    heading: str
    cells: dict[str, str]


def rows_of(text: str) -> Iterator[Row]:
    """Yield the rows of every table on a page. Raises `ValueError` for a row with too few or too many cells."""
    heading, columns = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            columns = []
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in _BORDER.split(line.strip())[1:-1]]
        if not columns:
            columns = cells
        elif set(line) - set("|-: "):  # the line below the columns' names is no row
            yield Row(heading, dict(zip(columns, cells, strict=True)))
