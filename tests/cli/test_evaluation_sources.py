"""`test.py` on pairs of one plane, whose poses nobody knows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from s2ld.cli.evaluate.test import main
from s2ld.config import build_config
from s2ld.evaluation.predictions.cache import read_cache
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
LITE = CONFIGS / "s2ld/outdoor/s2ld_lite.yaml"


def test_hpatches_are_predicted_with_their_homography_and_without_a_pose(tmp_path: Path) -> None:
    sequence = tmp_path / "hpatches/i_lamp"
    sequence.mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image = cv2.resize(coarse, (128, 96), interpolation=cv2.INTER_CUBIC)
    for number in range(1, 7):
        cv2.imwrite(str(sequence / f"{number}.ppm"), image)
        np.savetxt(sequence / f"H_1_{number}", np.eye(3))
    config = build_config([LITE])
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", S2LD(config.MODEL).state_dict(), config)
    arguments = [CONFIGS / "data/hpatches.yaml", LITE, "--weight", tmp_path / "w.safetensors", "--device", "cpu"]
    arguments += ["--dump", tmp_path / "dump", "DATA.HPATCHES.ROOT", sequence.parent, "DATA.WORKERS", "0"]
    numbers = main([*map(str, arguments), "DATA.HPATCHES.SHORT_SIDE", "96", "MODEL.MATCH.THRESHOLD", "0.0"])
    assert numbers["pairs"] == 5
    for prediction in read_cache(tmp_path / "dump/predictions.h5"):
        assert np.isnan(prediction.T_0to1).all()
        assert prediction.homography is not None
        np.testing.assert_allclose(prediction.homography, np.eye(3), atol=1e-6)
        assert len(prediction.points0) > 0
