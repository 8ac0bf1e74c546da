"""Requests wait in a line for the one thread that matches; each is told how many are before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from s2ld.web.limits import BUSY, Refused

Result = TypeVar("Result")
Tell = Callable[[str], None]
"""Takes the name of the step that begins."""


@dataclass(frozen=True)
class Waiting:
    """The request has not begun."""

    before: int
    """Requests that come first, with the one that is worked on."""


@dataclass(frozen=True)
class Step:
    """The request is worked on."""

    name: str


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The request is done."""

    result: Result


class Line:
    """One thread, and a bounded number of requests that wait for it in the order in which they came.

    All methods are called in the thread of the event loop.
    """

    def __init__(self, most: int) -> None:
        """Make a line for at most `most` requests."""
        self._most = most
        self._taken = 0
        self._busy = False
        self._waiting: list[asyncio.Queue[Waiting | Step | None]] = []
        self._thread = ThreadPoolExecutor(1, "matching")

    @property
    def length(self) -> int:
        """Requests that wait or are worked on."""
        return len(self._waiting) + self._busy

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Hold one of the places, from before an upload begins to after its answer.

        Raises:
            Refused: all are taken.
        """
        if self._taken >= self._most:
            raise Refused(BUSY, f"{self._most} requests are here already; try again in a minute")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def follow(self, work: Callable[[Tell], Result]) -> AsyncIterator[Waiting | Step | Done[Result]]:
        """Let the thread do `work` when its turn comes; yields what happens, at last `Done`.

        Who stops listening before it has begun leaves the line. Raises what `work` raises.
        """
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[Waiting | Step | None] = asyncio.Queue()

        def run() -> Result:
            loop.call_soon_threadsafe(self._begin, news)
            try:
                return work(lambda name: tell(Step(name)))
            finally:
                loop.call_soon_threadsafe(self._end)

        def tell(item: Step | None) -> None:
            loop.call_soon_threadsafe(news.put_nowait, item)

        job = self._thread.submit(run)
        self._waiting.append(news)
        news.put_nowait(Waiting(self.length - 1))
        job.add_done_callback(lambda _: tell(None))
        try:
            while (item := await news.get()) is not None:
                yield item
            yield Done(job.result())
        finally:
            if job.cancel() and news in self._waiting:
                self._waiting.remove(news)
                self._tell_places()

    async def run(self, work: Callable[[Tell], Result]) -> Result:
        """Return what `work` returns; see `follow`."""
        async for item in self.follow(work):
            if isinstance(item, Done):
                return item.result
        raise AssertionError("a line ends with Done")

    def close(self) -> None:
        """End the thread; who waits is cancelled."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, news: asyncio.Queue[Waiting | Step | None]) -> None:
        self._busy = True
        if news in self._waiting:
            self._waiting.remove(news)
        self._tell_places()

    def _end(self) -> None:
        self._busy = False

    def _tell_places(self) -> None:
        for place, news in enumerate(self._waiting):
            news.put_nowait(Waiting(place + self._busy))
