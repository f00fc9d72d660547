"""The worker processes: few of them, begun when there are calls, ended when a connector exceeds its limits.

Owns whose turn it is. Calls wait in a queue for each tenant and the queues take turns, one tenant never has two calls
running, and one connector never has all workers: whoever sends the worst delays only what is their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import sys
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

from connectors.isolation.calls import Call, ClassReference, Result
from connectors.isolation.worker import IMPORT_SECONDS, LENGTH, READY

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_IDLE_SECONDS = 600.0
_LONGEST_RESULT = 32 * 1024 * 1024
_ENVIRONMENT = frozenset("PATH HOME LANG TZ TMPDIR TEMP SYSTEMROOT LD_LIBRARY_PATH VIRTUAL_ENV".split())
"""What a worker has of the host's environment: nothing in which there may be a secret."""
# Windows knows neither signal: no exit code is equal to these there
_TIMER_SIGNALS = (-getattr(signal, "SIGPROF", 27), -getattr(signal, "SIGALRM", 14))
"""The exit codes of a process that the system ended when its time was over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call may cost, and how many wait.

    `processor_seconds` are of computing, `seconds` of waiting too (a busy machine is nobody's fault), `memory` is a
    worker's in bytes; `workers` run at once; `waiting` calls wait at most for one tenant, `waiting_in_all` for all.
    """

    processor_seconds: float = 2.0
    seconds: float = 10.0
    memory: int = 1024 * 1024 * 1024
    workers: int = 2
    waiting: int = 16
    waiting_in_all: int = 256


class CallFailed(Exception):
    """A connector's own code gave no answer: it was cut off, was not called, or raised what it must not."""


