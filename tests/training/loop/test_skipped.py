"""A training on MegaDepth's form with bad files: named, skipped, counted, and in step on all processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tiny_runs import tiny_config, write_tiny
from torch.utils.data import get_worker_info

from s2ld.cli.train.train import main
from s2ld.config import build_config
from s2ld.data.index.files import read_indices
from s2ld.data.skipping import SkippingPairs
from s2ld.data.sources.by_name import build_mixture
from s2ld.data.sources.homography_pairs import HomographyPairs
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError
from s2ld.training.loop.run import TrainResult

ROOT = Path(__file__).parents[3]
COUNT = "train/skipped_pairs"
NO_VALIDATION = ["DATA.VAL_SOURCES", "[]"]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    small = ["DATA.IMAGE_SIZE", "[64, 64]", "DATA.SYNTHETIC.TEXTURE_SIDE", "32", "DATA.SYNTHETIC.SUPERSAMPLE", "1"]
    write_megadepth(folder, build_config([], small).DATA, seed=1, scenes=2, views=5)
    return folder


@pytest.fixture
def scenes(pristine: Path, tmp_path: Path) -> Path:
    """A folder of two scenes whose files may be broken."""
    for file in pristine.rglob("*.*"):
        copy = tmp_path / "data" / file.relative_to(pristine)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path / "data"


def keys(scenes: Path) -> list[str]:
    return [
        *("DATA.TRAIN_SOURCES", "['megadepth']", "DATA.VAL_SOURCES", "['megadepth']", "DATA.VAL_PAIRS", "0"),
        *("DATA.MEGADEPTH.ROOT", str(scenes), "DATA.MEGADEPTH.INDEX", str(scenes / "index")),
        *("DATA.MEGADEPTH.PAIRS_PER_SCENE", "7", "DATA.MEGADEPTH.CACHE_MB", "0"),
        *("TRAIN.MAX_STEPS", "6", "TRAIN.VALIDATE_EVERY", "6", "TRAIN.CHECKPOINT_EVERY", "3"),
    ]


def run(folder: Path, scenes: Path, *arguments: str) -> TrainResult:
    return main([str(write_tiny(folder)), "--accelerator", "cpu", *keys(scenes), *arguments])


def break_three(scenes: Path) -> dict[str, str]:
    """Lose an image, cut one off, write a depth map of another size; return what is said of each file."""
    lost, cut, depth = (
        scenes / "synthetic_0000/images/000.jpg",
        *(scenes / "synthetic_0001" / name for name in ("images/001.jpg", "depths/003.h5")),
    )
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:300])
    with h5py.File(depth, "w") as file:
        file["depth"] = np.ones((32, 64), np.float32)
    return {str(lost): "no such image", str(cut): "not an image", str(depth): "of shape (32, 64)"}


def expected_count(folder: Path, scenes: Path, lanes: int, pairs: int) -> int:
    source = SkippingPairs(build_mixture(tiny_config(folder, *keys(scenes)), lanes))
    return sum(len(source[index].skipped) for index in range(pairs))


def test_bad_files_are_named_skipped_and_counted(scenes: Path, tmp_path: Path, told: list[str]) -> None:
    bad = break_three(scenes)
    expected = expected_count(tmp_path, scenes, 2, 12)
    assert expected > 3
    result = run(tmp_path, scenes, "--output", str(tmp_path / "whole"))
    assert result.steps == 6
    assert result.metrics[COUNT] == expected
    assert 0 <= result.metrics["val/score"] <= 1
    for file, reason in bad.items():
        scene = Path(file).parts[-3]
        (line,) = [line for line in told if f"WARNING: skipped {file}: " in line]  # once, although met in several pairs
        assert reason in line
        assert f"(scene {scene}, pair ({scene}/images/" in line
    indices = read_indices(scenes / "index")
    total = sum(len(index) for index in indices)
    unread = sum(_touches(index, pair, scenes, set(bad)) for index in indices for pair in index.pairs)
    assert any(f"megadepth ({unread} of {total} pairs could not be read) matches" in line for line in told)
    assert any(f"{expected} pairs could not be read and were skipped" in line for line in told)


def _touches(index: Any, pair: Any, scenes: Path, bad: set[str]) -> bool:
    paths = [str(scenes / str(part[image])) for image in pair for part in (index.image_paths, index.depth_paths)]
    return not bad.isdisjoint(paths)


def test_a_validation_source_without_a_readable_pair_does_not_count(
    scenes: Path, tmp_path: Path, told: list[str]
) -> None:
    for photo in (scenes / "synthetic_0001/images").iterdir():
        photo.unlink()
    (tmp_path / "val.txt").write_text("synthetic_0001")
    sources = ["DATA.TRAIN_SOURCES", "['homography']", "DATA.VAL_SOURCES", "['megadepth', 'homography']"]
    few = ["DATA.MEGADEPTH.VAL_SCENES", str(tmp_path / "val.txt"), "DATA.VAL_PAIRS", "3", "TRAIN.MAX_STEPS", "3"]
    result = run(tmp_path, scenes, "--output", str(tmp_path / "run"), *sources, *few, "TRAIN.VALIDATE_EVERY", "3")
    assert result.metrics["val/score"] == pytest.approx(result.metrics["val_homography/score"])
    assert not any(name.startswith("val_megadepth") for name in result.metrics)
    assert any("megadepth (3 of 3 pairs could not be read)" in line for line in told)


def test_counting_goes_on_after_a_resume(scenes: Path, tmp_path: Path) -> None:
    break_three(scenes)
    output = ["--output", str(tmp_path / "run")]
    assert run(tmp_path, scenes, *output, "TRAIN.MAX_STEPS", "3").metrics[COUNT] == expected_count(
        tmp_path, scenes, 2, 6
    )
    rest = run(tmp_path, scenes, *output, "--resume", "auto")
    assert rest.steps == 6
    assert rest.metrics[COUNT] == expected_count(tmp_path, scenes, 2, 12)


def test_a_run_that_is_to_stop_names_scene_pair_and_file(scenes: Path, tmp_path: Path) -> None:
    break_three(scenes)
    with pytest.raises(S2LDError, match=r"^\S+/data/synthetic_\S+: .* \(scene \w+, pair \(\S+, \S+\)\)$"):
        run(tmp_path, scenes, "--output", str(tmp_path / "run"), "DATA.ON_BAD_PAIR", "stop")


def test_two_processes_of_which_one_meets_bad_pairs(scenes: Path, tmp_path: Path) -> None:
    """With two lanes each process has a scene of its own."""
    (scenes / "synthetic_0001/images/002.jpg").unlink()
    arguments = ["--accelerator", "cpu", "--devices", "2", "--output", str(tmp_path / "two"), "DATA.BATCH_SIZE", "1"]
    command = [sys.executable, "train.py", str(write_tiny(tmp_path)), *keys(scenes), *arguments, *NO_VALIDATION]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (named,) = [line for line in done.stderr.splitlines() if " skipped " in line and "could not" not in line]
    assert re.search(r"warning: (process 1: )?skipped \S+/synthetic_0001/images/002\.jpg: no such image", named)
    count = torch.load(tmp_path / "two/last.ckpt", weights_only=True)["callbacks"]["SkippedPairs"]["total"]
    assert count == expected_count(tmp_path, scenes, 2, 12) > 0


def test_a_loader_process_that_is_killed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: Any) -> Any:
        assert get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(HomographyPairs, "__getitem__", killed)
    with pytest.raises(S2LDError, match=r"^a loader process was killed, .*lower DATA\.WORKERS"):
        main([str(write_tiny(tmp_path)), "--accelerator", "cpu", "--fast-dev-run", "DATA.WORKERS", "1"])
