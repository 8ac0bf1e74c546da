from __future__ import annotations

import pytest
import torch
from tiny_networks import tiny_config
from torch import Tensor, nn

from s2ld.errors import S2LDError
from s2ld.models.detector import HeatmapDetector, build_detector
from s2ld.types import Features, Keypoints

ROWS, COLUMNS = 5, 7


def detect(maps: Tensor, stride: int = 2) -> Keypoints:
    """Keypoints of (N, 2, H/s, W/s) logits and score logits, as if the convolutions had made them."""
    detector = HeatmapDetector(2, stride, 4)
    detector.maps = nn.Identity()  # type: ignore[assignment]
    keypoints: Keypoints = detector(Features(torch.zeros(0), maps))
    return keypoints


def random_maps(stride: int = 2, seed: int = 0, columns: int = COLUMNS) -> Tensor:
    step = 8 // stride
    shape = (2, 2, ROWS * step, columns * step)
    return 5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("stride", "x", "y"), [(2, 17, 9), (2, 14, 10), (2, 0, 0), (2, 1, 12), (4, 7, 4), (4, 0, 3)])
def test_one_pixel_that_stands_out_is_the_keypoint(stride: int, x: int, y: int) -> None:
    maps = torch.zeros_like(random_maps(stride))
    maps[0, 0, y, x] = 200.0
    maps[0, 1, y, x] = 2.0
    keypoints = detect(maps, stride)
    step = 8 // stride
    row, column = round(y / step), round(x / step)
    place = torch.tensor([float(stride * x), float(stride * y)])
    torch.testing.assert_close(keypoints.points[0, row * COLUMNS + column], place)
    torch.testing.assert_close(keypoints.offset[0, :, row, column], (place - 8 * torch.tensor([column, row])) / 4)
    assert float(keypoints.score[0, 0, row, column]) == pytest.approx(float(torch.sigmoid(torch.tensor(2.0))))


def test_of_two_corners_one_is_the_keypoint_and_not_the_middle() -> None:
    maps = torch.zeros(1, 2, ROWS * 4, COLUMNS * 4)
    maps[0, 0, 4, 3], maps[0, 0, 4, 6] = 30.0, 29.0  # around cell (1, 1), whose corner is fine pixel (4, 4)
    keypoints = detect(maps)
    assert keypoints.logits is not None
    assert keypoints.logits.shape == (1, ROWS * COLUMNS, 25)
    torch.testing.assert_close(keypoints.points[0, COLUMNS + 1], torch.tensor([6.0, 8.0]))
    torch.testing.assert_close(keypoints.score, torch.full_like(keypoints.score, 0.5))


def test_between_neighbouring_pixels_the_keypoint_is_their_mean() -> None:
    maps = torch.zeros(1, 2, ROWS * 4, COLUMNS * 4)
    maps[0, 0, 4, 4], maps[0, 0, 4, 5] = 30.0, 30.0
    torch.testing.assert_close(detect(maps).points[0, COLUMNS + 1], torch.tensor([9.0, 8.0]))


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("level", [0.0, -1e3, 1e3])
def test_keypoints_lie_in_the_image_and_within_half_a_cell(stride: int, level: float) -> None:
    keypoints = detect(random_maps(stride) + level, stride)
    assert float(keypoints.points.min()) >= 0
    assert float(keypoints.points[..., 0].max()) <= 8 * COLUMNS - 1
    assert float(keypoints.points[..., 1].max()) <= 8 * ROWS - 1
    assert float(keypoints.offset.abs().max()) <= 1 + 1e-6
    assert ((keypoints.score >= 0) & (keypoints.score <= 1)).all()
    corners = keypoints.points - 4 * keypoints.offset.flatten(2).transpose(1, 2)
    y, x = torch.meshgrid(torch.arange(ROWS), torch.arange(COLUMNS), indexing="ij")
    torch.testing.assert_close(corners, (8.0 * torch.stack([x, y], -1).reshape(1, -1, 2)).expand_as(corners))


def test_keypoints_move_with_the_image_by_whole_cells() -> None:
    wide = random_maps(columns=COLUMNS + 2)
    left, right = detect(wide[..., : 4 * COLUMNS]), detect(wide[..., 4 : 4 * COLUMNS + 4])
    grid = [k.points.reshape(2, ROWS, COLUMNS, 2) for k in (left, right)]
    torch.testing.assert_close(grid[0][:, :, 2:], grid[1][:, :, 1:-1] + torch.tensor([8.0, 0.0]))
    torch.testing.assert_close(left.score[..., 2:], right.score[..., 1:-1])


def test_keypoints_keep_their_precision_under_autocast() -> None:
    maps = random_maps(columns=60)  # keypoints at 480 px, where bfloat16 has steps of 2 px
    expected = detect(maps)
    with torch.autocast("cpu", torch.bfloat16):
        keypoints = detect(maps)
    assert keypoints.points.dtype == keypoints.offset.dtype == keypoints.score.dtype == torch.float32
    torch.testing.assert_close(keypoints.points, expected.points)


def test_the_whole_detector_learns() -> None:
    torch.manual_seed(0)
    detector = HeatmapDetector(6, 2, 4)
    fine = torch.randn(2, 6, ROWS * 4, COLUMNS * 4, requires_grad=True)
    keypoints = detector(Features(torch.zeros(0), fine))
    (keypoints.points.square().sum() + keypoints.score.sum()).backward()
    gradients = [fine.grad, *(p.grad for p in detector.parameters())]
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in gradients)


def test_an_unknown_detector_is_named() -> None:
    node = tiny_config("MODEL.DETECTOR.TYPE", "superpoint").MODEL.DETECTOR
    with pytest.raises(S2LDError, match=r"^MODEL\.DETECTOR\.TYPE is 'superpoint'; use regression or heatmap$"):
        build_detector(node, 8, 8, 2)
