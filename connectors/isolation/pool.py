"""The worker processes: few of them, begun when there is work, ended when a connector exceeds its limits.

Owns whose turn it is. Work waits in a queue for each tenant and the queues take turns, one tenant never has two pieces
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

from connectors.isolation.work import Answer, ClassName, Work
from connectors.isolation.worker import IMPORT_SECONDS, LENGTH, READY

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_IDLE_SECONDS = 600.0
_LONGEST_ANSWER = 32 * 1024 * 1024
_KEPT = frozenset("PATH HOME LANG TZ TMPDIR TEMP SYSTEMROOT LD_LIBRARY_PATH VIRTUAL_ENV".split())
"""What a worker has of the host's environment: nothing in which there may be a secret."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one piece of work may cost, and how many wait.

    `processor_seconds` are of computing, `seconds` of waiting too (a busy machine is nobody's fault), `memory` is a
    worker's in bytes; `workers` run at once; `waiting` pieces wait at most for one tenant, `waiting_in_all` for all.
    """

    processor_seconds: float = 2.0
    seconds: float = 10.0
    memory: int = 1024 * 1024 * 1024
    workers: int = 2
    waiting: int = 16
    waiting_in_all: int = 256


class NoAnswer(Exception):
    """A connector's own code gave no answer: it was cut off, was not asked, or raised what it must not."""


class TooSlow(NoAnswer):
    """A connector exceeded a limit and was cut off; `why` is a short phrase."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Busy(NoAnswer):
    """Too much waits already: try again later."""


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, limits: Limits) -> _Worker:
        """Begin a process and wait until it is ready. Raises `RuntimeError` where it does not get there."""
        environment = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith("LC_")}
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "connectors.isolation.worker",
            *(str(limit) for limit in (limits.processor_seconds, limits.seconds, limits.memory)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a plugin's prints are nobody's log
            env=environment,
        )
        worker = cls(process)
        try:
            async with asyncio.timeout(_START_SECONDS):
                is_ready = await worker._read() == READY
        except (asyncio.IncompleteReadError, TimeoutError):
            is_ready = False
        if not is_ready:
            await worker.end()
            raise RuntimeError("a worker process did not start")
        return worker

    @property
    def lives(self) -> bool:
        """Whether the process has not ended meanwhile, by whatever hand."""
        return self._process.returncode is None

    async def ask(self, body: bytes, seconds: float) -> bytes:
        """Hand over work and wait for its answer. Raises `TooSlow`; the process is then no longer of use."""
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("a worker process has no standard input")
        try:
            async with asyncio.timeout(seconds):
                stdin.write(LENGTH.pack(len(body)) + body)
                await stdin.drain()
                return await self._read()
        except TimeoutError:
            raise TooSlow("it did not answer in time") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._ended()
            slow = code in (-getattr(signal, "SIGPROF", 27), -getattr(signal, "SIGALRM", 14))
            raise TooSlow("it computed for too long" if slow else "it ended its process") from None

    async def _ended(self) -> int:
        """How the process ended; one that only closed its pipes is ended now."""
        try:
            async with asyncio.timeout(1):
                return await self._process.wait()
        except TimeoutError:
            await self.end()
            return 0

    async def _read(self) -> bytes:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("a worker process has no standard output")
        length = LENGTH.unpack(await stdout.readexactly(LENGTH.size))[0]
        if length > _LONGEST_ANSWER:
            raise TooSlow("its answer is too long")
        return await stdout.readexactly(length)

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@dataclass(slots=True, eq=False)
class _Waiting:
    """A piece of work whose turn comes."""

    tenant: str
    connector: str
    body: bytes
    answer: asyncio.Future[Answer]


class WorkerPool:
    """Runs work in worker processes, fairly."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._queues: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._by_connector: Counter[str] = Counter()
        self._idle: list[tuple[_Worker, asyncio.TimerHandle]] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def call(self, tenant: str, name: ClassName, work: Work) -> Answer:
        """Do work for a tenant when its turn comes. Raises `Busy`, `TooSlow`."""
        try:
            body = pickle.dumps(name) + pickle.dumps(work, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 - what a plugin's settings are made of is its own
            raise NoAnswer(
                f"what {name.connector} needs cannot be handed to a worker: {type(error).__name__}"
            ) from None
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= self._limits.waiting:
            raise Busy("too much waits to be read")
        if sum(len(other) for other in self._queues.values()) >= self._limits.waiting_in_all:
            self._make_room(queue)
        waiting = _Waiting(tenant, name.connector, body, asyncio.get_running_loop().create_future())
        queue.append(waiting)
        self._begin()
        return await waiting.answer

    def refuse_waiting(self, tenant: str) -> None:
        """Let whoever waits with work for a tenant try again later."""
        for waiting in self._queues.pop(tenant, ()):
            if not waiting.answer.done():
                waiting.answer.set_exception(Busy("what came before it took too long"))

    def _make_room(self, mine: deque[_Waiting]) -> None:
        """Have the longest queue give up its newest piece, unless it is hardly longer than the one that asks."""
        longest = max(self._queues.values(), key=len)
        if len(longest) <= len(mine) + 1:
            raise Busy("too much waits to be read")
        given_up = longest.pop()
        if not given_up.answer.done():
            given_up.answer.set_exception(Busy("too much waits to be read"))

    def _begin(self) -> None:
        """Begin as much as there are workers for, a tenant after another."""
        for tenant in list(self._queues):
            queue = self._queues[tenant]
            while queue and queue[0].answer.done():  # whoever asked has gone
                queue.popleft()
            if not queue:
                del self._queues[tenant]
                continue
            if len(self._running) >= self._limits.workers:
                return
            # a connector that hangs must leave a worker to the others
            most = max(1, self._limits.workers - 1)
            if tenant in self._running or self._by_connector[queue[0].connector] >= most:
                continue
            waiting = queue.popleft()
            self._queues.move_to_end(tenant)
            self._by_connector[waiting.connector] += 1
            self._running[tenant] = asyncio.create_task(self._run(waiting), name=f"work for {waiting.connector}")

    async def _run(self, waiting: _Waiting) -> None:
        try:
            answer = await self._ask(waiting.body)
        except NoAnswer as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        except Exception as error:  # no process could be begun, or its answer cannot be read
            log.exception("a worker gave no answer: %s", type(error).__name__)
            if not waiting.answer.done():
                waiting.answer.set_exception(NoAnswer(f"no worker: {type(error).__name__}"))
        else:
            if not waiting.answer.done():
                waiting.answer.set_result(answer)
        finally:
            self._by_connector[waiting.connector] -= 1
            self._by_connector += Counter()  # drops those at zero
            del self._running[waiting.tenant]
            if not waiting.answer.done():
                waiting.answer.cancel()
            # whoever waited for this answer goes first: it may refuse what else waits for the tenant
            asyncio.get_running_loop().call_soon(self._begin)

    async def _ask(self, body: bytes) -> Answer:
        worker = await self._worker()
        try:
            answer = await worker.ask(body, self._limits.seconds + IMPORT_SECONDS)
        except BaseException:
            self._end(worker)
            raise
        timer = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._retire, worker)
        self._idle.append((worker, timer))
        unpacked: Answer = pickle.loads(answer)  # noqa: S301 - our own worker wrote it
        return unpacked

    async def _worker(self) -> _Worker:
        while self._idle:
            worker, timer = self._idle.pop()
            timer.cancel()
            if worker.lives:
                return worker
        return await _Worker.start(self._limits)

    def _retire(self, worker: _Worker) -> None:
        self._idle = [(other, timer) for other, timer in self._idle if other is not worker]
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def aclose(self) -> None:
        """End all workers; whoever waits is told nothing."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for queue in self._queues.values():
            for waiting in queue:
                waiting.answer.cancel()
        for worker, timer in self._idle:
            timer.cancel()
            self._end(worker)
        self._idle.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)
