"""`s2ld benchmark index`: host memory of an index of MegaDepth's size over an epoch, without any photograph."""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

import psutil

from s2ld.cli.parser import Parser
from s2ld.cli.status import exit_status
from s2ld.errors import S2LDError
from s2ld.extras import need

if TYPE_CHECKING:  # these load torch, which --help need not wait for
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.utils.data import DataLoader

    from s2ld.data.sources.megadepth import MegaDepthPairs

POINTS = 5  # of an epoch at which memory is read, its beginning and end among them
BATCH = 16  # pairs a batch
IMAGES = 400  # of a scene
MB = 1e6
PATIENCE = 1800  # s until the others give a rank up that does not come to a point


@dataclass(frozen=True)
class Memory:
    """Of all processes together, at one point of the epoch, bytes."""

    drawn: int
    """Pairs drawn until then, of all ranks."""
    total: int
    """Sum of the proportional set sizes: what is shared counts once."""
    private: int
    """The part of it that no other process shares."""


def build_parser() -> Parser:
    """Return the command line's parser."""
    parser = Parser(
        "benchmark index",
        "Host memory over an epoch of a synthetic index, no photograph being read.",
        "--scenes 100 --pairs 1000000",
    )
    parser.add_argument("--scenes", type=int, default=368, help="index files (default: %(default)s)")
    parser.add_argument("--pairs", type=int, default=15_000_000, help="pairs of all scenes (default: %(default)s)")
    parser.add_argument("--ranks", type=int, default=2, help="training processes (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="loader processes a rank (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=36_800, help="pairs of an epoch (default: 100 of 368 scenes)")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="of loaders (default: %(default)s)")
    parser.add_argument("--overlap", type=float, nargs=2, default=(0.0, 1.0), help="filter (default: all pairs)")
    return parser


def main(argv: Sequence[str] | None = None) -> list[Memory]:
    """Run the command and return the host memory at `POINTS` points of the epoch.

    Raises:
        S2LDError: bad arguments, or a system that does not tell its memory (only Linux does).
    """
    arguments = build_parser().parse_args(argv)
    for name in ("scenes", "pairs", "ranks", "draws"):
        if getattr(arguments, name) < 1:
            raise S2LDError(f"--{name} must be at least 1, not {getattr(arguments, name)}")
    if arguments.workers < 0 or arguments.pairs < arguments.scenes:
        raise S2LDError("--workers must be at least 0, and --pairs at least one a scene")
    if not psutil.LINUX:
        raise S2LDError("this system does not tell which memory is shared; run it on Linux")
    need("train", "h5py")
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder), arguments.scenes, arguments.pairs)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        print(
            f"{arguments.scenes} plain index files of {arguments.pairs:,} pairs, {arguments.scenes * IMAGES:,} images: "
            f"{size / MB:.0f} MB\n{arguments.ranks} ranks (spawned) x {arguments.workers} loader processes "
            f"({arguments.start}); an epoch of {arguments.draws:,} pairs, overlap {list(arguments.overlap)}: drawn, "
            "paths and cameras read, no photograph\nsums over all processes of Pss (shared pages count once) and of "
            "its private part (Uss), by psutil",
            flush=True,
        )
        report = []
        print(f"{'pairs drawn':>12} {'memory, MB':>12} {'private, MB':>12}")
        for memory in measure(Path(folder), arguments):
            report.append(memory)
            print(f"{memory.drawn:>12,} {memory.total / MB:>12.0f} {memory.private / MB:>12.0f}", flush=True)
    growth = report[-1].private - report[1].private
    print(f"private memory from the second point to the last: {growth / MB:+.1f} MB of {report[-1].private / MB:.0f}")
    return report