class LimitExceeded(CallFailed):
    """A connector exceeded a limit and was cut off; `why` is a short phrase."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class QueueFull(CallFailed):
    """Too many calls wait already: try again later."""


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, limits: Limits) -> _Worker:
        """Begin a process and wait until it is ready. Raises `RuntimeError` where it does not get there."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "connectors.isolation.worker",
            *(str(limit) for limit in (limits.processor_seconds, limits.seconds, limits.memory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a plugin's prints are nobody's log
            env=_worker_environment(),
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(_START_SECONDS):
                is_ready = await worker._read() == READY
        except (asyncio.IncompleteReadError, TimeoutError):
            is_ready = False
        # no offence: a process that does not begin says nothing of any connector
        if not is_ready:
            await worker.end()
            raise RuntimeError("a worker process did not start")
        return worker

    @property
    def lives(self) -> bool:
        """Whether the process has not ended meanwhile, by whatever hand."""
        return self._process.returncode is None

    async def exchange(self, message: bytes, seconds: float) -> bytes:
        """Send a call and wait for its result. Raises `LimitExceeded`; the process is then no longer of use."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("a worker process has no standard input")
        try:
            async with asyncio.timeout(seconds):
                # the worker has its own timers, which end it sooner; this is for one that stops them, or sleeps
                stdin.write(LENGTH.pack(len(message)) + message)
                await stdin.drain()
                return await self._read()
        except TimeoutError:
            raise LimitExceeded("it did not answer in time") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            timed_out = await self._exit_code() in _TIMER_SIGNALS
            raise LimitExceeded("it computed for too long" if timed_out else "it ended its process") from None

    async def _exit_code(self) -> int:
        """Return how the process ended; one that only closed its pipes is ended now."""
        try:
            async with asyncio.timeout(1):
                return await self._process.wait()
        except TimeoutError:
            await self.end()
            return 0

    async def _read(self) -> bytes:
        """Read one message. Raises `LimitExceeded` where it is too long, `IncompleteReadError` at the end."""
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("a worker process has no standard output")
        length = LENGTH.unpack(await stdout.readexactly(LENGTH.size))[0]
        if length > _LONGEST_RESULT:
            raise LimitExceeded("its answer is too long")
        return await stdout.readexactly(length)

    async def end(self) -> None:
        """Kill the process, if it still runs, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _worker_environment() -> dict[str, str]:
    """Return a worker's environment: no secrets, and the host's own import path."""
    environment = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}
    environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return environment


@dataclass(slots=True, eq=False)
class _QueuedCall:
    """A call whose turn comes; `result` is what its caller waits for."""

    tenant: str
    connector: str
    message: bytes
    result: asyncio.Future[Result]

    def fail(self, error: CallFailed) -> None:
        """Let the caller know, unless it has gone."""
        if not self.result.done():
            self.result.set_exception(error)


class WorkerPool:
    """Makes calls in worker processes, fairly.

    A call goes through four hands: `call` puts it in its tenant's queue, `_start_calls` takes it out when its tenant's
    turn comes and a worker may be had, `_run` gives its caller what came of it, and `_exchange` finds the worker. A
    queue exists only while something waits in it, and the tenant that was served goes behind all others.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: OrderedDict[str, deque[_QueuedCall]] = OrderedDict()
        """By tenant, the one whose turn is next first."""
        self._running: dict[str, asyncio.Task[None]] = {}
        """By tenant."""
        self._running_by_connector: Counter[str] = Counter()
        self._idle: list[tuple[_Worker, asyncio.TimerHandle]] = []
        """Workers without a call, each with the timer that ends it."""
        self._ending: set[asyncio.Task[None]] = set()

    async def call(self, tenant: str, reference: ClassReference, call: Call) -> Result:
        """Make a call for a tenant when its turn comes. Raises `CallFailed`, `LimitExceeded`, `QueueFull`."""
        # pickled at once: what the call holds may change while it waits, and one that cannot be sent takes no place
        message = _pack(reference, call)
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= self._limits.waiting:
            raise QueueFull("too much waits to be read")
        if sum(len(other) for other in self._queues.values()) >= self._limits.waiting_in_all:
            self._make_room(queue)
        queued = _QueuedCall(tenant, reference.connector, message, asyncio.get_running_loop().create_future())
        queue.append(queued)
        self._start_calls()
        return await queued.result

    def refuse_queued(self, tenant: str) -> None:
        """Let whoever waits with a call for a tenant try again later."""
        for queued in self._queues.pop(tenant, ()):
            queued.fail(QueueFull("what came before it took too long"))

    def _make_room(self, queue: deque[_QueuedCall]) -> None:
        """Have the longest queue give up its newest call, unless it is hardly longer than the one that asks."""
        longest = max(self._queues.values(), key=len)
        if len(longest) <= len(queue) + 1:
            raise QueueFull("too much waits to be read")
        longest.pop().fail(QueueFull("too much waits to be read"))

    def _start_calls(self) -> None:
        """Begin as many calls as there are workers for, one tenant's after another's."""
        # the order of the queues is whose turn it is; starting one moves it to the end, hence the copy
        for tenant in list(self._queues):
            self._drop_abandoned(tenant)
            if len(self._running) >= self._limits.workers:
                return
            if tenant in self._queues and self._may_run(tenant):
                self._start_next(tenant)

    def _drop_abandoned(self, tenant: str) -> None:
        """Forget calls at the head of a queue whose callers have gone, and the queue with its last call."""
        queue = self._queues[tenant]
        while queue and queue[0].result.done():
            queue.popleft()
        if not queue:
            del self._queues[tenant]

    def _may_run(self, tenant: str) -> bool:
        """Tell whether a tenant's next call may begin: it has none running, and its connector leaves a worker free."""
        # a connector that hangs must leave a worker to the others
        most = max(1, self._limits.workers - 1)
        connector = self._queues[tenant][0].connector
        return tenant not in self._running and self._running_by_connector[connector] < most

    def _start_next(self, tenant: str) -> None:
        queued = self._queues[tenant].popleft()
        self._queues.move_to_end(tenant)
        self._running_by_connector[queued.connector] += 1
        self._running[tenant] = asyncio.create_task(self._run(queued), name=f"work for {queued.connector}")

    async def _run(self, queued: _QueuedCall) -> None:
        """Make a call and let its caller have the result."""
        try:
            result = await self._exchange(queued.message)
        except CallFailed as error:
            queued.fail(error)
        except Exception as error:  # no process could be begun, or its result cannot be read
            log.exception("a worker gave no answer: %s", type(error).__name__)
            queued.fail(CallFailed(f"no worker: {type(error).__name__}"))
        else:
            if not queued.result.done():
                queued.result.set_result(result)
        finally:
            self._finish(queued)

    def _finish(self, queued: _QueuedCall) -> None:
        """Free a call's place, whatever became of it."""
        self._running_by_connector[queued.connector] -= 1
        self._running_by_connector += Counter()  # drops those at zero
        del self._running[queued.tenant]
        if not queued.result.done():
            queued.result.cancel()
        # whoever waited for this result goes first: it may refuse what else waits for the tenant
        asyncio.get_running_loop().call_soon(self._start_calls)

    async def _exchange(self, message: bytes) -> Result:
        """Send a call to a worker, which is used again only if it answered."""
        worker = await self._take_worker()
        try:
            packed = await worker.exchange(message, self._limits.seconds + IMPORT_SECONDS)
        except BaseException:
            # cancelled too: the process may be in the middle of the call, and its answer would be the next one's
            self._end(worker)
            raise
        timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, worker)
        self._idle.append((worker, timer))
        result: Result = pickle.loads(packed)  # noqa: S301 - our own worker wrote it
        return result

    async def _take_worker(self) -> _Worker:
        """Return an idle worker that still lives, or a new one."""
        while self._idle:
            worker, timer = self._idle.pop()
            timer.cancel()
            if worker.lives:
                return worker
        return await _Worker.start(self._limits)

    def _retire(self, worker: _Worker) -> None:
        """End a worker that had no call for long."""
        self._idle = [(other, timer) for other, timer in self._idle if other is not worker]
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """End all workers and cancel whoever waits."""
        running = list(self._running.values())
        # running calls first: a cancelled one ends its worker, one that was just done leaves its worker among the idle
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for queue in self._queues.values():
            for queued in queue:
                queued.result.cancel()
        for worker, timer in self._idle:
            timer.cancel()
            self._end(worker)
        self._idle.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)


def _pack(reference: ClassReference, call: Call) -> bytes:
    """Pickle a call for a worker, its class before it. Raises `CallFailed` where it cannot be pickled."""
    try:
        return pickle.dumps(reference) + pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - what a plugin's settings are made of is its own
        raise CallFailed(
            f"what {reference.connector} needs cannot be handed to a worker: {type(error).__name__}"
        ) from None
