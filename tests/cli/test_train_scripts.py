"""The training scripts: what they hand to train.py, under SLURM too."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from s2ld.cli.train import build_parser, split_items
from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.training.processes import check_slurm

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize(
    ("devices", "nodes", "environment", "message"),
    [
        (2, 2, SLURM, "--devices 2: SLURM starts 4 task(s) a node; give --devices 4, or --ntasks-per-node=2 to SLURM"),
        (4, 1, SLURM, "--num_nodes 1: SLURM gave 2 node(s); give --num_nodes 2"),
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
