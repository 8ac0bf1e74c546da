from __future__ import annotations

from pathlib import Path

import pytest
from tiny_networks import tiny_config, tiny_network

from s2ld.cli.export.onnx import main, script
from s2ld.config import config_from_text
from s2ld.models import onnx as export
from s2ld.models.checkpoint import CONFIG_KEY, save_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    overrides = ("MODEL.MATCH.BORDER", "0")
    path = tmp_path / "tiny.safetensors"
    save_weights(path, tiny_network(*overrides), tiny_config(*overrides))
    return path


def needs_onnx() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def test_it_writes_a_checked_file(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_onnx()
    import onnxruntime

    output = weights.parent / "new" / "tiny.onnx"
    arguments = ["--weight", str(weights), "--size", "96", "64", "--matches", "30", "--opset", "20"]
    assert script([*arguments, "--output", str(output)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert "the same within 0.02 px and 0.001" in first
    assert last == f"wrote {output}, {output.stat().st_size / 1e6:.1f} MB"
    session = onnxruntime.InferenceSession(output)
    assert [i.shape for i in session.get_inputs()] == [[1, 1, 64, 96]] * 2
    metadata = session.get_modelmeta().custom_metadata_map
    assert config_from_text(metadata[CONFIG_KEY], "metadata") == tiny_config("MODEL.MATCH.BORDER", "0")
    assert (metadata["threshold"], metadata["matches"], metadata["weights"]) == ("0.0", "30", weights.name)
    assert len(metadata["weights_sha256"]) == 64
    assert metadata["photometric_refinement"] == "none"


@pytest.mark.parametrize("densify", [False, True])
def test_what_is_left_out_is_said_to_be(
    densify: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata: dict[str, str] = {}
    monkeypatch.setattr("s2ld.extras.is_there", lambda _: True)
    monkeypatch.setattr(export, "export_onnx", lambda *args: metadata.update(args[2]) or b"file")
    overrides = (
        "MODEL.REFINEMENT.ENABLED", "True", "MODEL.FINE.TYPE", "correlation", "MODEL.CONSENSUS.ENABLED", "True",
        "MODEL.DENSIFY.ENABLED", str(densify),
    )  # fmt: skip
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, tiny_network(*overrides), tiny_config(*overrides))
    output = tmp_path / "tiny.onnx"
    assert script(["--weight", str(weights), "--size", "96", "64", "--output", str(output), "--no-check"]) == 0
    written = capsys.readouterr().out
    parts = "MODEL.REFINEMENT and MODEL.DENSIFY" if densify else "MODEL.REFINEMENT"
    assert written == f"wrote {output}, 0.0 MB, without {parts}: left out of ONNX files\n"
    assert metadata["photometric_refinement"] == "left out"
    assert metadata["densification"] == ("left out" if densify else "none")


def test_a_file_that_disagrees_is_not_written(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda _: True)
    monkeypatch.setattr(export, "export_onnx", lambda *_: b"wrong")
    monkeypatch.setattr(export, "compare", lambda *_: export.Agreement(10, 10, 5, 0.001, 0.0))
    output = weights.parent / "tiny.onnx"
    assert script(["--weight", str(weights), "--size", "96", "64", "--output", str(output)]) == 2
    error = capsys.readouterr().err.splitlines()[-1]  # below the bar
    assert error.startswith("s2ld export onnx: not written, since file and torch disagree at 96 x 64 and 96 x 64: 10 ")
    assert not list(weights.parent.glob("tiny.onnx*"))
    written = main(["--weight", str(weights), "--size", "96", "64", "--output", str(output), "--no-check"])
    assert (written.checked, output.read_bytes()) == ([], b"wrong")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--size", "641", "480"], "size 641 x 480: width and height must be multiples of 8 px, at least 16"),
        (["--weight", "s2ld-light"], "unknown weights 's2ld-light': did you mean s2ld-lite?"),
        (["--matches", "0"], "the number of matches must be at least 1, not 0"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda _: True)
    assert script(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"s2ld export onnx: {line}")
    assert error.count("\n") == 1


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("s2ld.extras.is_there", lambda _: False)
    assert script([]) == 2
    error = capsys.readouterr().err
    assert error.startswith('s2ld export onnx: onnx, onnxscript, onnxruntime are missing: pip install "s2ld[onnx]"')
    assert error.count("\n") == 1
