"""The worker process: reads calls from standard input, makes them under limits, and writes their results.

Owns the limits that only the process itself can hold. They are the operating system's (a timer whose signal ends the
process, a bound on memory), so they hold also where a connector is within one long call of C code, as `re` is.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import struct
import sys
from typing import BinaryIO

from connectors.isolation.calls import Call, ClassReference, Crashed, load_class, make_call, pack_result

LENGTH = struct.Struct(">I")
"""What stands before each message, in both directions: its length in bytes."""
READY = b"ready"
"""The first message of a worker, once it can be sent calls."""
IMPORT_SECONDS = 60.0
"""How long importing a connector may take; it is no offence, for nobody who sends something has a part in it."""


def main() -> None:
    """Serve calls until standard input ends. Arguments: seconds of processor time, seconds in all, bytes of memory."""
    processor_seconds, total_seconds, memory = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    # standard output is for results alone: the descriptor is kept here, and what prints goes where errors go
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _bound_memory(memory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host ends its workers itself
    _write(results, READY)
    while message := _read(sys.stdin.buffer):
        result = _serve(message, processor_seconds, total_seconds)
        _set_timers(0, 0)
        _write(results, result)


def _serve(message: bytes, processor_seconds: float, total_seconds: float) -> bytes:
    """Make the call of a message and return its packed result.

    A message is two pickles: the class, and the call. The class comes first and by itself, for unpickling the call
    imports what the plugin's settings are made of; importing has its own time, and the call's begins after it.
    """
    pickles = io.BytesIO(message)
    reference: ClassReference = pickle.load(pickles)  # noqa: S301 - the host wrote it
    _set_timers(IMPORT_SECONDS, IMPORT_SECONDS)
    try:
        connector_class = load_class(reference)
        call: Call = pickle.load(pickles)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - the host could import it, so it will say what is wrong
        where = f"the worker cannot import {reference.module}.{reference.qualname}"
        return pack_result(Crashed(type(error).__name__, where))
    _set_timers(processor_seconds, total_seconds)
    return pack_result(make_call(call, connector_class))


def _set_timers(processor_seconds: float, total_seconds: float) -> None:
    """Begin (or with 0, end) the time for one call; when it is over, the system ends this process.

    Neither signal has a handler: a handler would be Python's, and would wait for the C code to return.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, processor_seconds)
        signal.setitimer(signal.ITIMER_REAL, total_seconds)


def _bound_memory(most: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    # of data, not of addresses: an interpreter with its libraries maps far more than it uses
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _read(source: BinaryIO) -> bytes:
    """Read one message; empty where the other side has closed."""
    head = source.read(LENGTH.size)
    return source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _write(target: BinaryIO, message: bytes) -> None:
    target.write(LENGTH.pack(len(message)) + message)
    target.flush()


if __name__ == "__main__":
    main()
