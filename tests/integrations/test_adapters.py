"""The adapters of `integrations/`, each in a stand-in of its host."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from hosts import FOLDER, GlueFactoryBase, HlocBase, VismatchBase, load_adapter
from shifted import as_tensor, share_right, shifted_pair
from torch import Tensor

from s2ld.compat import LoFTRLike
from s2ld.types import ImageBatch

PAGE = Path(__file__).parents[2] / "docs/integrations.md"


@pytest.fixture(scope="module")
def pair() -> tuple[Tensor, Tensor]:
    """Two images (3, H, W)."""
    image0, image1 = (as_tensor(image) for image in shifted_pair(160, 208))
    return image0, image1


def grey(image: Tensor) -> Tensor:
    return image.mean(0)[None, None]


def keypoints_of(net: LoFTRLike, image: Tensor) -> set[tuple[float, ...]]:
    """Return the keypoints that its network finds in one image (1, 1, H, W)."""
    with torch.no_grad():
        return {tuple(point) for point in net.network.detect(ImageBatch(image)).points[0].tolist()}


@pytest.fixture
def vismatch(monkeypatch: pytest.MonkeyPatch) -> Any:
    return load_adapter(monkeypatch, "vismatch", VismatchBase, "vismatch_s2ld", "vismatch_s2ld.py")


def test_vismatch(vismatch: Any, pair: tuple[Tensor, Tensor]) -> None:
    found = vismatch("cpu", ransac_iters=100)(1.1 * pair[0] - 0.05, pair[1])  # beyond [0, 1], as vismatch allows
    assert len(found["matched_kpts0"]) > 150
    assert share_right(*(torch.from_numpy(found[f"matched_kpts{side}"]) for side in (0, 1))) > 0.9
    assert len(found["all_kpts0"]) == len(found["all_kpts1"]) == 160 * 208 // 64
    assert len(vismatch(max_num_keypoints=9, threshold=0.1)(*pair)["matched_kpts0"]) == 9


def test_vismatch_homography(vismatch: Any) -> None:
    """The measure of vismatch's own test: the corners of a warped image, in shares of the other's sides, within 0.05.

    Of the mean over the corners, and of the largest of their coordinates' errors, which is the stricter one.
    """
    corners = np.array([[0.15, 0.35], [0.95, 0.15], [0.9, 0.7], [0.25, 0.7]])
    (height0, width0), (height1, width1) = (313, 471), (257, 339)
    original = shifted_pair(4 * height1, 4 * width1)[0]
    original = cv2.GaussianBlur(original, (0, 0), 6) // 2 + shifted_pair(4 * height1, 4 * width1, 1)[0] // 2
    large0, large1 = np.array([4 * width0, 4 * height0]), np.array([4 * width1, 4 * height1])
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    H = cv2.getPerspectiveTransform(np.float32(square * large0), np.float32(corners * large1))
    warped = cv2.warpPerspective(original, np.linalg.inv(H), tuple(map(int, large0)))
    small = [
        cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        for image, size in ((warped, (width0, height0)), (original, (width1, height1)))
    ]
    found = vismatch()(*map(as_tensor, small))
    mapped = cv2.perspectiveTransform(np.float32(square * [width0, height0])[:, None], found["H"])[:, 0]
    error = np.abs(mapped / [width1, height1] - corners)
    assert np.linalg.norm(error, axis=1).mean() < 0.05
    assert error.max() < 0.05


def test_hloc_refines_image_0(monkeypatch: pytest.MonkeyPatch, pair: tuple[Tensor, Tensor]) -> None:
    """hloc's query is image 0; its map's points of image 1 must be the same whatever the query."""
    adapter = load_adapter(monkeypatch, "hloc.utils.base_model", HlocBase, "hloc.matchers.s2ld", "hloc_s2ld.py")
    model = adapter({"name": "s2ld"}).eval()
    keypoints = keypoints_of(model.net, grey(pair[1]))
    for query in (pair[0], pair[0].flip(0)):
        found = model({"image0": grey(query), "image1": grey(pair[1])})
        assert set(found) == {"keypoints0", "keypoints1", "scores"}
        assert len(found["scores"]) > 150
        assert share_right(found["keypoints0"], found["keypoints1"]) > 0.9
        assert {tuple(point) for point in found["keypoints1"].tolist()} <= keypoints
        assert len({tuple(point) for point in found["keypoints0"].tolist()} & keypoints_of(model.net, grey(query))) < 9
    few = adapter({"name": "s2ld", "match_threshold": 0.5, "max_num_matches": 6})
    assert len(few({"image0": grey(pair[0]), "image1": grey(pair[1])})["scores"]) == 6


def test_imcui_heeds_its_sliders(monkeypatch: pytest.MonkeyPatch, pair: tuple[Tensor, Tensor]) -> None:
    host = "imcui.hloc.utils.base_model"
    model = load_adapter(monkeypatch, host, HlocBase, "imcui.hloc.matchers.s2ld", "imcui_s2ld.py")({"name": "s2ld"})
    data = {"image0": grey(pair[0]), "image1": grey(pair[1])}
    every = model(data)
    assert share_right(every["keypoints0"], every["keypoints1"]) > 0.9
    model.conf["max_keypoints"] = 8
    best = model(data)["scores"]
    assert best.sort().values.equal(every["scores"].topk(8).values.sort().values)
    model.conf["max_keypoints"], model.conf["match_threshold"] = -1, float(every["scores"].median())
    assert len(every["scores"]) // 2 - 1 <= len(model(data)["scores"]) <= len(every["scores"]) // 2


def test_glue_factory(monkeypatch: pytest.MonkeyPatch, pair: tuple[Tensor, Tensor]) -> None:
    adapter = load_adapter(
        monkeypatch, "gluefactory.models", GlueFactoryBase, "gluefactory_s2ld", "gluefactory_s2ld.py"
    )
    model = adapter({"name": "gluefactory_s2ld"}).eval()
    assert model.is_initialized()
    found = model({"view0": {"image": pair[0][None]}, "view1": {"image": pair[1][None]}})
    count = found["matches0"].shape[1]
    assert count > 150
    for side in "01":
        assert found[f"matches{side}"].tolist() == [list(range(count))]
        assert found[f"keypoints{side}"].shape == (1, count, 2)
        assert found[f"keypoint_scores{side}"].shape == found[f"matching_scores{side}"].shape == (1, count)
    assert share_right(found["keypoints0"][0], found["keypoints1"][0]) > 0.9
    plain = model.net({"image0": pair[0][None], "image1": pair[1][None]})
    assert found["keypoints0"][0].equal(plain["keypoints0"] + 0.5)
    with pytest.raises(NotImplementedError, match="s2ld train"):
        model.loss({}, {})


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_python_for_vismatch_runs(vismatch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_files(self: VismatchBase, path0: str, path1: str) -> dict[str, Any]:
        images = (cv2.imread(path)[..., ::-1].astype(np.uint8) for path in (path0, path1))
        found = VismatchBase.forward(self, *map(as_tensor, images))
        return {**found, "matched_confidences": None}

    monkeypatch.setattr(vismatch, "forward", of_files)
    module = ModuleType("vismatch_s2ld")
    module.S2LDMatcher = vismatch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vismatch_s2ld", module)
    monkeypatch.chdir(tmp_path)
    for name, image in zip("ab", shifted_pair(96, 128), strict=True):
        cv2.imwrite(f"{name}.jpg", image)
    names: dict[str, Any] = {}
    exec(blocks("python")[0].replace("cuda", "cpu"), names)
    assert names["result"]["H"].shape == (3, 3)


def test_the_settings_that_the_page_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo, evaluation = (yaml.safe_load(block) for block in blocks("yaml"))
    assert zoo["s2ld"]["matcher"] == "s2ld"
    assert zoo["s2ld"]["standalone"] is True
    path = "gluefactory_s2ld.py"
    assert evaluation["model"]["matcher"] == {"name": path.removesuffix(".py")}
    load_adapter(monkeypatch, "gluefactory.models", GlueFactoryBase, "gluefactory_s2ld", path)(
        evaluation["model"]["matcher"]
    )
    confs = [ast.literal_eval("{" + blocks("python")[1] + "}")["s2ld"]]
    confs.append(ast.literal_eval(blocks("python")[2].partition("conf = ")[2].partition("\n}\n")[0] + "}"))
    for conf in confs:
        assert conf["model"] == {"name": "s2ld"}
        assert {"output", "preprocessing", "max_error", "cell_size"} == set(conf) - {"model"}


def test_each_adapter_is_short_and_on_its_page() -> None:
    page = PAGE.read_text()
    adapters = sorted(FOLDER.glob("*.py"))
    assert len(adapters) == 4
    for path in adapters:
        assert f"integrations/{path.name}" in page
        assert len(path.read_text().splitlines()) <= 50
