"""The training scripts: what they hand to train.py, under SLURM too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from s2ld.cli.evaluate.test import build_parser as build_test_parser
from s2ld.cli.items import split_items
from s2ld.cli.match.folder import build_parser as build_folder_parser
from s2ld.cli.train.train import build_parser
from s2ld.config import build_config, defaults
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import read_weights
from s2ld.processes.ddp import check_slurm
from s2ld.training.loop.optim import run_scale, schedule_factor

ROOT = Path(__file__).resolve().parents[3]
SLURM = {"SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_ID": "17"}


def record(folder: Path, names: list[str]) -> None:
    """Put programs of these names into `folder` that note their arguments and end with status $STATUS."""
    for name in names:
        program = folder / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{folder}/{name}.txt"\nexit "${{STATUS:-0}}"\n')
        program.chmod(0o755)


def run(script: str, folder: Path, *arguments: str, **environment: str) -> int:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment, "PATH": path}, check=False).returncode


def test_the_script_of_two_gpus_trains_at_640_px(tmp_path: Path) -> None:
    record(tmp_path, ["python"])
    assert run("scripts/train/train_outdoor_ds_e2e.sh", tmp_path, "--resume", "auto", "TRAIN.SEED", "1") == 0
    script, *given = (tmp_path / "python.txt").read_text().splitlines()
    assert script == "train.py"
    arguments = build_parser().parse_intermixed_args(given)
    assert (arguments.devices, arguments.num_nodes, arguments.resume) == ("2", 1, "auto")
    files, overrides = split_items(arguments.items)
    config = build_config([ROOT / file for file in files], overrides)
    assert (config.DATA.IMAGE_SIZE, config.TRAIN.EPOCHS, config.TRAIN.SEED) == ([640, 640], 30, 1)


PAPER = "scripts/train/train_paper.sh"
SMALL = [
    *("MODEL.BACKBONE.TYPE", "lite", "MODEL.BACKBONE.STEM_DIM", "8", "MODEL.BACKBONE.DIMS", "[8,16,32]"),
    *("MODEL.BACKBONE.FINE_DIM", "16", "MODEL.DETECTOR.COARSE_DIMS", "[16,16]", "MODEL.DETECTOR.FINE_DIMS", "[16,16]"),
    *("MODEL.DETECTOR.HEAD_DIMS", "[16,16]", "MODEL.COARSE.LAYERS", "['self','cross']", "MODEL.FINE.HEADS", "4"),
    *("DATA.TRAIN_SOURCES", "['homography']", "DATA.TRAIN_WEIGHTS", "[1.0]", "DATA.VAL_SOURCES", "['homography']"),
    *("DATA.VAL_PAIRS", "1", "DATA.WORKERS", "0", "DATA.PHOTOS", "", "--accelerator", "cpu"),
]


def test_the_paper_configuration_is_trained_in_chunks_over_its_phases(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    sizing = {"SIZES": "64x64 64x96 96x64", "BATCHES": "2 1 1", "STEPS": "2 1 1", "OUTPUT": str(logs)}
    sizing |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    # no time is left after start and end: one step, which is saved
    assert run(PAPER, python_of_this_test(tmp_path), "--max-time", "1", *SMALL, MARGIN="60", **sizing) == 0
    assert steps(logs / "1-small") == 1
    assert not (logs / "2-medium").exists()
    assert run(PAPER, tmp_path, "--max-time", "9", *SMALL, **sizing) == 0
    assert [steps(logs / name) for name in ("1-small", "2-medium", "3-large")] == [2, 1, 1]
    config = read_weights(logs / "3-large" / "s2ld.safetensors").config
    assert config is not None
    assert (config.DATA.IMAGE_SIZE, config.DATA.BATCH_SIZE, config.TARGETS.FINE_MIN_TRUE) == ([96, 64], 1, 14)
    assert f"{logs}/2-medium/s2ld.safetensors" == config.TRAIN.INIT_WEIGHTS


LITE = [
    *("DATA.TRAIN_SOURCES", "['homography']", "DATA.TRAIN_WEIGHTS", "[1.0]", "DATA.PHOTOS", "", "DATA.VAL_SETS", "[]"),
    *("DATA.VAL_SOURCES", "['homography']", "DATA.VAL_PAIRS", "1", "DATA.IMAGE_SIZE", "[64,64]"),
    *("DATA.WORKERS", "0", "DATA.BATCH_SIZE", "1", "TRAIN.CANDIDATES.PAIRS", "2", "--devices", "1"),
]


def test_lite_is_trained_over_its_phases_and_ends_with_a_consensus(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    sizing = {"STEPS": "1 1 1 1 1", "OUTPUT": str(logs), "PYTHONPATH": str(ROOT / "src")}
    assert run("scripts/train/train_lite.sh", python_of_this_test(tmp_path), *LITE, **sizing) == 0
    phases = ("1-crops", "2-small", "3-large", "4-consensus", "5-joint")
    assert [steps(logs / name) for name in phases] == [1, 1, 1, 1, 1]
    configs = [read_weights(logs / name / "s2ld.safetensors").config for name in phases]
    assert [config is not None and config.MODEL.CONSENSUS.ENABLED for config in configs] == [False] * 3 + [True] * 2
    assert [config is not None and config.TRAIN.STAGE for config in configs[3:]] == ["consensus", "matcher"]


def python_of_this_test(folder: Path) -> Path:
    """Put the interpreter that runs this test into `folder` as ``python``."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    return folder


