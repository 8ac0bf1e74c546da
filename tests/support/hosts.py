"""What our adapters need of their hosts, written from the hosts' interface, and adapters loaded into it."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from inspect import getmembers, isclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[2] / "integrations"


class VismatchBase(nn.Module):
    """vismatch: `_forward` of two images (3, H, W) returns seven values, which `forward` checks and fits H to."""

    def __init__(self, device: str = "cpu", **options: Any) -> None:
        super().__init__()
        assert set(options) <= {"ransac_iters", "ransac_conf", "ransac_reproj_thresh"}
        self.device = device

    @torch.inference_mode()
    def forward(self, image0: Tensor, image1: Tensor) -> dict[str, Any]:
        matched0, matched1, all0, all1, described0, described1, confidence = self._forward(image0, image1)
        for points in (matched0, matched1, all0, all1):
            assert isinstance(points, np.ndarray | Tensor)
            assert points.ndim == 2
            assert points.shape[1] == 2
        assert len(matched0) == len(matched1) == len(confidence)
        assert described0 is described1 is None
        H = cv2.findHomography(np.asarray(matched0), np.asarray(matched1), cv2.USAC_MAGSAC, 3)[0]
        return {"matched_kpts0": matched0, "matched_kpts1": matched1, "all_kpts0": all0, "all_kpts1": all1, "H": H}


class HlocBase(nn.Module):
    """hloc and imcui: `_init` of the conf over `default_conf`, `_forward` of `required_inputs`."""

    default_conf: ClassVar[dict[str, Any]] = {}
    required_inputs: ClassVar[list[str]] = []

    def __init__(self, conf: dict[str, Any]) -> None:
        super().__init__()
        self.conf = {**self.default_conf, **conf}
        self._init(self.conf)

    def forward(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        assert all(key in data for key in self.required_inputs)
        found: dict[str, Tensor] = self._forward(data)
        return found


class GlueFactoryBase(nn.Module):
    """glue-factory: a conf with attributes, in which other names are errors; evaluated once its weights are there."""

    default_conf: ClassVar[dict[str, Any]] = {}
    required_data_keys: ClassVar[list[str]] = []
    are_weights_initialized = False

    def __init__(self, conf: dict[str, Any]) -> None:
        super().__init__()
        known = {"name": None, "trainable": True, **self.default_conf}
        assert set(conf) <= set(known)
        self.conf = SimpleNamespace(**{**known, **conf})
        self._init(self.conf)

    def is_initialized(self) -> bool:
        return self.are_weights_initialized

    def forward(self, data: dict[str, Any]) -> dict[str, Tensor]:
        assert all(key in data for key in self.required_data_keys)
        found: dict[str, Tensor] = self._forward(data)
        return found


def load_adapter(monkeypatch: pytest.MonkeyPatch, host: str, base: type[nn.Module], name: str, path: str) -> Any:
    """Return the one class of `integrations/path` for its base, loaded as module `name` beside a host that has `base`.

    Args:
        monkeypatch: of the test, after which all this is forgotten.
        host: module that the adapter imports the base from.
        base: what it imports.
        name: of the module, as the host would import it.
        path: file name of the adapter.
    """
    parts = host.split(".")
    for end in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    exported = "BaseMatcher" if host == "vismatch" else "BaseModel"
    setattr(sys.modules[host], exported, base)
    spec = spec_from_file_location(name, FOLDER / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = [one for _, one in getmembers(module, isclass) if one.__module__ == name and issubclass(one, base)]
    return found
