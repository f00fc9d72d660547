"""The worker process: reads work from standard input, does it under limits, and writes the answer.

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

from connectors.isolation.work import ClassName, Raised, Work, class_of, packed, perform

LENGTH = struct.Struct(">I")
READY = b"ready"
IMPORT_SECONDS = 60.0


def main() -> None:
    """Serve work until standard input ends. Arguments: seconds of processor time, seconds in all, bytes of memory."""
    processor, in_all, memory = float(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a plugin prints must not be taken for an answer
    _bound_memory(memory)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the host ends its workers itself
    _write(answers, READY)
    while body := _read(sys.stdin.buffer):
        answer = _answer(body, processor, in_all)
        _time(0, 0)
        _write(answers, answer)


def _answer(body: bytes, processor: float, in_all: float) -> bytes:
    pieces = io.BytesIO(body)
    name: ClassName = pickle.load(pieces)  # noqa: S301 - the host wrote it
    # what a plugin imports is imported once, and is nothing that somebody sent
    _time(IMPORT_SECONDS, IMPORT_SECONDS)
    try:
        connector_class = class_of(name)
        work: Work = pickle.load(pieces)  # noqa: S301
    except Exception as error:  # noqa: BLE001 - the host could import it, so it will say what is wrong
        return packed(Raised(type(error).__name__, f"the worker cannot import {name.module}.{name.qualname}"))
    _time(processor, in_all)
    return packed(perform(work, connector_class))


def _time(processor: float, in_all: float) -> None:
    """Begin (or with 0, end) the time for one piece of work; when it is over, the system ends this process."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, processor)
        signal.setitimer(signal.ITIMER_REAL, in_all)


def _bound_memory(most: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _read(source: BinaryIO) -> bytes:
    head = source.read(LENGTH.size)
    return source.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else b""


def _write(target: BinaryIO, body: bytes) -> None:
    target.write(LENGTH.pack(len(body)) + body)
    target.flush()


if __name__ == "__main__":
    main()
