"""S2LD as a matcher of imcui (github.com/Vincentqyw/image-matching-webui); hung in as docs/integrations.md says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imcui.hloc.utils.base_model import BaseModel
from torch import Tensor

from s2ld.compat import LoFTRLike


class S2LD(BaseModel):
    """Heeds the page's sliders, which change its `conf` between calls."""

    default_conf = {"weights": "s2ld-lite", "match_threshold": None, "max_keypoints": None}  # noqa: RUF012
    required_inputs = ["image0", "image1"]  # noqa: RUF012

    def _init(self, conf: Mapping[str, Any]) -> None:
        self.net = LoFTRLike(conf["weights"])

    def _forward(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        most = self.conf["max_keypoints"]
        self.net.threshold, self.net.top_k = self.conf["match_threshold"], most if most and most > 0 else None
        found = self.net({"image0": data["image0"], "image1": data["image1"]})
        return {
            "keypoints0": found["keypoints0"],
            "keypoints1": found["keypoints1"],
            "scores": found["confidence"],
        }
