"""`python -m tests.chaos`: a run under fire, with one line for each law at the end.

Exit code 1 where a law is broken, unless the run proves nothing because the machine was too busy for it.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import sys
import tempfile
from pathlib import Path

from tests import machines
from tests.chaos.fault_run import FaultRun, Profile


def main() -> int:
    """Run a profile and say what became of the laws."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long everything fails")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hosts", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=1000, help="at most")
    parser.add_argument("--sales", type=int, default=100_000, help="at most")
    parser.add_argument("--pause", type=float, default=0.04, help="seconds between what cashiers do")
    parser.add_argument("--steady-clock", action="store_true", help="leave the database server's clock alone")
    parser.add_argument("--logs", type=Path, help="keep what members wrote here")
    chosen = vars(parser.parse_args())
    logs = chosen.pop("logs")
    faulthandler.enable()  # one that is aborted, because it takes too long, says where it stands
    profile = Profile(**chosen, machines=machines.enter())
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(FaultRun(profile, Path(folder)).run())
    if logs:
        logs.write_text(report.logs)
    print(f"seed {profile.seed}: " + ", ".join(f"{number:,} {what}" for what, number in sorted(report.counts.items())))
    if not profile.machines:
        print(f"no cable was cut and no disk filled: {machines.why_not()}")
    if not report.counts["clock steps"] and not profile.steady_clock:
        print("the database server's clock was left alone: `apt-get install faketime` lets it be put forward and back")
    print(f"quiet after {report.settled_after:.0f} s; stood still for {report.longest_stall:.1f} s at most")
    for law, breaks in report.broken.items():
        print(f"{'✗' if breaks else '✓'} {law}")
        for line in breaks[:10]:
            print(f"    {line}")
        if len(breaks) > 10:
            print(f"    and {len(breaks) - 10} more")
    if not report.proves:
        print("This proves nothing: 7stamp, which stands in this process, acted later than it promises. Run it again.")
    return 0 if report.holds or not report.proves else 1


if __name__ == "__main__":
    sys.exit(main())
