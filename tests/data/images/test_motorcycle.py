"""The real stereo pair: the disparity's sign, side and unit, checked on the photographs themselves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from s2ld.data.images.motorcycle import StereoPair, load_motorcycle

stereo_motorcycle = pytest.importorskip("skimage.data").stereo_motorcycle


@pytest.fixture(scope="module")
def stereo() -> StereoPair:
    return load_motorcycle()


def test_it_is_what_scikit_image_loads(stereo: StereoPair) -> None:
    for ours, theirs in zip((stereo.left, stereo.right, stereo.disparity), stereo_motorcycle(), strict=True):
        assert np.array_equal(ours, theirs)


def test_block_matching_finds_the_true_disparity(stereo: StereoPair) -> None:
    """Patches of the left image are searched along the rows of the right one; `errors` must call the finds right."""
    left, right = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (stereo.left, stereo.right))
    points0, points1 = [], []
    for x, y in cv2.goodFeaturesToTrack(left, 200, 0.02, 12).reshape(-1, 2).astype(int):
        if 90 < x < left.shape[1] - 90 and 8 < y < left.shape[0] - 8:
            patch, strip = left[y - 7 : y + 8, x - 7 : x + 8], right[y - 7 : y + 8, x - 87 : x + 88]
            where = int(cv2.matchTemplate(strip, patch, cv2.TM_CCOEFF_NORMED).argmax())
            points0.append((x, y))
            points1.append((x - 80 + where, y))
    errors = stereo.errors(np.array(points0, float), np.array(points1, float))
    assert np.isfinite(errors).sum() > 80
    assert np.nanmedian(errors) < 0.5
    swapped = stereo.errors(np.array(points1, float), np.array(points0, float))
    assert np.nanmedian(swapped) > 10


def test_errors_by_hand() -> None:
    disparity = np.array([[2.0, np.inf, 3.0], [np.nan, 1.0, 4.0]])
    image, K = np.zeros((2, 3, 3), np.uint8), np.eye(3)
    pair = StereoPair(image, image, disparity, K, K)
    points0 = np.array([[0.4, 0.4], [1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [2.6, 0.0], [-0.6, 0.0]])
    points1 = np.array([[-1.6, 0.4], [0.0, 0.0], [0.0, 1.0], [1.0, 5.0], [0.0, 0.0], [0.0, 0.0]])
    assert np.allclose(pair.errors(points0, points1), [0, np.nan, np.nan, 5, np.nan, np.nan], equal_nan=True)


def test_intrinsics_agree_with_the_disparity(stereo: StereoPair) -> None:
    """Rectified cameras: a point at infinity (disparity minus its offset = 0) has equal rays in both."""
    offset = stereo.K1[0, 2] - stereo.K0[0, 2]
    assert stereo.K0[0, 0] == stereo.K1[0, 0]
    assert offset == pytest.approx(31.086)
    finite = stereo.disparity[np.isfinite(stereo.disparity)]
    depth = stereo.K0[0, 0] * 0.193001 / (finite + offset)  # metres: a garage
    assert depth.min() > 1.5
    assert depth.max() < 6
