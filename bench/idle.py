"""Measures `connectors serve` when nothing happens: start, memory, and share of a core with one connection."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.processes import origin_in, run, started, wait_ready

SECONDS = 20.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time a process has used, its own and the kernel's for it, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    """Return the memory a process holds, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    """Connect a till of the sandbox, serve, let it settle, and print what the host costs."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)

        def sandbox(which: str) -> str:
            log = folder / f"{which}.log"
            stack.enter_context(started(["sandbox", which], {}, log, fresh=True))
            return origin_in(log)

        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sandbox("sevenstamp"),
            "POSTER_API_URL": f"{sandbox('poster')}/api",
        }
        token = "access_token=861052:02391570ff9af128e93c5a771055ba88"
        added = run(["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_idle", "--set", token], env)
        assert added.returncode == 0, added.stderr
        began = time.perf_counter()
        host = stack.enter_context(started(["serve", "--port", "0"], env, folder / "host.log", fresh=True))
        wait_ready(origin_in(folder / "host.log"))
        ready = time.perf_counter() - began
        time.sleep(5)
        before = cpu_seconds(host.pid)
        time.sleep(SECONDS)
        share = (cpu_seconds(host.pid) - before) / SECONDS * 100
        print(f"idle: ready after {ready:.2f} s, {resident_mib(host.pid):.0f} MiB, {share:.2f} % of a core")


if __name__ == "__main__":
    main()
