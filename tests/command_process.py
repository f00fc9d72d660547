"""What a forked process does to be a `connectors …` command, as a fresh one would.

Imports nothing of the commands before it has the command's environment: their modules read it.
"""

from __future__ import annotations

import faulthandler
import os
import sys

from tests.machines import Machine


def be_a_command(
    arguments: list[str], env: dict[str, str], folder: str, out: str, err: str, machine: Machine | None = None
) -> None:
    """Run a command with the streams, folder, environment, arguments and, if there is one, machine of its own."""
    if machine is not None:
        machine.join()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    for number, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
        (2, err, os.O_WRONLY | os.O_APPEND | os.O_CREAT),
    ):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process lives
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
    faulthandler.enable()  # a signal to abort has it say where each thread stands
    sys.argv = ["connectors", *arguments]
    from connectors.cli import main  # here, so that its modules read this process' environment

    main()
