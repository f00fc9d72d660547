"""Measures a command before it does anything: `connectors --help` against an `import typer`, in one run.

Every command is a process of its own, run several times in turn with the others, so that whatever else the machine does
meets all of them alike; the ratios of the medians are what counts. `python -m bench.startup`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

_RUNS = 7
_AT_MOST = 5.0
"""How many times an `import typer` the help may cost."""
_MEASURED = {
    "python -c 'import typer'": ["-c", "import typer"],
    "connectors --version": ["-m", "connectors", "--version"],
    "connectors --help": ["-m", "connectors", "--help"],
    "connectors connection --help": ["-m", "connectors", "connection", "--help"],
    "connectors connection list": ["-m", "connectors", "connection", "list"],
}


def seconds(arguments: list[str], database: Path) -> float:
    """Run Python with `arguments` once, and return how long the process took, in seconds."""
    environment = {**os.environ, "CONNECTORS_DATABASE_URL": f"sqlite:///{database}"}
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Run everything once unmeasured, then in rounds, and print the medians with their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "ledger.db"
        seconds(["-m", "connectors", "db", "upgrade"], database)  # not while others are measured
        for arguments in _MEASURED.values():
            seconds(arguments, database)  # the first run of each compiles its modules
        rounds = [[seconds(arguments, database) for arguments in _MEASURED.values()] for _ in range(_RUNS)]
    medians = [median(times) for times in zip(*rounds, strict=True)]
    print(f"startup, medians of {_RUNS} runs:")
    for name, middle in zip(_MEASURED, medians, strict=True):
        print(f"  {name:<30} {middle * 1000:6.0f} ms  {middle / medians[0]:5.1f} times an import of typer")
    ratio = medians[list(_MEASURED).index("connectors --help")] / medians[0]
    print(f"  the help costs {ratio:.1f} times an import of typer: {'good' if ratio <= _AT_MOST else 'TOO MUCH'}")


if __name__ == "__main__":
    main()