def steps(folder: Path) -> int:
    return int(read_weights(folder / "s2ld.safetensors").metadata["steps"])


def notes_its_trainings(folder: Path) -> Path:
    """Put a ``python`` into `folder` for which a training only notes its arguments and makes the weights of its end."""
    program = folder / "python"
    program.write_text(
        '#!/bin/sh\n[ "$1" = -c ] && exit 0\n'
        'while [ "$1" != --output ]; do shift; done\n'
        'mkdir -p "$2" && touch "$2/s2ld.safetensors" && printf "%s\\n" "$@" > "$2/arguments.txt"\n'
    )
    program.chmod(0o755)
    return folder


def test_a_state_from_another_machine_needs_no_earlier_phase(tmp_path: Path) -> None:
    state = tmp_path / "logs/3-large/last.ckpt"
    state.parent.mkdir(parents=True)
    state.touch()
    assert run(PAPER, notes_its_trainings(tmp_path), OUTPUT=str(tmp_path / "logs")) == 0
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["3-large"]
    given = (state.parent / "arguments.txt").read_text().splitlines()
    assert given[given.index("TRAIN.INIT_WEIGHTS") + 1] == ""


def test_its_phases_train_the_released_network_at_a_rate_that_only_falls(tmp_path: Path) -> None:
    assert run(PAPER, notes_its_trainings(tmp_path), "TRAIN.SEED", "1", OUTPUT=str(tmp_path / "logs")) == 0
    files = ["configs/data/mixture.yaml", "configs/s2ld/outdoor/s2ld_paper.yaml"]
    rates: list[float] = []
    for name in ("1-small", "2-medium", "3-large"):
        given = (tmp_path / "logs" / name / "arguments.txt").read_text().splitlines()
        arguments = build_parser().parse_intermixed_args([*(str(ROOT / file) for file in files), *given])
        config = build_config(*split_items(arguments.items))
        scale, released = run_scale(config, 1), defaults()
        released.MODEL.POSITION.LONG_SIDE = 80
        assert config.MODEL == released.MODEL
        assert (config.TRAIN.SEED, config.TRAIN.PRECISION, arguments.resume) == (1, "auto", "auto")
        factor = schedule_factor(config.TRAIN, scale)
        rates += [scale.learning_rate, scale.learning_rate * factor(scale.total_steps)]
    assert rates == pytest.approx([2e-3, 1e-3, 1e-3, 5e-4, 5e-4, 5e-6])


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (2, False), (143, True)])
def test_a_job_trains_on_all_nodes_and_is_queued_again_if_it_was_stopped(
    tmp_path: Path, status: int, requeued: bool
) -> None:
    record(tmp_path, ["srun", "scontrol"])
    (tmp_path / "scontrol").write_text((tmp_path / "scontrol").read_text().replace("${STATUS:-0}", "0"))
    job = {**SLURM, "SLURM_CPUS_PER_TASK": "6", "SLURM_SUBMIT_DIR": str(ROOT), "STATUS": str(status)}
    assert run("scripts/slurm/train.sbatch", tmp_path, "TRAIN.SEED", "1", **job) == status
    given = (tmp_path / "srun.txt").read_text().splitlines()
    arguments = build_parser().parse_intermixed_args(given[given.index("train.py") + 1 :])
    assert (arguments.devices, arguments.num_nodes, arguments.resume) == ("4", 2, "auto")
    check_slurm(int(arguments.devices), arguments.num_nodes, SLURM)
    assert arguments.items[-2:] == ["TRAIN.SEED", "1"]
    assert (tmp_path / "scontrol.txt").exists() == requeued
    if requeued:
        assert (tmp_path / "scontrol.txt").read_text() == "requeue\n17\n"


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (143, True)])
def test_an_evaluating_job_shares_out_the_pairs_to_all_nodes(tmp_path: Path, status: int, requeued: bool) -> None:
    record(tmp_path, ["srun", "scontrol"])
    (tmp_path / "scontrol").write_text((tmp_path / "scontrol").read_text().replace("${STATUS:-0}", "0"))
    job = {**SLURM, "SLURM_CPUS_PER_TASK": "6", "SLURM_SUBMIT_DIR": str(ROOT), "STATUS": str(status)}
    assert run("scripts/slurm/test.sbatch", tmp_path, "--limit", "8", **job) == status
    given = (tmp_path / "srun.txt").read_text().splitlines()
    arguments = build_test_parser().parse_intermixed_args(given[given.index("test.py") + 1 :])
    assert (arguments.devices, arguments.num_nodes, arguments.accelerator) == ("4", 2, "gpu")
    assert arguments.limit == 8
    assert (tmp_path / "scontrol.txt").exists() == requeued


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (143, True)])
def test_a_matching_job_shares_out_a_folder_to_all_nodes(tmp_path: Path, status: int, requeued: bool) -> None:
    record(tmp_path, ["srun", "scontrol"])
    (tmp_path / "scontrol").write_text((tmp_path / "scontrol").read_text().replace("${STATUS:-0}", "0"))
    job = {**SLURM, "SLURM_CPUS_PER_TASK": "6", "SLURM_SUBMIT_DIR": str(ROOT), "STATUS": str(status)}
    script = "scripts/slurm/match_folder.sbatch"
    assert run(script, tmp_path, "photos", "out", "--pairs", "retrieval", **job) == status
    given = (tmp_path / "srun.txt").read_text().splitlines()
    arguments = build_folder_parser().parse_args(given[given.index("match-folder") + 1 :])
    assert (arguments.devices, arguments.num_nodes, arguments.accelerator) == ("4", 2, "gpu")
    assert (arguments.photos, arguments.output, arguments.pairs) == (Path("photos"), Path("out"), "retrieval")
    assert (tmp_path / "scontrol.txt").exists() == requeued


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "message"),
    [
        (2, 2, SLURM, "--devices 2: SLURM starts 4 task(s) a node; give --devices 4, or --ntasks-per-node=2 to SLURM"),
        (4, 1, SLURM, "--num-nodes 1: SLURM gave 2 node(s); give --num-nodes 2"),
        (4, 1, {"SLURM_NTASKS": "4"}, "--devices 4: SLURM does not say its tasks a node; use srun --ntasks-per-node=4"),
    ],
)
def test_another_number_of_processes_than_slurms_is_one_line(
    devices: int, nodes: int, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(S2LDError) as caught:
        check_slurm(devices, nodes, environment)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("devices", "environment"),
    [(2, {}), (2, {**SLURM, "SLURM_JOB_NAME": "bash"}), (1, {"SLURM_NTASKS": "1", "SLURM_NNODES": "1"})],
)
def test_without_slurm_or_in_agreement_with_it_nothing_is_said(devices: int, environment: dict[str, str]) -> None:
    check_slurm(devices, 1, environment)
