"""The order in which pairs are drawn, a function of the number drawn before: a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler


class StepBatchSampler(Sampler[list[int]]):
    """Endless batches of consecutive indices, dealt to the processes in turn.

    Micro-step j of all `world` processes together draws the indices ``start + [j B world, (j + 1) B world)``,
    of which process `rank` takes the rank-th B. No pair is drawn twice and none is left out, at any world size.

    Args:
        batch_size: B, pairs a process and micro-step.
        rank: this process, of `world`.
        world: number of processes.
        start: pairs that an earlier part of the run has drawn (all processes together).
    """

    def __init__(self, batch_size: int, rank: int = 0, world: int = 1, start: int = 0) -> None:
        self.batch_size = batch_size
        self.rank = rank
        self.world = world
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        first = self.start + self.rank * self.batch_size
        while True:
            yield list(range(first, first + self.batch_size))
            first += self.batch_size * self.world


class StridedSampler(Sampler[int]):
    """The fixed indices of a validation or a test: ``rank, rank + world, ...`` below `length`, never padded."""

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self._indices = range(rank, length, world)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
