"""Checkpoints in 16 bits: what a resume from them keeps, and weights that match as those in float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_runs import write_tiny

from s2ld.cli.pack_checkpoint import main as pack
from s2ld.cli.pack_checkpoint import script
from s2ld.cli.train import TrainResult, main
from s2ld.data.motorcycle import load_motorcycle
from s2ld.errors import S2LDError
from s2ld.matcher import Matcher
from s2ld.models.checkpoint import load_model, load_plain, read_weights, save_weights
from s2ld.pretrained import resolve
from s2ld.training.slim import run_weights, slim_state
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


def test_a_state_of_16_bits_is_half_as_large_and_close(trained: Path, tmp_path: Path) -> None:
    whole = load_plain(trained)
    slim, bare = slim_state(trained), slim_state(trained, moments=False)
    for key, value in whole["state_dict"].items():
        assert torch.allclose(slim["state_dict"][key].float(), value.float(), rtol=1e-3, atol=1e-6)
        assert (slim["state_dict"][key].dtype == torch.float16) == (value.ndim > 1)
    for index, moments in whole["optimizer_states"][0]["state"].items():
        kept = slim["optimizer_states"][0]["state"][index]
        assert torch.equal(kept["step"], moments["step"])
        assert torch.allclose(kept["exp_avg_sq"].float(), moments["exp_avg_sq"], rtol=5e-3, atol=0)
    assert bare["optimizer_states"][0]["state"] == {}
    for part in ("loops", "callbacks", "PairDataModule", "global_step", "lr_schedulers"):
        assert slim[part] == bare[part] == whole[part]
    sizes = [
        pack(["state", str(trained), str(tmp_path / "slim.ckpt"), *options]).stat().st_size
        for options in ([], ["--without_moments"])
    ]
    assert sizes[1] < sizes[0] < trained.stat().st_size


@pytest.mark.parametrize("options", [[], ["--without_moments"]])
def test_a_run_goes_on_from_it_through_parts(trained: Path, tmp_path: Path, options: list[str]) -> None:
    whole = run(tmp_path, 4, "--resume", str(trained))
    assert whole.weights is not None
    slim = pack(["state", str(trained), str(tmp_path / "slim.ckpt"), *options])
    parts = pack(["split", str(slim), str(tmp_path / "parts"), "--size", "0.1"])
    joined = pack(["join", str(parts), str(tmp_path / "again" / "last.ckpt")])
    assert len(list((tmp_path / "parts").glob("*.part1of*"))) == 1
    assert joined.read_bytes() == slim.read_bytes()
    rest = run(tmp_path / "again", 4, "--resume", "auto")
    assert (rest.steps, rest.metrics["train/learning_rate"]) == (4, whole.metrics["train/learning_rate"])
    assert rest.weights is not None
    ours, theirs = read_weights(rest.weights).state, read_weights(whole.weights).state
    start = run_weights(trained).state
    moved = sum(float((theirs[key] - start[key]).square().sum()) for key in theirs) ** 0.5
    apart = sum(float((theirs[key] - ours[key]).square().sum()) for key in theirs) ** 0.5
    assert 0 < apart < (1.0 if options else 0.2) * moved


def test_the_weights_are_those_that_were_validated(trained: Path, tmp_path: Path) -> None:
    path = pack(["weights", str(trained), str(tmp_path / "out.safetensors")])
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
        ["weights", weights, str(tmp_path / "x.safetensors")],
        ["weights", str(trained), str(tmp_path / "x.pt")],
        ["state", str(tmp_path / "absent.ckpt"), str(tmp_path / "x.ckpt")],
        ["join", str(tmp_path / "absent.parts.json")],
        ["split", str(trained), str(tmp_path), "--size", "0"],
    ):
        assert script(arguments) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_weight_beyond_float16_is_named(trained: Path, tmp_path: Path) -> None:
    content = load_plain(trained)
    key = next(key for key, value in content["state_dict"].items() if value.ndim > 1)
    content["state_dict"][key][0] = 1e6
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(S2LDError, match="does not fit float16"):
        slim_state(tmp_path / "x.ckpt")
