"""The notebook runs over a dump as `test.py` writes it, and shows its pictures."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from s2ld.cli.test import main
from s2ld.config import build_config
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks/visualize_dump_results.ipynb"
LITE = ROOT / "configs/s2ld/outdoor/s2ld_lite.yaml"
PATIENCE = 300  # s, for a machine that is busy with other things


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = build_config([LITE])
    save_weights(tmp_path / "w.safetensors", S2LD(config.MODEL).state_dict(), config)
    arguments = [ROOT / "configs/data/synthetic_test.yaml", LITE, "--weight", tmp_path / "w.safetensors"]
    arguments += ["--dump", tmp_path / "dump", "--device", "cpu", "--limit", "3"]
    overrides = ["DATA.TEST_PAIRS", "9", "DATA.IMAGE_SIZE", "[128, 96]", "DATA.SYNTHETIC.TEXTURE_SIDE", "64"]
    main([*map(str, arguments), *overrides, "DATA.WORKERS", "0", "MODEL.MATCH.THRESHOLD", "0.0"])
    return tmp_path / "dump"


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


@pytest.mark.usefixtures("_kernel")
def test_notebook_shows_table_curves_and_pairs(dump: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2LD_DUMP", str(dump))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.startup_timeout = client.iopub_timeout = PATIENCE
    shown = [(cell.id, output) for cell in client.execute().cells for output in cell.get("outputs", [])]
    pictures = [name for name, output in shown if "image/png" in output.get("data", {})]
    assert pictures == ["curves", "best", "best", "worst", "worst", "random", "random", "confidence"]
    (table,) = [output.text for name, output in shown if name == "table"]
    assert "data: synthetic, 3 pairs" in table
    assert "AUC@20" in table


def test_committed_notebook_is_valid_and_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in code if cell.outputs or cell.execution_count is not None] == []
