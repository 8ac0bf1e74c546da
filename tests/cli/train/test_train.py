"""The command line of train.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from s2ld.cli.items import split_items
from s2ld.cli.train.train import main, script, seconds
from s2ld.config import build_config
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import load_model, read_weights, save_weights
from s2ld.training.loop.module import S2LDModule
from s2ld.training.loop.run import initialise

TINY = {
    "MODEL": {
        "BACKBONE": {"TYPE": "lite", "STEM_DIM": 8, "DIMS": [8, 16, 16], "BLOCKS": [0, 0, 0], "FINE_DIM": 8},
        "DETECTOR": {"COARSE_DIMS": [8, 8], "FINE_DIMS": [8, 8], "HEAD_DIMS": [8, 8]},
        "ADJUSTER": {"HIDDEN_DIM": 16},
        "COARSE": {"LAYERS": ["self", "cross"], "HEADS": 2},
        "FINE": {"HEADS": 2},
    },
    "TRAIN": {
        "MAX_STEPS": 2,
        "WARMUP_STEPS": 1,
        "LOG_EVERY": 1,
        "VALIDATE_EVERY": 2,
        "CANONICAL_BATCH": 1,
        "CANONICAL_LR": 2e-5,
    },
    "DATA": {
        "TRAIN_SOURCES": ["homography"],
        "VAL_SOURCES": ["homography"],
        "VAL_PAIRS": 2,
        "IMAGE_SIZE": [64, 64],
        "WORKERS": 0,
    },
}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


def test_configs_come_first_then_keys_and_values() -> None:
    items = ["a.yaml", "b.yml", "TRAIN.SEED", "1", "DATA.PHOTOS", "x.yaml"]
    assert split_items(items) == ([Path("a.yaml"), Path("b.yml")], ["TRAIN.SEED", "1", "DATA.PHOTOS", "x.yaml"])
    with pytest.raises(S2LDError, match=r"data and a main config first"):
        split_items(["TRAIN.SEED", "1"])


@pytest.mark.parametrize(
    ("text", "expected"), [("1.5", 90), ("00:00:01:30", 90), ("2:00:00", 7200), ("01:0:0:0", 86400)]
)
def test_max_time_is_minutes_or_a_clock(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["soon", "1:2:3:4:5", "-1", ""])
def test_bad_max_time_is_refused(text: str) -> None:
    with pytest.raises(S2LDError, match="--max-time"):
        seconds(text)


def test_options_stand_anywhere_and_nothing_is_written_by_a_dev_run(config: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = main([config, "--fast-dev-run", "TRAIN.SEED", "1", "--output", str(output), "--accelerator", "cpu"])
    assert result.steps == 1
    assert result.weights is None
    assert result.metrics["loss/total"] > 0
    assert not output.exists()


def test_a_run_writes_weights_that_load_and_start_another(config: str, tmp_path: Path) -> None:
    first = main([config, "--output", str(tmp_path / "a"), "--accelerator", "cpu", "TRAIN.PRECISION", "bf16-mixed"])
    assert first.weights is not None
    network, tree = load_model(first.weights)
    assert tree.TRAIN.PRECISION == "bf16-mixed"
    assert read_weights(first.weights).metadata["steps"] == "2"
    assert any((tmp_path / "a" / "tensorboard").iterdir())

    whole = S2LDModule(build_config(overrides=["TRAIN.INIT_WEIGHTS", str(first.weights)], base=tree))
    initialise(whole, whole.config)
    for started in (whole.matcher, whole.averaged):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(started.state_dict()[name], value)

    part = S2LDModule(build_config(overrides=["TRAIN.INIT_DETECTOR", str(first.weights)], base=tree))
    before = {name: value.clone() for name, value in part.matcher.state_dict().items()}
    initialise(part, part.config)
    taken = ("backbone.", "keypoint_detector.")
    for name, value in part.matcher.state_dict().items():
        torch.testing.assert_close(value, network.state_dict()[name] if name.startswith(taken) else before[name])

    again = main([config, "--fast-dev-run", "--accelerator", "cpu", "TRAIN.INIT_WEIGHTS", str(first.weights)])
    assert again.steps == 1


def test_weights_of_another_network_are_refused(config: str, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_weights(path, {"backbone.nothing": torch.zeros(1)}, build_config([config]))
    for key in ("TRAIN.INIT_WEIGHTS", "TRAIN.INIT_DETECTOR"):
        with pytest.raises(S2LDError, match=r"other\.safetensors.*missing"):
            main([config, "--fast-dev-run", "--accelerator", "cpu", key, str(path)])


def test_weights_of_another_layout_start_what_they_fit(config: str, tmp_path: Path, told: list[str]) -> None:
    path = tmp_path / "old.safetensors"
    old = S2LDModule(build_config([config]))
    save_weights(path, old.matcher, old.config)
    overrides = ["TRAIN.INIT_WEIGHTS", str(path), "MODEL.DETECTOR.TYPE", "heatmap", "MODEL.FINE.TYPE", "correlation"]
    torch.manual_seed(1)
    module = S2LDModule(build_config([config], [*overrides, "TRAIN.INIT_STRICT", "False"]))
    before = {name: value.clone() for name, value in module.matcher.state_dict().items()}
    initialise(module, module.config)
    taken = old.matcher.state_dict()
    assert any(name in taken and not torch.equal(taken[name], before[name]) for name in before)
    for started in (module.matcher, module.averaged):
        for name, value in started.state_dict().items():
            assert torch.equal(value, taken.get(name, before[name]))
    said = [message for message in told if "start anew: " in message]
    assert len(said) == 1
    assert "local_dense.query.0" in said[0]
    assert "backbone" not in said[0].partition("start anew: ")[2]
    with pytest.raises(S2LDError, match=r"old\.safetensors.* missing"):
        initialise(module, build_config([config], overrides))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "nowhere.ckpt"], r"nowhere\.ckpt"),
        (["TRAIN.STEPS", "3"], "TRAIN.STEPS"),
        (["--devices", "two"], "--devices two"),
        (["--devices", "0"], "--devices 0"),
        (["--num-nodes", "0"], "--num-nodes 0"),
        (["--max-time", "nan"], "--max-time nan"),
        (["--output", "{tmp}/tiny.yaml"], "tiny.yaml: cannot create this output folder"),
        (["DATA.BATCH_SIZE", "0"], "DATA.BATCH_SIZE is 0"),
        (["DATA.PHOTOS", "{tmp}/photos", "DATA.WORKERS", "1"], r"16 pairs in a row .*broken\.jpg: not"),
        (
            ["DATA.PHOTOS", "{tmp}/photos", "DATA.WORKERS", "1", "DATA.ON_BAD_PAIR", "stop"],
            r"^\S+broken\.jpg: not an image",
        ),
        (["DATA.ON_BAD_PAIR", "ignore"], "DATA.ON_BAD_PAIR is 'ignore'; use skip or stop"),
        (["TRAIN.INIT_WEIGHTS", "a.pt", "TRAIN.INIT_DETECTOR", "b.pt"], "exclude each other"),
    ],
)
def test_bad_arguments_are_one_line(config: str, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/broken.jpg").write_text("no picture")
    filled = [argument.replace("{tmp}", str(tmp_path)) for argument in arguments]
    with pytest.raises(S2LDError, match=message) as caught:
        main([config, "--output", str(tmp_path / "x"), "--accelerator", "cpu", *filled])
    assert "\n" not in str(caught.value)


def test_only_a_checkpoint_of_the_same_run_is_resumed(config: str, tmp_path: Path) -> None:
    run = [config, "--output", str(tmp_path / "a"), "--accelerator", "cpu"]
    main(run)
    last = tmp_path / "a/last.ckpt"
    with pytest.raises(S2LDError, match="holds a run already"):
        main(run)
    content = torch.load(last, weights_only=True)
    for name in ("optimizer_states", "PairDataModule"):
        torch.save({key: value for key, value in content.items() if key != name}, tmp_path / "cut.ckpt")
        with pytest.raises(S2LDError, match=rf"cut\.ckpt: lacks {name}"):
            main([*run, "--resume", str(tmp_path / "cut.ckpt")])
    (tmp_path / "half.ckpt").write_bytes(last.read_bytes()[:5000])
    for arguments, words in (
        (["--resume", str(tmp_path / "half.ckpt")], r"half\.ckpt: damaged"),
        (["--resume", str(tmp_path / "a/s2ld.safetensors")], "no checkpoint of train.py"),
        (["--resume", str(last), "TRAIN.EMA_DECAY", "0"], r"last\.ckpt.* unexpected \(average"),
        (["--resume", str(last), "TRAIN.FREEZE", "['backbone']"], "another TRAIN.FREEZE"),
        (["--resume", str(last), "MODEL.MATCH.BORDER", "1"], "another MODEL"),
    ):
        with pytest.raises(S2LDError, match=words) as caught:
            main([*run, *arguments])
        assert "\n" not in str(caught.value)


def test_ctrl_c_saves_the_step_and_the_run_goes_on_from_it(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = S2LDModule.training_step

    def interrupted(module: S2LDModule, *args: Any) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        return original(module, *args)

    run = [config, "--output", str(tmp_path / "a"), "--accelerator", "cpu"]
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(S2LDModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt, match="step 1 is saved"):
            main(run)
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "a/last.ckpt").is_file()
    assert main([*run, "--resume", "auto"]).steps == 2


def test_a_gpu_that_is_not_there_is_said(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(S2LDError, match="no CUDA GPU"):
        main([config, "--fast-dev-run", "--accelerator", "gpu"])


def test_the_script_ends_with_status_2_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "missing.yaml"])
    assert script() == 2
    error = capsys.readouterr().err
    assert error.startswith("s2ld train: missing.yaml: cannot read this config")
    assert error.count("\n") == 1
