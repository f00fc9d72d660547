"""Real processes for tests: started with a clean environment, ended by their id.

Owns starting, waiting and ending them; what they print is left to the tests. Most are forked from a process that has
imported what a command needs, as importing takes longer than most tests; where starting is what a test or a benchmark
is about, they are fresh.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

import httpx
from typer.testing import CliRunner

from connectors.cli.main import app
from tests.command_process import be_a_command
from tests.machines import Machine

Answer = TypeVar("Answer")
KILLS = int(os.environ.get("KILLS", "3"))
"""How often a test kills what it is about: three times show it, `KILLS=20` looks longer."""

CONNECTORS = [sys.executable, "-m", "connectors"]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return what a process needs of the machine's environment, and `more`."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "SYSTEMROOT") if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", "COLUMNS": "200", **more}


def forking() -> ForkServerContext:
    """Processes that share what is imported: one server forks all of a run, so it imports what any of them needs."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.store.rotating", "tests.sync.renewing", *_BELOW_THE_COMMANDS])
    return processes


# the commands' own modules are not among them: what they read of the environment they read in the process they run in
_BELOW_THE_COMMANDS = (
    "aiohttp",
    "connectors.services",
    "connectors.web.app",
    "connectors.sevenstamp.sandbox",
    "poster_connector.sandbox",
    "rich.markdown",
    "rich.progress",
    "rich.traceback",
    "uvicorn.protocols.http.h11_impl",
    "uvicorn.loops.auto",
)


class Process(Protocol):
    """What tests do with a process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...
    def terminate(self) -> None: ...


class ForkedCommand:
    """A `connectors …` process of its own that was forked: it ends with the command's exit code."""

    def __init__(
        self, arguments: list[str], env: Mapping[str, str], out: Path, err: Path, machine: Machine | None = None
    ) -> None:
        self._process = forking().Process(
            target=be_a_command, args=(arguments, environment(env), str(Path.cwd()), str(out), str(err), machine)
        )
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(CONNECTORS, timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


@contextmanager
def started(
    arguments: list[str], env: Mapping[str, str], log: Path, *, fresh: bool = False, machine: Machine | None = None
) -> Iterator[Process]:
    """Start a `connectors …` process whose output goes to a file; it is killed at the end if it still runs."""
    process: Process
    if fresh:
        with log.open("ab") as out:
            process = subprocess.Popen(
                [*CONNECTORS, *arguments], env=environment(env), stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )
    else:
        log.touch()
        process = ForkedCommand(arguments, env, log, log, machine)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def run(arguments: list[str], env: Mapping[str, str], *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a `connectors …` command to its end."""
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = ForkedCommand(arguments, env, out, err)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait(10)
        return subprocess.CompletedProcess(arguments, code, out.read_text(), err.read_text())


def invoke(arguments: list[str], env: Mapping[str, str], *, typed: str = "") -> subprocess.CompletedProcess[str]:
    """Run a `connectors …` command to its end in this process, where its outcome is asked for and not the process.

    Not where a loop runs in this thread: a command starts its own.
    """
    result = CliRunner().invoke(app, arguments, input=typed, env={"COLUMNS": "200", **env})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


def wait_for(condition: Callable[[], Answer], what: str, *, seconds: float = 30, pause: float = 0.05) -> Answer:
    """Ask until the answer is true, and return it; a test that would hang fails after `seconds`."""
    for _ in range(int(seconds / pause)):
        if answer := condition():
            return answer
        time.sleep(pause)
    raise AssertionError(f"waited in vain for {what}")


def origin_in(log: Path, *, timeout: float = 20) -> str:
    """The address a process said it listens on."""

    def origin() -> str | None:
        for line in log.read_text().splitlines():
            if "http://" in line and "isten" in line:
                return "http://" + line.split("http://")[1].split()[0]
        return None

    try:
        return str(wait_for(origin, "where it listens", seconds=timeout, pause=0.02))
    except AssertionError as error:
        raise AssertionError(f"{error}:\n{log.read_text()}") from None


def wait_ready(origin: str, *, timeout: float = 20) -> None:
    """Wait until the host at an origin says that it is ready."""

    def ready() -> bool:
        try:
            return httpx.get(f"{origin}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(ready, f"{origin} to be ready", seconds=timeout, pause=0.02)
