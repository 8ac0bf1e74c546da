"""The averaged weights of a run as float16: those that were validated, and they match as those in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import write_tiny

from s2ld.cli.export.weights import main as export
from s2ld.cli.export.weights import script
from s2ld.cli.train.train import main
from s2ld.data.images.motorcycle import load_motorcycle
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_model, read_weights, save_weights
from s2ld.pretrained import resolve
from s2ld.training.loop.run import TrainResult
from s2ld.types import Matches


def run(folder: Path, steps: int, *arguments: str) -> TrainResult:
    own = ["TRAIN.MAX_STEPS", str(steps), "TRAIN.SCHEDULE", "multistep"]
    own += ["TRAIN.VALIDATE_EVERY", "2", "DATA.VAL_PAIRS", "1"]
    return main([str(write_tiny(folder)), "--accelerator", "cpu", "--output", str(folder), *arguments, *own])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(folder, 2)
    return folder / "last.ckpt"


def test_the_weights_are_those_that_were_validated(trained: Path, tmp_path: Path) -> None:
    path = export([str(trained), str(tmp_path / "out.safetensors")])
    file, whole = read_weights(path), read_weights(trained.with_name("s2ld.safetensors"))
    assert {value.dtype for value in file.state.values() if value.is_floating_point()} == {torch.float16}
    assert file.config == whole.config
    assert (file.metadata["steps"], file.metadata["pairs"]) == ("2", "4")
    for key, value in whole.state.items():
        assert torch.allclose(file.state[key].to(value.dtype), value, rtol=1e-3, atol=1e-6)
    assert {p.dtype for p in load_model(path)[0].parameters()} == {torch.float32}


def test_weights_of_16_bits_find_the_same_matches(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    file, stereo, found = read_weights(resolve("s2ld-lite")), load_motorcycle(), list[Matches]()
    assert file.config is not None
    state = {key: value * (1 + 3e-4) if value.ndim > 1 else value for key, value in file.state.items()}
    for half in (False, True):
        path = tmp_path / f"{half}.safetensors"
        save_weights(path, state, file.config, half=half)
        found.append(Matcher.from_pretrained(path, max_side=320, device="cpu")(stereo.left, stereo.right))
    whole, half_found = found
    distances = torch.cdist(torch.from_numpy(whole.points0), torch.from_numpy(half_found.points0))
    nearest = distances.argmin(1)
    apart = torch.from_numpy(whole.points1) - torch.from_numpy(half_found.points1)[nearest]
    assert len(whole) > 100
    assert abs(len(whole) - len(half_found)) < 0.03 * len(whole)
    # 1 px of the file is less than half a px of the network at this size
    assert float(((distances.amin(1) < 1) & (apart.norm(dim=1) < 1)).float().mean()) > 0.95


def test_what_is_no_checkpoint_is_one_line(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = str(trained.with_name("s2ld.safetensors"))
    for arguments in (
        [weights, str(tmp_path / "x.safetensors")],
        [str(trained), str(tmp_path / "x.pt")],
        [str(tmp_path / "absent.ckpt"), str(tmp_path / "x.safetensors")],
    ):
        assert script(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
