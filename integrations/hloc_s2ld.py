"""S2LD as a dense matcher of hloc (github.com/cvg/Hierarchical-Localization); hung in as docs/integrations.md says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hloc.utils.base_model import BaseModel
from torch import Tensor

from s2ld.compat import LoFTRLike


class S2LD(BaseModel):
    """Refines the points of image 0, as hloc expects: those of image 1 are keypoints, the same in every pair."""

    default_conf = {"weights": "s2ld-lite", "match_threshold": None, "max_num_matches": None}  # noqa: RUF012
    required_inputs = ["image0", "image1"]  # noqa: RUF012

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.net = LoFTRLike(conf["weights"], conf["match_threshold"], conf["max_num_matches"])

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.net({"image0": data["image1"], "image1": data["image0"]})
        return {
            "keypoints0": found["keypoints1"],
            "keypoints1": found["keypoints0"],
            "scores": found["confidence"],
        }
