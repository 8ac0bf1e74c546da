"""S2LD as a matcher of glue-factory (github.com/cvg/glue-factory); hung in as docs/integrations.md says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from gluefactory.models import BaseModel
from torch import Tensor

from s2ld.compat import LoFTRLike


class S2LD(BaseModel):
    """Matches one pair at a time, as glue-factory's evaluations do."""

    default_conf = {"weights": "s2ld-lite", "threshold": None, "max_num_matches": None}  # noqa: RUF012
    required_data_keys = ["view0", "view1"]  # noqa: RUF012
    are_weights_initialized = True

    def _init(self, conf: Any) -> None:
        self.net = LoFTRLike(conf.weights, conf.threshold, conf.max_num_matches)

    def _forward(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        found = self.net({f"image{side}": data[f"view{side}"]["image"] for side in (0, 1)})
        scores = found["confidence"][None]
        prediction = {}
        for side in "01":
            prediction[f"keypoints{side}"] = found[f"keypoints{side}"][None] + 0.5  # its pixel centres are at 0.5
            prediction[f"keypoint_scores{side}"] = prediction[f"matching_scores{side}"] = scores
            prediction[f"matches{side}"] = torch.arange(scores.shape[1], device=scores.device)[None]
        return prediction

    def loss(self, pred: Any, data: Any) -> NoReturn:
        """Refuse: training is `s2ld train`."""
        raise NotImplementedError("S2LD is trained by: s2ld train")
