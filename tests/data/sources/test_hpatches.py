"""A tiny folder in the form of hpatches-sequences-release."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.config import CN, build_config
from s2ld.data.sources.by_name import build_source
from s2ld.data.sources.hpatches import LARGE, HPatchesPairs
from s2ld.errors import S2LDError
from s2ld.geometry.homography import apply_homography

H = np.array([[0.9, 0.1, 6.0], [-0.05, 1.1, 3.0], [1e-4, 2e-4, 1.0]])


def config(root: Path, *overrides: object) -> CN:
    return build_config([], [str(item) for item in ("DATA.HPATCHES.ROOT", root, *overrides)])


def write_sequence(folder: Path, suffix: str = ".ppm", size: tuple[int, int] = (120, 90)) -> None:
    """Image k is image 1 warped by H to the power k - 1."""
    folder.mkdir(parents=True)
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    first = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    for k in range(1, 7):
        power = np.linalg.matrix_power(H, k - 1)
        cv2.imwrite(str(folder / f"{k}{suffix}"), cv2.warpPerspective(first, power, size))
        if k > 1:
            np.savetxt(folder / f"H_1_{k}", power)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("v_wall", "i_lamp", "v_talent"):
        write_sequence(tmp_path / name)
    (tmp_path / "README").write_text("not a sequence")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_pairs_of_each_subset(root: Path) -> None:
    def sources(*overrides: object) -> list[str]:
        pairs = HPatchesPairs(config(root, "DATA.HPATCHES.SHORT_SIDE", 48, *overrides).DATA)
        return [pairs[index].source for index in range(len(pairs))]

    assert sources() == ["hpatches/illumination"] * 5 + ["hpatches/viewpoint"] * 5
    assert sources("DATA.HPATCHES.SUBSET", "illumination") == ["hpatches/illumination"] * 5
    with_large = sources("DATA.HPATCHES.SKIP_LARGE", False, "DATA.HPATCHES.SUBSET", "viewpoint")
    assert with_large == ["hpatches/viewpoint"] * 10
    assert len(LARGE) == 8
    assert len(build_source("hpatches", config(root, "DATA.TEST_PAIRS", 3), "test")) == 3


@pytest.mark.parametrize(
    ("short_side", "multiple", "shape"), [(48, 8, (48, 64)), (52, 8, (48, 64)), (0, 8, (88, 120)), (0, 1, (90, 120))]
)
def test_the_homography_is_in_resized_px(root: Path, short_side: int, multiple: int, shape: tuple[int, int]) -> None:
    overrides = ("DATA.HPATCHES.SHORT_SIDE", short_side, "DATA.POSED_PAIRS.MULTIPLE", multiple)
    sample = HPatchesPairs(config(root, *overrides).DATA)[6]
    assert (sample.view0.name, sample.view1.name) == ("v_wall/1.ppm", "v_wall/3.ppm")
    assert sample.view0.image.shape[1:] == sample.view1.image.shape[1:] == shape
    assert sample.view0.scale == (120 / shape[1], 90 / shape[0])
    assert sample.view0.K.tolist() == [[shape[1], 0, (shape[1] - 1) / 2], [0, shape[1], (shape[0] - 1) / 2], [0, 0, 1]]
    assert sample.T_0to1.shape == (4, 4)
    assert sample.T_0to1.isnan().all()
    assert sample.homography is not None
    # slowly: to image px with pixel edges aligned, by the homography of the file, and back
    points = torch.tensor([[0.0, 0.0], [30.0, 20.0], [50.0, 44.0]], dtype=torch.float64)
    scale = torch.tensor(sample.view0.scale, dtype=torch.float64)
    there = apply_homography(torch.from_numpy(H @ H), (points + 0.5) * scale - 0.5)
    expected = (there + 0.5) / scale - 0.5
    torch.testing.assert_close(apply_homography(sample.homography, points.float()), expected.float(), atol=1e-3, rtol=0)


def test_the_homography_maps_grey_values(root: Path) -> None:
    sample = HPatchesPairs(config(root, "DATA.HPATCHES.SHORT_SIDE", 48).DATA)[5]
    assert sample.homography is not None
    first, second = (view.image[0].numpy() for view in (sample.view0, sample.view1))
    warped = cv2.warpPerspective(first, sample.homography.numpy(), first.shape[::-1])
    inside = cv2.warpPerspective(np.ones_like(first), sample.homography.numpy(), first.shape[::-1]) > 0.99
    assert np.abs(warped - second)[inside].mean() < 0.01
    assert inside.mean() > 0.5


def test_other_image_files_are_found(tmp_path: Path) -> None:
    write_sequence(tmp_path / "v_png", ".png")
    assert HPatchesPairs(config(tmp_path).DATA)[0].view0.name == "v_png/1.png"


def test_what_is_wrong_is_said_in_one_line(root: Path) -> None:
    def fails(folder: Path, *overrides: object) -> str:
        with pytest.raises(S2LDError) as error:
            HPatchesPairs(config(folder, *overrides).DATA)[0]
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "set DATA.HPATCHES.ROOT" in fails(root / "absent")
    assert "no sequence of DATA.HPATCHES.SUBSET 'all'" in fails(root / "other")
    lamp = root / "i_lamp"
    for text, words in (
        ("1 0 0 0 1 0 0 0", "must hold 3 rows of 3 numbers"),
        ("one 0 0 0 1 0 0 0 1", "must hold 3 rows of 3 numbers"),
        ("1 0 0 2 0 0 0 0 1", "not an invertible homography"),
        ("nan 0 0 0 1 0 0 0 1", "not an invertible homography"),
    ):
        (lamp / "H_1_4").write_text(text)
        assert f"{lamp / 'H_1_4'}: {words}" in fails(root)
    (lamp / "H_1_4").unlink()
    assert "H_1_4: cannot read this matrix" in fails(root)
    np.savetxt(lamp / "H_1_4", H)
    (lamp / "1.ppm").unlink()
    assert f"{lamp / '1'}: no such image" in fails(root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_it_is_for_tests_only(root: Path, split: str) -> None:
    with pytest.raises(S2LDError, match=f"hpatches have no poses.*{split.upper()}_SOURCES"):
        build_source("hpatches", config(root), split)  # type: ignore[arg-type]
