"""The Python that the pages show runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from shifted import as_tensor, shifted_pair

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "docs/matching.md"])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("poselib")
    monkeypatch.chdir(tmp_path)
    images = shifted_pair(160, 208)
    for name, image in zip("ab", images, strict=True):
        cv2.imwrite(f"{name}.jpg", image)
    K = np.array([[200.0, 0, 104], [0, 200, 80], [0, 0, 1]])
    given = {f"images{side}": as_tensor(image).mean(0)[None, None] for side, image in enumerate(images)}
    names = {**given, "K0": K, "K1": K, "device": torch.device("cpu")}
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert len(names["matches"]) > 100
    if page == "docs/matching.md":
        assert 0 < len(names["few"]) <= 500
        assert len(names["found"]["confidence"]) > 100
