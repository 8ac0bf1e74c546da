"""One step of training, and a single scene learnt by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import OnePair, tiny_config
from torch import nn

from s2ld.config import CN
from s2ld.data.datamodule import PairDataModule
from s2ld.data.sample import collate
from s2ld.data.sources.by_name import build_source
from s2ld.errors import S2LDError
from s2ld.training.loop.module import S2LDModule
from s2ld.training.losses.targets import build_targets
from s2ld.types import PairBatch

pytestmark = pytest.mark.filterwarnings("ignore:.*(in eval mode|LeafSpec|across ranks is zero)")

EASY = [
    *("DATA.PHOTOMETRIC.ENABLED", "False", "DATA.HOMOGRAPHY.OVERLAP", "[0.9,1.0]"),
    *("DATA.HOMOGRAPHY.ZOOM", "[0.85,1.0]", "DATA.BATCH_SIZE", "1"),
]


def fit(
    module: S2LDModule, config: CN, val: dict[str, Any] | None = None, train: Any = None, **options: Any
) -> pl.Trainer:
    """Train without writing anything; `options` are Lightning's."""
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=config.TRAIN.MAX_STEPS,
        max_epochs=-1,
        accumulate_grad_batches=config.TRAIN.ACCUMULATE,
        gradient_clip_val=config.TRAIN.GRAD_CLIP,
        val_check_interval=config.TRAIN.MAX_STEPS,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, datamodule=PairDataModule(config, train, {} if val is None else val))
    return trainer


def batch_of(config: CN) -> PairBatch:
    source = build_source("homography", config, "train")
    return collate([source[0], source[1]])


def parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_a_single_scene_is_learnt_by_heart(tmp_path: Path) -> None:
    pl.seed_everything(0, verbose=False)
    learning = ["TRAIN.CANONICAL_LR", str(2 * 8e-3), "TRAIN.EMA_DECAY", "0.9", "TRAIN.WARMUP_STEPS", "20"]
    learning += ["TRAIN.MAX_STEPS", "220", "TRAIN.WEIGHT_DECAY", "0.0", "TRAIN.FREEZE_BATCHNORM", "True"]
    config = tiny_config(tmp_path, *EASY, *learning)
    scene = OnePair(build_source("homography", config, "train"), 1)
    module = S2LDModule(config)
    fit(module, config, train=scene)

    batch = collate([scene[0]])
    network = module.averaged.eval()
    with torch.no_grad():
        prediction = network(batch.view0.images, batch.view1.images)
    targets = build_targets(prediction.encoded, batch, config.TARGETS)
    coarse = prediction.coarse
    checked = targets.valid0[coarse.batch, coarse.cell0]
    error = (prediction.fine.points1 - targets.warped0[coarse.batch, coarse.cell0]).norm(dim=1)[checked]
    assert len(error) >= 25  # of 64 cells
    assert float(error.median()) < 0.5
    assert float((error < 2).float().mean()) > 0.9


def test_every_trainable_parameter_is_reached(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "TRAIN.MAX_STEPS", "3", "TRAIN.WARMUP_STEPS", "0", "TRAIN.WEIGHT_DECAY", "0.0")
    module = S2LDModule(config)
    before = parameters(module.matcher)
    trainer = fit(module, config, train=build_source("homography", config, "train"))
    unmoved = [name for name, value in module.matcher.named_parameters() if torch.equal(value, before[name])]
    assert unmoved == []
    assert trainer.callback_metrics["loss/total"].isfinite()
    assert {"train/matches", "train/precision", "train/learning_rate"} <= trainer.callback_metrics.keys()


def test_frozen_modules_and_statistics_stay(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "TRAIN.FREEZE", "['backbone','keypoint_detector']", "TRAIN.FREEZE_BATCHNORM", "True")
    module = S2LDModule(config)
    before = {name: value.clone() for name, value in module.matcher.state_dict().items()}
    fit(module, config, train=build_source("homography", config, "train"))
    moved = {name for name, value in module.matcher.state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.startswith("s2ld_coarse") for name in moved)
    assert not any(name.startswith(("backbone", "keypoint_detector")) or "running" in name for name in moved)


def test_the_detector_stage_trains_backbone_and_detector_only(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "TRAIN.STAGE", "detector", "TRAIN.WEIGHT_DECAY", "0.0")
    module = S2LDModule(config)
    before = parameters(module.matcher)
    source = build_source("homography", config, "val")
    trainer = fit(module, config, {"homography": source}, build_source("homography", config, "train"))
    moved = {name for name, value in module.matcher.named_parameters() if not torch.equal(value, before[name])}
    assert any(name.startswith("keypoint_detector") for name in moved)
    assert all(name.startswith(("backbone", "keypoint_detector")) for name in moved)
    assert 0 <= float(trainer.callback_metrics["val/score"]) <= 1


def test_a_batch_without_any_truth_trains_on(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    source = build_source("homography", config, "train")
    pair = source[0]
    blind = [replace(view, depth=torch.zeros_like(view.depth)) for view in (pair.view0, pair.view1)]
    module = S2LDModule(config)
    fit(module, config, train=OnePair([replace(pair, view0=blind[0], view1=blind[1])], 0))
    assert all(value.isfinite().all() for value in module.matcher.state_dict().values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("TRAIN.FREEZE", "['backbon']"), "unknown module backbon"),
        (("TRAIN.STAGE", "detektor"), "STAGE 'detektor'"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, overrides: tuple[str, str], message: str) -> None:
    with pytest.raises(S2LDError, match=message):
        S2LDModule(tiny_config(tmp_path, *overrides))


def test_validation_measures_the_averaged_weights(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, "TRAIN.MAX_STEPS", "2", "TRAIN.WARMUP_STEPS", "1", "MODEL.MATCH.THRESHOLD", "0.0")
    module = S2LDModule(config)
    val = {"a": build_source("homography", config, "val")}
    trainer = fit(module, config, val, build_source("homography", config, "train"))
    with torch.no_grad():
        batches = [collate([val["a"][i]]) for i in range(2)]
        counts = [len(module.averaged.eval()(b.view0.images, b.view1.images).coarse) for b in batches]
    assert float(trainer.callback_metrics["val_a/matches"]) == sum(counts) / 2
    assert sum(counts) > 0
