"""Machines of a run: each with a network of its own, all joined by cables, and a disk that can fill up.

They are Linux network namespaces and a file system in memory, made inside namespaces that end with the run's own
process, so that nothing of the real machine changes. Every address is one of 127.0.0.0/8, which leads nowhere else.
That takes root's rights: `why_not` says why there are none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

ANSWERS_HERE = "127.77.0.1"
"""The address of the run's own process, at which tills, 7stamp and subscribers stand."""
ADDRESSES = "127.77.0.0/24"
_INSIDE = "CHAOS_HAS_MACHINES"
_NAMES = Path("/run/netns")
_CLONE_NEWNET = 0x40000000
_SLOW = ("rate", "128kbit", "burst", "8kb", "latency", "400ms")
Answer = TypeVar("Answer")


def why_not() -> str | None:
    """Say why there cannot be machines here; `None` where there can."""
    if missing := [name for name in ("ip", "tc", "unshare", "mount") if shutil.which(name) is None]:
        return f"there is no `{missing[0]}` here"
    if os.geteuid() != 0:
        return "it takes root's rights"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "ip", "link", "add", "type", "veth"], capture_output=True, text=True
    )
    return tried.stderr.strip() or "network namespaces are not allowed" if tried.returncode else None


def enter() -> bool:
    """Start this process once more where there can be machines; return whether it is there."""
    if not os.environ.get(_INSIDE) and why_not() is None:
        command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.chaos", *sys.argv[1:]]
        os.execvpe(command[0], command, {**os.environ, _INSIDE: "yes"})
    return bool(os.environ.get(_INSIDE))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine at the end of a cable."""

    name: str
    address: str

    def join(self) -> None:
        """Have the calling thread, and what it starts from now on, see only this machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (_NAMES / self.name).open() as network:
            if libc.setns(network.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"the network of {self.name} cannot be joined")

    def run(self, does: Callable[[], Answer]) -> Answer:
        """Do something on this machine, in a thread of its own."""
        with ThreadPoolExecutor(1, initializer=self.join) as thread:
            return thread.submit(does).result()

    def cut(self) -> None:
        """Cut its cable: nothing arrives any more, and nobody is told."""
        _ip("link", "set", self._socket, "down")

    def slow(self) -> None:
        """Let little through its cable, both ways. Raises `CalledProcessError` where the system cannot."""
        self._let_through("add", "root", "tbf", *_SLOW)

    def mend(self) -> None:
        """Make its cable whole."""
        _ip("link", "set", self._socket, "up")
        with contextlib.suppress(subprocess.CalledProcessError):  # it was not slow
            self._let_through("del", "root")

    def _let_through(self, change: str, *how: str) -> None:
        """Change what either end of its cable lets through."""
        _run("tc", "qdisc", change, "dev", self._socket, *how)
        _run("tc", "-n", self.name, "qdisc", change, "dev", "eth0", *how)

    @property
    def _socket(self) -> str:
        """The other end of its cable."""
        return f"to-{self.name}"


@dataclass
class Network:
    """Machines that reach each other, and this process, through one switch."""

    machines: list[Machine] = field(default_factory=list)
    _free: list[Machine] = field(default_factory=list)

    def __post_init__(self) -> None:
        _NAMES.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "none", str(_NAMES))
        _prepare(None)
        _ip("link", "add", "switch", "type", "bridge")
        _ip("address", "add", f"{ANSWERS_HERE}/24", "dev", "switch")
        _ip("link", "set", "switch", "up")

    def new_machine(self) -> Machine:
        """Add a machine."""
        number = len(self.machines) + 2
        machine = Machine(f"m{number}", f"127.77.0.{number}")
        _ip("netns", "add", machine.name)
        _ip("link", "add", f"to-{machine.name}", "type", "veth", "peer", "name", "eth0", "netns", machine.name)
        _ip("link", "set", f"to-{machine.name}", "master", "switch", "up")
        _prepare(machine)
        _ip("-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "eth0")
        _ip("-n", machine.name, "link", "set", "eth0", "up")
        self.machines.append(machine)
        return machine

    def take(self) -> Machine:
        """Return a machine on which nothing runs."""
        return self._free.pop() if self._free else self.new_machine()

    def give_back(self, machine: Machine) -> None:
        """Say that nothing runs on a machine any more."""
        self._free.append(machine)


def _prepare(machine: Machine | None) -> None:
    """Let addresses of 127.0.0.0/8 go through cables."""
    inside = () if machine is None else ("-n", machine.name)
    _ip(*inside, "link", "set", "lo", "up")
    # all of 127.0.0.0/8 is "this machine" until its own address is the only one
    _ip(*inside, "address", "del", "127.0.0.1/8", "dev", "lo")
    _ip(*inside, "address", "add", "127.0.0.1/32", "dev", "lo")

    def allow() -> None:
        for interfaces in ("all", "default"):
            Path(f"/proc/sys/net/ipv4/conf/{interfaces}/route_localnet").write_text("1")

    allow() if machine is None else machine.run(allow)


@contextmanager
def small_disk(folder: Path, mebibytes: int, owner: int) -> Iterator[None]:
    """Have a folder on a disk of its own, which is full after so many MiB."""
    _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,uid={owner},mode=700", "none", str(folder))
    try:
        yield
    finally:
        _run("umount", "--lazy", str(folder))


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