def write_scenes(folder: Path, scenes: int, pairs: int) -> None:
    """Write synthetic scenes of `IMAGES` images whose pairs, `pairs` in all, are evenly spread over them."""
    import numpy as np

    from s2ld.data.index.files import SceneIndex, write_index
    from s2ld.log import Progress

    cameras = np.tile(np.array([[1000.0, 0, 800], [0, 1000, 600], [0, 0, 1]]), (IMAGES, 1, 1))
    poses = np.tile(np.eye(4), (IMAGES, 1, 1))
    counts = np.diff(np.linspace(0, pairs, scenes + 1).astype(np.int64))
    for scene, count in enumerate(Progress(counts, "write", unit="scene")):
        rng = np.random.default_rng(scene)
        names = [f"{scene:04d}/images/{image:010d}_{scene:010d}_o.jpg" for image in range(IMAGES)]
        index = SceneIndex(
            f"{scene:04d}",
            np.array([f"Undistorted_SfM/{name}" for name in names]),
            np.array([f"phoenix/S6/zl548/MegaDepth_v1/{name}".replace("images", "dense0/depths") for name in names]),
            cameras,
            poses,
            rng.integers(0, IMAGES, (count, 2), np.uint16),
            rng.random(count, np.float32),
        )
        write_index(index, folder / f"{index.name}.npz")


class Described:
    """What the index says of each pair that a source draws, as numbers: no photograph is read."""

    def __init__(self, source: MegaDepthPairs) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Tensor:
        import numpy as np
        import torch

        which, row = self.source.locate(index)
        scene = self.source.scene(which)
        images: NDArray[np.int64] = scene.pairs[row].astype(np.int64)
        letters = sum(len(str(path)) for path in (*scene.image_paths[images], *scene.depth_paths[images]))
        return torch.tensor([scene.intrinsics[images].sum(), scene.poses[images].sum(), float(letters)])


def measure(folder: Path, arguments: argparse.Namespace) -> Iterator[Memory]:
    """Start the ranks and yield the memory of all processes at each point, while every rank waits there."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arguments.ranks + 1, timeout=PATIENCE)
    of_rank = [(rank, folder, arguments, barrier) for rank in range(arguments.ranks)]
    ranks = [context.Process(target=_rank, args=args) for args in of_rank]
    for process in ranks:
        process.start()
    for point in range(POINTS):
        try:
            barrier.wait()
        except BrokenBarrierError as error:
            raise S2LDError("a rank has broken off; its own lines above say why") from error
        parents = [process.pid for process in ranks if process.pid is not None]
        sizes = [_memory(process) for process in _with_children(parents)]
        drawn = point * (arguments.draws // (POINTS - 1))  # but for what does not fill a batch
        yield Memory(drawn, sum(total for total, _ in sizes), sum(private for _, private in sizes))
        barrier.wait()
    for process in ranks:
        process.join()


def _rank(rank: int, folder: Path, arguments: argparse.Namespace, barrier: Barrier) -> None:
    """Draw this rank's share of an epoch, and stop at each point; nobody waits for a rank that breaks off."""
    try:
        _draw(rank, folder, arguments, barrier)
    except BaseException:
        barrier.abort()
        raise


def _draw(rank: int, folder: Path, arguments: argparse.Namespace, barrier: Barrier) -> None:
    import torch
    from torch.utils.data import DataLoader

    from s2ld.data.index.files import read_indices
    from s2ld.data.samplers import StepBatchSampler
    from s2ld.data.sources.megadepth import MegaDepthPairs

    torch.set_num_threads(1)
    least, most = arguments.overlap
    lanes = BATCH * arguments.ranks
    source = MegaDepthPairs(folder, read_indices(folder), 640, seed=0, overlap=(least, most), lanes=lanes)
    loader: DataLoader[Tensor] = DataLoader(
        Described(source),  # type: ignore[arg-type]  # map-style in all but its base class
        batch_sampler=StepBatchSampler(BATCH, rank, arguments.ranks),
        num_workers=arguments.workers,
        multiprocessing_context=arguments.start if arguments.workers else None,
    )
    batches = iter(loader)
    for point in range(POINTS):
        barrier.wait()
        barrier.wait()
        for _ in range(arguments.draws // lanes // (POINTS - 1) if point < POINTS - 1 else 0):
            next(batches)


def _with_children(parents: Sequence[int]) -> list[psutil.Process]:
    """Return processes and all that they have started."""
    found = [psutil.Process(pid) for pid in parents]
    return [*found, *(child for process in found for child in process.children(recursive=True))]


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Return proportional and private bytes of a process."""
    memory = process.memory_full_info()
    return memory.pss, memory.uss


def script(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (`s2ld.cli.status`)."""

    def body() -> int:
        main(argv)
        return 0

    return exit_status("s2ld benchmark index", body)
