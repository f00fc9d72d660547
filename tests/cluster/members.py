"""A cluster of real processes on one PostgreSQL: hosts that take hooks and tick, workers that do the work.

Owns starting, killing and replacing them; each writes a log of its own.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.machines import Machine, Network
from tests.processes import Process, origin_in, started, wait_for, wait_ready

ALONE = ["serve", "--port", "0"]
HOST = ["serve", "--port", "0", "--no-work"]
WORKER = ["worker"]


@dataclass
class Member:
    """A process of the cluster; `origin` is a host's address."""

    process: Process
    log: Path
    machine: Machine | None = None
    origin: str = ""


@dataclass
class Cluster:
    """The members that run; all end with the block."""

    env: Mapping[str, str]
    folder: Path
    network: Network | None = None
    """Where members have machines of their own."""
    hosts: list[Member] = field(default_factory=list)
    workers: list[Member] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, arguments: list[str], machine: Machine | None) -> Member:
        log = self.folder / f"{arguments[0]}-{next(self._numbers)}.log"
        if machine and arguments[0] == "serve":
            arguments = [*arguments, "--host", machine.address]
        return Member(self._stack.enter_context(started(arguments, self.env, log, machine=machine)), log, machine)

    def start_host(self, arguments: list[str] = HOST) -> Member:
        """Start a host, and wait until it listens."""
        member = self._supervise(arguments, "Listening")
        member.origin = origin_in(member.log)
        self.hosts.append(member)
        return member

    def start_worker(self) -> Member:
        """Start a worker, and wait until it works."""
        member = self._supervise(WORKER, "Working")
        self.workers.append(member)
        return member

    def _supervise(self, arguments: list[str], says: str) -> Member:
        """Start a member, again where it ends because the database is not there, until it says that it is up."""
        machine = self.network.take() if self.network else None
        member = self._start(arguments, machine)

        def is_up() -> bool:
            nonlocal member
            if member.process.poll() is not None:
                member = self._start(arguments, machine)
            return says in member.log.read_text()

        try:
            wait_for(is_up, f"{arguments[0]} to be up", seconds=120)
        except AssertionError as error:
            member.process.send_signal(signal.SIGABRT)
            member.process.wait(10)
            error.add_note(f"{member.log.name}: {member.log.read_text()[-6000:]}")
            raise
        return member

    def kill(self, member: Member) -> None:
        """Kill a member as a machine that fails does."""
        member.process.kill()
        member.process.wait(10)
        if self.network and member.machine:
            self.network.give_back(member.machine)
        for members in (self.hosts, self.workers):
            if member in members:
                members.remove(member)

    def wait_ready(self) -> None:
        """Wait until every host says that it is ready."""
        for host in self.hosts:
            wait_ready(host.origin)

    def logs(self) -> str:
        """Everything that the members wrote."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("*.log")))
