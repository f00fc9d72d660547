"""One module writes a table: the code is read, and each table has exactly one module that inserts, updates or deletes.

`connectors.store.rotation` (encrypts any column anew) and the migrations are the exceptions, by name.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import connectors
from connectors.store import schema

ROOT = Path(connectors.__file__).parent
WRITES = {"insert", "update", "delete"}
ANY_TABLE = {"store/rotation.py", "store/dialect.py", "store/engine.py"}
"""Modules that are handed a table: one encrypts any column anew, two build inserts in a database's own words."""


def table_variables() -> set[str]:
    """The names under which `schema` offers its tables."""
    return {name for name in vars(schema) if name.endswith("_table")}


def writes_in(source: str) -> Iterator[str]:
    """The tables (or variables) that a module inserts into, updates or deletes from.

    All ways are found: `sale_table.insert()` and `insert(sale_table)`, of a transaction or of SQLAlchemy, and
    `insert_into(dialect, sale_table)`.
    """
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        receiver = node.func.value if isinstance(node.func, ast.Attribute) else None
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in WRITES and name != "insert_into":
            continue
        if isinstance(receiver, ast.Name) and (receiver.id.endswith("_table") or receiver.id == "table"):
            yield receiver.id
        # `insert_into` is told the database's dialect first
        for argument in node.args[1:2] if name == "insert_into" else node.args[:1]:
            if isinstance(argument, ast.Name) and (argument.id.endswith("_table") or argument.id == "table"):
                yield argument.id


def writers() -> dict[str, set[str]]:
    """Table variable → the modules that write it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if "migrations" in module or module in ANY_TABLE:
            continue
        for table in writes_in(path.read_text(encoding="utf-8")):
            found[table].add(module)
    return found


def test_each_table_is_written_by_one_module_of_the_store() -> None:
    found = writers()
    assert set(found) == table_variables()  # every table is written, and no table hides in a variable
    assert {table: sorted(modules) for table, modules in found.items() if len(modules) > 1} == {}
    assert [module for modules in found.values() for module in modules if not module.startswith("store/")] == []


def test_the_schema_says_who_writes_a_table() -> None:
    source = (ROOT / "store/schema.py").read_text(encoding="utf-8")
    by_table = {
        table: f"store/{module.replace('.', '/')}.py"
        for module, table in re.findall(r"Written by `([a-z_.]+)`\.\n(\w+_table) = Table\(", source)
    }
    assert by_table == {table: module for table, (module,) in writers().items()}


def test_the_reading_finds_all_ways_of_writing() -> None:
    source = (
        "a_table.update()\ntx.insert(b_table)\ndelete(c_table)\nfor table in (d_table,):\n    table.delete()\n"
        "insert_into(dialect, e_table)\n"
    )
    assert sorted(writes_in(source)) == ["a_table", "b_table", "c_table", "e_table", "table"]
