"""Ablations: variants are what their names say, are trained alike, kept when finished, and end up in a table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

from s2ld.cli.train.ablate import RESULT, SETTINGS, Job, base_config, build_parser, main, script, validate
from s2ld.cli.train.ablation_tables import Result, write_tables
from s2ld.cli.train.variants import VARIANTS, choose, variant_config, variant_configs
from s2ld.config import build_config, value_of
from s2ld.errors import S2LDError
from s2ld.models.checkpoint import read_weights, save_weights
from s2ld.models.network import S2LD
from s2ld.training.loop.run import WEIGHTS

ROOT = Path(__file__).resolve().parents[3]
TINY = {
    "MODEL": {
        "BACKBONE": {"TYPE": "lite", "STEM_DIM": 8, "DIMS": [8, 16, 16], "BLOCKS": [0, 0, 0], "FINE_DIM": 8},
        "DETECTOR": {"TYPE": "heatmap"},
        "ADJUSTER": {"HIDDEN_DIM": 16},
        "COARSE": {"LAYERS": ["self", "cross"], "HEADS": 2},
        "FINE": {"TYPE": "correlation", "HIDDEN_DIM": 16, "HEADS": 2},
    },
    "LOSS": {"CORNER_WEIGHT": 0.3},
    "TRAIN": {"WARMUP_STEPS": 1, "CANONICAL_BATCH": 1, "CANONICAL_LR": 1e-4, "LOG_EVERY": 1},
    "DATA": {"TRAIN_SOURCES": ["homography"], "TRAIN_WEIGHTS": [1.0], "VAL_PAIRS": 2, "WORKERS": 0},
}
THREE = ["DATA.TRAIN_SOURCES", "['homography', 'synthetic', 'megadepth']", "DATA.TRAIN_WEIGHTS", "[0.35, 0.15, 0.5]"]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    options = ["--steps", "2", "--size", "64", "64", "--accelerator", "cpu", "--output", str(tmp_path / "out")]
    return [str(path), *options]


def test_two_variants_are_trained_measured_and_kept(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    output = tmp_path / "out"
    first = main([*command, "--variants", "baseline"])
    assert first["baseline"].sources == ["homography"]
    written = (output / "baseline" / WEIGHTS).stat().st_mtime_ns
    both = main([*command, "--variants", "no_corner_loss,baseline"])
    assert list(both) == ["baseline", "no_corner_loss"]
    assert both["baseline"] == first["baseline"]
    assert (output / "baseline" / WEIGHTS).stat().st_mtime_ns == written
    trained = read_weights(output / "no_corner_loss" / WEIGHTS)
    assert trained.metadata["steps"] == "2"
    assert trained.config is not None
    assert trained.config.LOSS.CORNER_WEIGHT == 0
    assert trained.config == build_config([output / "no_corner_loss" / SETTINGS])
    with (output / "ablations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["steps"], row["source"]) for row in rows] == [
        ("baseline", "2", "homography"),
        ("no_corner_loss", "2", "homography"),
    ]
    assert float(rows[0]["score"]) == both["baseline"].metrics["val_homography/score"]
    assert "| no_corner_loss | 2 |" in (output / "ablations.md").read_text()
    with pytest.raises(S2LDError, match=r"config\.yaml: this variant was begun with other settings"):
        main([*command, "--variants", "no_corner_loss", "TRAIN.SEED", "1"])


def test_what_the_training_says_is_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = tmp_path / "s2ld.py"  # takes the place of the package in `python -m s2ld`
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    train.write_text("import sys\nprint('a note\\ns2ld train: w.ckpt: no such file', file=sys.stderr)\nsys.exit(2)\n")
    assert script([*command, "--variants", "baseline"]) == 2
    assert capsys.readouterr().err == "[1/1] baseline\ns2ld ablate: baseline: w.ckpt: no such file\n"
    train.write_text("raise RuntimeError('a defect')\n")
    with pytest.raises(S2LDError, match=r"baseline: s2ld train ended with status 1; see .*train\.log$"):
        main([*command, "--variants", "baseline"])
    train.write_text("import sys\nsys.exit(130)\n")
    with pytest.raises(KeyboardInterrupt, match="goes on with baseline"):
        main([*command, "--variants", "baseline"])
    assert not (tmp_path / "out/ablations.md").exists()


def test_variants_are_measured_on_all_pairs_or_not_at_all(command: list[str], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.jpg").write_text("no picture")
    config = base_config(build_parser().parse_intermixed_args([*command, "DATA.PHOTOS", str(photos)]))
    save_weights(tmp_path / WEIGHTS, S2LD(config.MODEL), config)
    with pytest.raises(S2LDError, match=r"^\S+broken\.jpg: not an image"):
        validate(Job("baseline", config, tmp_path), "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variants", "baseline,no_such"], r"no variant 'no_such'; use some of baseline,"),
        (["--variants", "without_homography"], r"without_homography: DATA.TRAIN_SOURCES is \['homography'\]"),
        (["--variants", "without_megadepth"], "does not have megadepth"),
        (
            ["--variants", "baseline,no_corner_loss", "LOSS.CORNER_WEIGHT", "0"],
            "no_corner_loss is the same as baseline",
        ),
        (["--steps", "0"], "TRAIN.MAX_STEPS is 0"),
        (["TRAIN.SCHEDULE", "linear"], "TRAIN.SCHEDULE 'linear'"),
        (["--resize", "60", "64"], "multiples of 8"),
        (["--max-time", "soon"], "--max-time soon"),
        (["DATA.PHOTOS", "nowhere"], "nowhere"),
    ],
)
def test_bad_arguments_are_one_line_before_anything_is_trained(
    command: list[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(S2LDError, match=message) as caught:
        main([*command, "--variants", "baseline", *arguments])
    assert "\n" not in str(caught.value)


def test_variants_share_everything_but_what_they_are_named_for() -> None:
    base = build_config([ROOT / "configs/s2ld/outdoor/s2ld_lite.yaml"], [*THREE, "LOSS.CORNER_WEIGHT", "0.3"])
    configs = variant_configs(choose([]), base)
    assert list(configs) == list(VARIANTS)
    assert configs["baseline"] == base
    for config in configs.values():
        for key in ("TRAIN.SEED", "TRAIN.MAX_STEPS", "DATA.SEED", "DATA.VAL_SOURCES", "DATA.IMAGE_SIZE"):
            assert value_of(config, key) == value_of(base, key)
    with_it, without = configs["noise_regulariser"], configs["noise_no_regulariser"]
    assert with_it.DATA == without.DATA
    assert with_it.DATA.NOISE == {"ROTATION": 0.5, "TRANSLATION": 2.0, "DEPTH": 0.02}
    assert (with_it.LOSS.REGULARISER_WEIGHT, without.LOSS.REGULARISER_WEIGHT) == (1.0, 0.0)
    subpixel, rounded = configs["transformer_subpixel"].MODEL.FINE, configs["transformer_rounded"].MODEL.FINE
    assert {key for key in subpixel if subpixel[key] != rounded[key]} == {"WINDOW_MODE"}
    assert (subpixel.TYPE, subpixel.WINDOW) == ("transformer", 5)
    left = configs["without_synthetic"].DATA
    assert (left.TRAIN_SOURCES, left.TRAIN_WEIGHTS) == (["homography", "megadepth"], [0.35, 0.5])
    assert variant_config("no_keypoint_losses", base).LOSS.KEYPOINT_WEIGHT == 0


def test_all_variants_are_validated_on_held_out_pairs_of_every_training_source(command: list[str]) -> None:
    keys = ["DATA.TRAIN_SOURCES", "['synthetic', 'homography']", "DATA.TRAIN_WEIGHTS", "[1.0, 1.0]"]
    base = base_config(build_parser().parse_intermixed_args([*command, *keys]))
    assert base.DATA.VAL_SOURCES == ["synthetic", "homography"]
    assert variant_config("without_synthetic", base).DATA.VAL_SOURCES == ["synthetic", "homography"]
    assert (base.TRAIN.MAX_STEPS, base.DATA.IMAGE_SIZE) == (2, [64, 64])


def test_a_result_of_weights_that_have_gone_on_is_not_taken(tmp_path: Path) -> None:
    job = Job("baseline", build_config(), tmp_path)
    assert (job.steps, job.result) == (0, None)
    save_weights(tmp_path / WEIGHTS, {"w": torch.zeros(1)}, job.config, {"steps": "2"})
    for steps in (1, 2):
        (tmp_path / RESULT).write_text(json.dumps({"steps": steps, "max_steps": 2, "metrics": {"val/score": 0.5}}))
        assert job.result == (Result(2, 2, {"val/score": 0.5}) if steps == 2 else None)
    (tmp_path / RESULT).write_text("half")
    with pytest.raises(S2LDError, match=r"result\.json: cannot read this result; delete it"):
        _ = job.result


def test_tables_have_whatever_was_measured(tmp_path: Path) -> None:
    metrics = {"val_a/score": 0.5, "val_a/new_metric": 12.345, "val_b/score": 0.25, "val/score": 0.375}
    results = {"one": Result(10, 10, metrics), "two": Result(4, 10, {"val_a/score": 0.125, "val/score": 0.125})}
    write_tables(tmp_path, results, {"image size": "64x64"})
    assert (tmp_path / "ablations.csv").read_text().splitlines() == [
        "variant,steps,source,score,new_metric",
        "one,10,a,0.5,12.345",
        "one,10,b,0.25,",
        "two,4,a,0.125,",
    ]
    text = (tmp_path / "ablations.md").read_text()
    assert "image size: 64x64" in text
    assert "| two | 4 of 10 | 0.125 |" in text
    assert "## On held-out a\n\n| variant | score | new metric |" in text
    assert "| one | 0.5 | 12.35 |" in text
    assert "| two | - |" in text  # not validated on b
