"""What `connectors serve` costs when nothing happens: start, memory, and share of a core with one connection."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

SECONDS = 20.0
COMMAND = [sys.executable, "-m", "connectors"]


def origin_in(log: Path) -> str:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if "isten" in line and "http://" in line:
                return "http://" + line.split("http://")[1].split()[0]
        time.sleep(0.01)
    raise SystemExit(log.read_text())


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, processes = Path(name), []

        def start(*arguments: str, env: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
            log = folder / f"{arguments[0]}-{len(processes)}.log"
            with log.open("wb") as out:
                process = subprocess.Popen([*COMMAND, *arguments], env=env, stdout=out, stderr=out)
            processes.append(process)
            return process, origin_in(log)

        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        try:
            _, sevenstamp = start("sandbox", "sevenstamp", env=env)
            _, till = start("sandbox", "poster", env=env)
            env |= {
                "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
                "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
                "POSTER_API_URL": f"{till}/api",
            }
            token = "access_token=861052:02391570ff9af128e93c5a771055ba88"
            add = ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_idle", "--set", token]
            subprocess.run([*COMMAND, *add], env=env, check=True, capture_output=True)
            began = time.perf_counter()
            host, origin = start("serve", "--port", "0", env=env)
            while True:
                try:
                    if httpx.get(f"{origin}/readyz", trust_env=False).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.01)
            ready = time.perf_counter() - began
            time.sleep(5)
            before = cpu_seconds(host.pid)
            time.sleep(SECONDS)
            share = (cpu_seconds(host.pid) - before) / SECONDS * 100
            print(f"idle: ready after {ready:.2f} s, {resident_mib(host.pid):.0f} MiB, {share:.2f} % of a core")
        finally:
            for process in processes:
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
