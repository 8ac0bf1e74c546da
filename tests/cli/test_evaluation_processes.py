"""`test.py` in several gloo processes: their cache is that of one, also after one of them was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_evaluation_command import command as command

from s2ld.cli.evaluate.test import main, script
from s2ld.errors import LOST_PROCESS
from s2ld.evaluation.predictions.cache import CacheHeader
from s2ld.evaluation.predictions.unfinished import Unfinished
from s2ld.processes.peers import TESTING

ROOT = Path(__file__).parents[2]
PAIRS = [
    "DATA.TEST_SOURCE",
    "homography",
    "DATA.TEST_PAIRS",
    "9",
    "DATA.IMAGE_SIZE",
    "[128, 96]",
    "EVAL.BOOTSTRAP",
    "0",
]


def run(unlucky: str, processes: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "UNLUCKY": unlucky}
    device = command.index("--device")
    own = [*command[:device], *command[device + 2 :], "--accelerator", "cpu", "--devices", str(processes)]
    script = [sys.executable, str(ROOT / "tests/support/unlucky_evaluation.py"), *own]
    options = {"capture_output": True, "text": True, "timeout": 300, "start_new_session": True}
    return subprocess.run(script, env=environment, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_processes_predict_what_one_does_and_go_on_after_one_was_killed(command: list[str], tmp_path: Path) -> None:
    command = [*command, *PAIRS]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums are rounded otherwise with more
    try:
        numbers = main([*command, "--output", str(tmp_path / "one")])
    finally:
        torch.set_num_threads(threads)
    one, many = tmp_path / "one/predictions.h5", tmp_path / "dump/predictions.h5"

    killed = run("2:1", 4, command)
    assert killed.returncode == LOST_PROCESS, killed.stderr[-3000:]
    assert killed.stderr.count(f"s2ld test: {TESTING.lost}") == 1
    assert "Traceback" not in killed.stderr
    assert not many.exists()
    header = CacheHeader(**json.loads(read_text(one)))
    places = Unfinished(many, header).places()
    assert 2 in places
    assert 6 not in places  # the next one of the process that was killed
    assert len({path for path, _ in places.values()}) > 1

    done = run("", 2, command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"going on after {len(places)} of 9 pairs" in done.stderr
    assert many.read_bytes() == one.read_bytes()
    assert json.loads((tmp_path / "dump/results.json").read_text())["scores"] == pytest.approx(numbers, abs=0)
    assert not [path for path in many.parent.iterdir() if "partial" in path.name]
    assert done.stdout.count("benchmark:") == 1  # one process reports


def read_text(cache: Path) -> str:
    import h5py

    with h5py.File(cache) as file:
        return str(file.attrs["header"])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--devices", "0"], "--devices 0: give a number of processes from 1, or auto"),
        (["--devices", "2"], "--device cpu is of one process; choose by --accelerator cpu or gpu"),
        (["--num-nodes", "0"], "--num-nodes 0: give a number of machines from 1"),
        (["--accelerator", "cpu"], "--device cpu and --accelerator cpu say the same thing; give one"),
    ],
)
def test_bad_numbers_of_processes_are_one_line(
    options: list[str], line: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert script([*command, *options]) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"s2ld test: {line}"
