"""Requests in a line: order, places, steps, leaving, and no more than there is room for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from s2ld.errors import S2LDError
from s2ld.web.limits import Refused
from s2ld.web.line import Done, Line, Step, Tell, Waiting


def in_line(body: Callable[[Line], Awaitable[None]], most: int = 4) -> None:
    async def run() -> None:
        line = Line(most)
        try:
            await body(line)
        finally:
            line.close()

    asyncio.run(run())


async def listed(line: Line, work: Callable[[Tell], Any], to: list[Any]) -> None:
    async for item in line.follow(work):
        to.append(item)  # noqa: PERF401 (what came is looked at before the end)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


def test_who_comes_alone_begins_at_once_and_hears_its_steps() -> None:
    async def body(line: Line) -> None:
        heard: list[Any] = []

        def work(tell: Tell) -> int:
            tell("reading")
            tell("matching")
            return 7

        await listed(line, work, heard)
        assert heard == [Waiting(0), Step("reading"), Step("matching"), Done(7)]
        assert line.length == 0
        assert await line.run(lambda _: 8) == 8

    in_line(body)


def test_later_ones_wait_in_order_and_hear_when_they_move_up() -> None:
    async def body(line: Line) -> None:
        gate, order = threading.Event(), []

        def first(_: Tell) -> None:
            gate.wait()
            order.append(0)

        heard: list[list[Any]] = [[], [], []]
        works = [first, lambda _: order.append(1), lambda _: order.append(2)]
        tasks = []
        for work, to in zip(works, heard, strict=True):
            tasks.append(asyncio.ensure_future(listed(line, work, to)))
            await until(lambda to=to: bool(to))
        await until(lambda: line.length == 3)
        gate.set()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]
        assert [to[0].before for to in heard] == [0, 1, 2]
        places = [item.before for item in heard[2] if isinstance(item, Waiting)]
        assert places == sorted(places, reverse=True)
        assert places[-1] <= 1

    in_line(body)


def test_who_stops_listening_leaves_and_those_behind_move_up() -> None:
    async def body(line: Line) -> None:
        gate, done = threading.Event(), []
        heard: list[list[Any]] = [[], [], []]
        works = [lambda _: gate.wait(), lambda _: done.append("left"), lambda _: done.append("stayed")]
        tasks = [asyncio.ensure_future(listed(line, work, to)) for work, to in zip(works, heard, strict=True)]
        await until(lambda: len(heard[2]) >= 1 and line._busy)
        tasks[1].cancel()
        await until(lambda: line.length == 2)
        gate.set()
        await asyncio.gather(tasks[0], tasks[2])
        assert done == ["stayed"]
        assert Waiting(1) in heard[2]

    in_line(body)


def test_an_error_of_the_work_comes_out_and_the_next_one_is_served() -> None:
    async def body(line: Line) -> None:
        def wrong(_: Tell) -> None:
            raise S2LDError("a.jpg: no image")

        with pytest.raises(S2LDError, match=r"a\.jpg"):
            await line.run(wrong)
        assert await line.run(lambda _: 1) == 1

    in_line(body)


def test_more_than_there_are_seats_are_refused_until_one_goes() -> None:
    async def body(line: Line) -> None:
        with line.seat(), line.seat():
            with pytest.raises(Refused, match="2 requests are here already; try again") as refused, line.seat():
                pass
            assert refused.value.status == 503
        with line.seat():
            pass

    in_line(body, most=2)
