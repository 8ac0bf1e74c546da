"""The notebook runs over a dump as `test.py` writes it, and shows its pictures."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from s2ld.cli.evaluate.test import main
from s2ld.config import build_config
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks/visualize_dump_results.ipynb"
LITE = ROOT / "configs/s2ld/outdoor/s2ld_lite.yaml"
PATIENCE = 300  # s, for a machine that is busy with other things


Command = Callable[..., Path]
MATCHER = ("--matcher", "sift", "--device", "cpu", "DATA.WORKERS", "0")


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Runs `test.py` and returns the folder of its dump."""

    def run(data: str, *arguments: object) -> Path:
        dump = tmp_path / "dump"
        main([str(argument) for argument in (ROOT / "configs/data" / data, LITE, "--dump", dump, *arguments)])
        return dump

    return run


@pytest.fixture
def hpatches(tmp_path: Path) -> Path:
    """Two sequences: one image six times, and one that moves by a pixel a picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32), np.uint8)
    image = cv2.cvtColor(cv2.resize(coarse, (136, 96), interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR)
    for name, step in (("i_lamp", 0), ("v_wall", 1)):
        folder = tmp_path / "hpatches" / name
        folder.mkdir(parents=True)
        for number in range(1, 7):
            shift = step * (number - 1)
            cv2.imwrite(str(folder / f"{number}.ppm"), image[:, shift : shift + 128])
            np.savetxt(folder / f"H_1_{number}", [[1, 0, -shift], [0, 1, 0], [0, 0, 1]])
    return tmp_path / "hpatches"


@pytest.fixture
def _kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kernel find the package, stay on one core, and leave nothing in the home folder."""
    for name, value in {
        "PYTHONPATH": ROOT / "src",
        "OMP_NUM_THREADS": 1,
        "IPYTHONDIR": tmp_path / "ipython",
        "JUPYTER_RUNTIME_DIR": tmp_path / "runtime",
    }.items():
        monkeypatch.setenv(name, str(value))


def executed(dump: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], dict[str, str]]:
    """Return the cells that showed pictures, a name for each, and what cells printed."""
    monkeypatch.setenv("S2LD_DUMP", str(dump))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.startup_timeout = client.iopub_timeout = PATIENCE
    shown = [(cell.id, output) for cell in client.execute().cells for output in cell.get("outputs", [])]
    pictures = [name for name, output in shown if "image/png" in output.get("data", {})]
    return pictures, {name: output.text for name, output in shown if "text" in output}


@pytest.mark.usefixtures("_kernel")
def test_notebook_shows_table_curves_and_pairs(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = build_config([LITE])
    save_weights(tmp_path / "w.safetensors", S2LD(config.MODEL).state_dict(), config)
    arguments = ["--weight", tmp_path / "w.safetensors", "--device", "cpu", "--limit", "3", "DATA.TEST_PAIRS", "9"]
    overrides = ["DATA.IMAGE_SIZE", "[128, 96]", "DATA.SYNTHETIC.TEXTURE_SIDE", "64", "DATA.WORKERS", "0"]
    dump = command("synthetic_test.yaml", *arguments, *overrides, "MODEL.MATCH.THRESHOLD", "0.0")
    pictures, printed = executed(dump, monkeypatch)
    assert pictures == ["curves", "best", "best", "worst", "worst", "random", "random", "confidence"]
    assert "data: synthetic, 3 pairs" in printed["table"]
    assert "AUC@20" in printed["table"]
    assert printed.keys() == {"table"}


@pytest.mark.usefixtures("_kernel")
def test_notebook_shows_pairs_of_one_plane_also_when_the_images_are_gone(
    command: Command, hpatches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = command("hpatches.yaml", *MATCHER, "DATA.HPATCHES.ROOT", hpatches, "DATA.HPATCHES.SHORT_SIDE", "96")
    assert len(list(dump.glob("pair_rank*.jpg"))) == 4
    shutil.rmtree(hpatches)
    pictures, printed = executed(dump, monkeypatch)
    assert pictures == ["curves", "curves", "best", "best", "worst", "worst", "random", "random", "confidence"]
    assert "data: hpatches, 10 pairs" in printed["table"]
    assert f"pictures without images: {hpatches}: cannot list this folder" in printed["source"]


def test_committed_notebook_is_valid_and_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
