"""What the core suffices for, and the one line that tells which extra is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from tiny_networks import tiny_config, tiny_network

from s2ld.data.images.reading import write_image
from s2ld.errors import S2LDError
from s2ld.extras import EXTRAS, need
from s2ld.models.checkpoint import save_weights

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {
    "pillow": "PIL",
    "scikit-image": "skimage",
    "pytorch-lightning": "pytorch_lightning",
    "huggingface-hub": "huggingface_hub",
    "python-multipart": "python_multipart",
    "faiss-cpu": "faiss",
}
"""Of distributions that have another name."""
REFUSE = """
import json, sys
from importlib.machinery import PathFinder
REFUSED, find = json.loads(sys.argv.pop(1)), PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in REFUSED else find(name, *rest)
"""
"""Makes modules as missing as those that are not installed."""


def names(requirements: list[str]) -> list[str]:
    plain = [text.split(">")[0] for text in requirements]
    return [MODULES.get(name, name) for name in plain]


def without(modules: set[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where these modules cannot be imported."""
    refused = str(sorted(modules)).replace("'", '"')
    command = [sys.executable, "-c", REFUSE + code, refused, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


ALL = {module for modules in EXTRAS.values() for module in modules}
COMMAND = "from s2ld.cli.main import main\nsys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_table_is_that_of_the_project_file(extra: str) -> None:
    listed = names(PROJECT["optional-dependencies"][extra])
    assert set(EXTRAS[extra]) == set(listed) - {"torch"}


def test_all_and_dev_hold_every_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"s2ld[{','.join([*EXTRAS, 'heic'])}]"]
    assert extras["dev"][0] == "s2ld[all,docs]"
    assert ALL.isdisjoint(names(PROJECT["dependencies"]))


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Two images, and options of a small network."""
    rng = np.random.default_rng(0)
    for name in "ab":
        write_image(rng.integers(0, 256, (64, 96), np.uint8), tmp_path / f"{name}.png")
    save_weights(tmp_path / "w.safetensors", tiny_network(), tiny_config("MODEL.MATCH.BORDER", "0"))
    images = [str(tmp_path / f"{name}.png") for name in "ab"]
    return [*images, "--weight", str(tmp_path / "w.safetensors"), "--device", "cpu", "--output", str(tmp_path / "out")]


def test_core_suffices_for_the_matcher_and_for_match(pair: list[str], tmp_path: Path) -> None:
    code = "from s2ld import Matcher\nMatcher.from_pretrained(sys.argv[5], device='cpu')(*sys.argv[2:4])\n"
    done = without(ALL, code + COMMAND, "match", *pair)
    assert done.returncode == 0, done.stderr
    line = 's2ld match: warning: no pictures are drawn, since matplotlib is missing: pip install "s2ld[demo]"\n'
    assert done.stderr.endswith(line)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a-b.npz", "a-b.csv"}
    assert "a-b.npz, .csv" in done.stdout


CONFIG = "synthetic_test"


@pytest.mark.parametrize(
    ("words", "extra", "missing"),
    [
        (["train", "synthetic", "s2ld_lite"], "train", "pytorch_lightning"),
        (["ablate", "synthetic", "s2ld_lite"], "train", "pytorch_lightning"),
        (["test", CONFIG, "s2ld_lite"], "eval", "h5py"),
        (["match-folder", "photos", "out"], "sfm", "pycolmap"),
        (["benchmark", "matchers", CONFIG], "eval", "poselib"),
        (["benchmark", "data", "synthetic", "s2ld_lite"], "train", "pytorch_lightning"),
        (["write-synthetic", "synthetic", "out"], "train", "h5py"),
        (["learning-curves", "run"], "train", "tensorboard"),
    ],
)
def test_a_missing_extra_is_one_line_before_work_starts(
    words: list[str], extra: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s2ld.cli.main import main

    monkeypatch.setattr("s2ld.extras.is_there", lambda module: module != missing)
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    name = " ".join(words[: 1 + (words[0] == "benchmark")])
    assert line == f's2ld {name}: {missing} is missing: pip install "s2ld[{extra}]"'


@pytest.mark.parametrize("extra", ["train", "eval", "sfm"])
def test_an_extra_suffices_for_its_commands(extra: str) -> None:
    modules = {
        "train": ["s2ld.training.loop.run", "s2ld.cli.data.check", "s2ld.data.synthetic.export"],
        "eval": ["s2ld.evaluation.evaluate", "s2ld.evaluation.predictions.predict", "s2ld.benchmarks.matchers"],
        "sfm": ["s2ld.sfm.dataset.build", "s2ld.sfm.matching.match_folder", "s2ld.sfm.mapping.reconstruction"],
    }[extra]
    code = f"import importlib\nfor name in {modules}: importlib.import_module(name)"
    done = without(ALL - set(EXTRAS[extra]), code)
    assert done.returncode == 0, done.stderr[-1000:]


def test_several_missing_modules_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda module: False)
    with pytest.raises(S2LDError, match=r'^onnx, onnxruntime are missing: pip install "s2ld\[onnx\]"$'):
        need("onnx", "onnx", "onnxruntime")


def test_a_blocked_extra_of_a_fresh_process_is_told(tmp_path: Path) -> None:
    done = without({"pytorch_lightning", "h5py"}, COMMAND, "train", "synthetic", "s2ld_lite", "--output", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr == 's2ld train: pytorch_lightning, h5py are missing: pip install "s2ld[train]"\n'
