"""The public matcher: any image in, points in its own pixels out, and one line for what is no image."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from s2ld import Matcher, S2LDError
from s2ld.config import build_config
from s2ld.matcher import choose_device, to_array
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD
from s2ld.types import (
    CoarseMatches,
    EncodedPair,
    Extracted,
    Features,
    FineMatches,
    ImageBatch,
    ImageFeatures,
    Keypoints,
    Matches,
    Prediction,
)

LITE = Path(__file__).parents[1] / "configs/s2ld/outdoor/s2ld_lite.yaml"


class FixedNetwork(nn.Module):
    """Finds the same three matches, in resized px, in every pair, and remembers what it was shown."""

    points0 = torch.tensor([[0.0, 0.0], [15.5, 7.25], [31.0, 23.0]])
    points1 = torch.tensor([[1.0, 2.0], [3.0, 4.0], [-0.5, -0.5]])

    def __init__(self) -> None:
        super().__init__()
        self.sparse_matching = nn.Identity()
        self.config = build_config([LITE]).MODEL
        self.shown: list[Tensor] = []

    def detect(self, images: ImageBatch) -> Keypoints:
        self.shown.append(images.image)
        score = torch.tensor([0.2, 0.9, 0.5])
        return Keypoints(torch.zeros(1, 2, 1, 3), score.view(1, 1, 1, 3), self.points0[None])

    def forward(self, images0: ImageBatch, images1: ImageBatch) -> Prediction:
        keypoints = self.detect(images0), self.detect(images1)
        features = Features(torch.zeros(0), torch.zeros(0))
        encoded = EncodedPair(features, features, *keypoints, torch.zeros(0), torch.zeros(0))
        cell = torch.arange(3)
        coarse = CoarseMatches(torch.zeros_like(cell), cell, cell, torch.tensor([0.3, 0.6, 0.9]))
        fine = FineMatches(self.points0, self.points1, torch.zeros(3, 3), torch.tensor([0.1, 0.2, 0.3]))
        return Prediction(encoded, torch.zeros(1, 3, 3), coarse, fine)


def fixed(**options: Any) -> Matcher:
    return Matcher(FixedNetwork(), device="cpu", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lite() -> S2LD:
    torch.manual_seed(3)
    return S2LD(build_config([LITE]).MODEL)


@pytest.fixture(scope="module")
def matcher(lite: S2LD) -> Matcher:
    return Matcher(lite, threshold=0.0, max_side=128, device="cpu")


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (max(1, height // 6), max(1, width // 6), 3), np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def test_points_come_back_with_pixel_edges_aligned() -> None:
    matches = fixed(size=(32, 24))(np.zeros((240, 64), np.uint8), np.zeros((24, 32, 3), np.uint8))
    assert np.allclose(matches.points0, [[0.5, 4.5], [31.5, 77.0], [62.5, 234.5]])  # scale 2 and 10: (p + ½) s − ½
    assert np.allclose(matches.points1, FixedNetwork.points1)  # scale 1
    assert np.allclose(matches.confidence, [0.3, 0.6, 0.9])
    assert np.allclose(matches.score, [0.1, 0.2, 0.3])
    assert {a.dtype for a in (matches.points0, matches.points1, matches.confidence, matches.score)} == {
        np.dtype("float32")
    }


def test_a_dot_is_found_where_it_is() -> None:
    """The resized image and the returned coordinates belong together: a dot's centre of mass survives the way back."""
    image = np.zeros((301, 403), np.uint8)
    image[100:113, 200:217] = 255  # centre (208, 106)
    shown = fixed(max_side=200)
    shown(image, image)
    network = shown.model
    assert isinstance(network, FixedNetwork)
    small = network.shown[0][0, 0]
    y, x = (small.sum(1) * torch.arange(small.shape[0])).sum(), (small.sum(0) * torch.arange(small.shape[1])).sum()
    centre = torch.stack([x, y]) / small.sum()
    network.points0 = centre[None].expand(3, 2)
    assert np.allclose(shown(image, image).points0, [208, 106], atol=0.02)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (640, 480)),
        ({"max_side": 100}, (96, 72)),
        ({"max_side": -1}, (1200, 896)),
        ({"size": (321, 250)}, (320, 248)),
    ],
)
def test_size_the_network_sees(options: dict[str, Any], expected: tuple[int, int]) -> None:
    matcher = fixed(**options)
    matcher(np.zeros((900, 1200), np.uint8), np.zeros((900, 1200), np.uint8))
    assert isinstance(matcher.model, FixedNetwork)
    assert matcher.model.shown[0].shape == (1, 1, expected[1], expected[0])
    assert matcher.resized_size(1200, 900) == expected


def test_all_keypoints_come_with_the_matches(matcher: Matcher) -> None:
    found = fixed(size=(32, 24))(np.zeros((240, 64), np.uint8), np.zeros((24, 32), np.uint8))
    assert np.allclose(found.keypoints0, [[0.5, 4.5], [31.5, 77.0], [62.5, 234.5]])
    assert np.allclose(found.keypoints1, FixedNetwork.points0)
    matches = matcher(photo(96, 128), photo(131, 77, seed=1))
    cells = [width * height // 64 for width, height in (matcher.resized_size(128, 96), matcher.resized_size(77, 131))]
    assert [len(matches.keypoints0), len(matches.keypoints1)] == cells
    assert {tuple(point) for point in matches.points0} <= {tuple(point) for point in matches.keypoints0}
    assert repr(matches).startswith(f"Matches({len(matches)} of {cells[0]} and {cells[1]} keypoints, confidence 0.")
    none = np.zeros((0, 2), np.float32)
    assert repr(Matches(none, none, none[:, 0], none[:, 0])) == "Matches(0 of 0 and 0 keypoints)"


def test_the_most_confident_matches_stay_in_their_order(matcher: Matcher, lite: S2LD) -> None:
    image0, image1 = photo(96, 128), photo(96, 128, seed=1)
    every = matcher(image0, image1)
    keep = np.sort(np.argsort(-every.confidence, kind="stable")[:5])
    five = Matcher(lite, 0.0, 128, "cpu", top_k=5)
    for matches in (five(image0, image1), matcher(image0, image1, top_k=5), every.top(5)):
        assert np.array_equal(matches.points1, every.points1[keep])
        assert np.array_equal(matches.confidence, every.confidence[keep])
        assert np.array_equal(matches.keypoints1, every.keypoints1)
    assert len(five(image0, image1, top_k=7)) == 7
    assert len(five.match(five.extract(image0), five.extract(image1))) == 5
    assert len(every.top(10**6)) == len(every)


@pytest.mark.parametrize("overrides", [[], ["MODEL.CONSENSUS.ENABLED", "False"]])
def test_a_threshold_of_a_call_is_as_that_of_a_matcher(overrides: list[str]) -> None:
    torch.manual_seed(3)
    network = S2LD(build_config([LITE], overrides).MODEL)
    image0, image1 = photo(96, 128), photo(96, 128, seed=1)
    low, high = (Matcher(network, threshold, 128, "cpu") for threshold in (0.0, 0.9))
    every = low(image0, image1)
    limit = float(np.median(every.confidence))
    expected = Matcher(network, limit, 128, "cpu")(image0, image1)
    assert 0 < len(expected) < len(every)
    for matcher in (low, high):  # a higher one, and a lower one than its own
        own = len(matcher(image0, image1))
        pair = matcher.extract(image0), matcher.extract(image1)
        calls = [matcher(image0, image1, threshold=limit), matcher.match(*pair, threshold=limit)]
        for found in (*calls, *matcher.match_many([pair], threshold=limit)):
            assert len(found) == len(expected)
            assert np.allclose(found.points1, expected.points1, atol=1e-3)
        assert len(matcher(image0, image1)) == own, "a call leaves the matcher as it is"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_batches_of_tensors(matcher: Matcher, channels: int, dtype: torch.dtype) -> None:
    arrays = [photo(96, 128, seed=seed)[..., :channels] for seed in range(4)]
    tensors = torch.stack([torch.from_numpy(array).permute(2, 0, 1) for array in arrays])
    given = tensors if dtype == torch.uint8 else tensors / 255
    expected = [matcher(arrays[0], arrays[2]), matcher(arrays[1], arrays[3])]
    found = matcher.match_batch(given[:2], given[2:])
    for one, other in zip([*found, matcher(given[:1], given[2:3])], [*expected, expected[0]], strict=True):
        assert len(one) == len(other) > 0
        assert np.allclose(one.points1, other.points1, atol=1e-3)
    assert [len(one) for one in matcher.match_batch(given[:2], given[2:], top_k=3)] == [3, 3]
    assert matcher.match_batch(given[:0], given[:0]) == []
    with pytest.raises(S2LDError, match=r"image0: a batch of 2 images; Matcher\.match_batch"):
        matcher(given[:2], given[2:])
    with pytest.raises(S2LDError, match="2 images and 1 make no pairs"):
        matcher.match_batch(given[:2], given[2:3])


def test_detect_orders_by_score() -> None:
    points, score = fixed(size=(32, 24)).detect(np.zeros((48, 64), np.uint8))
    assert np.allclose(score, [0.9, 0.5, 0.2])
    assert np.allclose(points, [[31.5, 15.0], [62.5, 46.5], [0.5, 0.5]])


def test_every_form_of_an_image_gives_the_same_matches(matcher: Matcher, tmp_path: Path) -> None:
    image = photo(96, 128)
    path = tmp_path / "a b.png"
    cv2.imwrite(str(path), image[..., ::-1])
    pillow = pytest.importorskip("PIL.Image")
    alpha = np.concatenate([image, np.full_like(image[..., :1], 9)], 2)
    forms = [
        path,
        str(path),
        alpha,
        image / 255,
        (image / 255).astype(np.float32),
        image.astype(np.uint16) * 257,
        image[:, ::-1][:, ::-1],
        torch.from_numpy(image).permute(2, 0, 1),
        torch.from_numpy(image).permute(2, 0, 1) / 255,
        pillow.fromarray(image),
        pillow.fromarray(alpha),
    ]
    expected = matcher(image, image)
    assert len(expected) > 10
    for form in forms:
        found = matcher(form, image)
        assert np.allclose(found.points0, expected.points0)
        assert np.allclose(found.points1, expected.points1, atol=1e-4)


def test_grey_forms_agree() -> None:
    grey = photo(40, 48)[..., 0]
    pillow = pytest.importorskip("PIL.Image")
    for form in (grey[..., None], torch.from_numpy(grey), torch.from_numpy(grey)[None], pillow.fromarray(grey)):
        assert np.array_equal(to_array(form), grey)
    assert np.array_equal(to_array(grey > 99), np.where(grey > 99, 255, 0))
    assert np.array_equal(to_array(pillow.fromarray(grey > 99)), np.where(grey > 99, 255, 0)[..., None].repeat(3, 2))


def test_every_mode_of_pillow_is_the_same_picture() -> None:
    """In full depth, and not clipped to 8 bits."""
    pillow = pytest.importorskip("PIL.Image")
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    wide = grey.astype(np.uint16) * 257
    for mode, array in {
        "I;16": wide,
        "I;16B": wide.astype(">u2"),
        "I": wide.astype(np.int32),
        "F": (grey / 255).astype(np.float32),
    }.items():
        form = pillow.fromarray(array)
        assert form.mode == mode
        assert np.array_equal(to_array(form), grey), mode
    for array in (grey.astype(np.int32), grey.astype(np.float32)):  # 8 bits in a wider mode
        assert np.array_equal(to_array(pillow.fromarray(array)), grey)
    assert np.array_equal(to_array(pillow.fromarray(grey).convert("LA"))[..., 0], grey)


def test_files_pillow_images_and_arrays_of_little_range_are_alike(tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    narrow = 7400 + photo(40, 48)[..., 0].astype(np.uint16)
    pillow.fromarray(narrow).save(tmp_path / "a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = to_array(narrow)
        assert (expected.min(), expected.max()) == (0, 255)
        for form in (pillow.fromarray(narrow), narrow.astype(np.int32), torch.from_numpy(narrow)):
            assert np.array_equal(to_array(form), expected)
        assert np.array_equal(to_array(tmp_path / "a.tif")[..., 0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_what_a_type_rounds_beyond_one_is_clipped(dtype: torch.dtype) -> None:
    image = torch.linspace(0, 1, 64, dtype=torch.float64).view(1, 8, 8).to(dtype)
    image[0, 0, 0], image[0, -1, -1] = -torch.finfo(dtype).eps, 1 + torch.finfo(dtype).eps
    found = to_array(image)
    assert (found[0, 0], found[-1, -1]) == (0, 255)
    assert np.abs(found - image[0].double().numpy() * 255).max() <= 2.5
    with pytest.raises(S2LDError, match=r"float pixels must be in \[0, 1\], but these are in \[.*, 1\.0[567]"):
        to_array(image * 1.06)


@pytest.mark.parametrize(
    ("size0", "size1"),
    [((96, 128), (131, 77)), ((1, 1), (96, 128)), ((10000, 30), (50, 61)), ((3, 9), (9, 3)), ((40, 10000), (1, 7))],
)
def test_any_two_sizes(matcher: Matcher, size0: tuple[int, int], size1: tuple[int, int]) -> None:
    matches = matcher(photo(*size0), photo(*size1, seed=1))
    assert matches.points0.shape == matches.points1.shape == (len(matches), 2)
    assert np.isfinite(matches.points0).all()
    assert np.isfinite(matches.points1).all()
    for points, (height, width) in ((matches.points0, size0), (matches.points1, size1)):
        margin = 0.5 + 0.1 * max(width, height)  # point 1 may leave the image by half a fine window
        assert (points >= -margin).all()
        assert (points <= np.array([width, height]) + margin).all()


def test_threshold_picks_a_subset_and_same_input_same_output(lite: S2LD) -> None:
    image0, image1 = photo(96, 128), photo(96, 128, seed=1)
    all_of_them = Matcher(lite, 0.0, 128, "cpu")(image0, image1)
    limit = float(np.median(all_of_them.confidence))
    fewer = Matcher(lite, limit, 128, "cpu")(image0, image1)
    keep = all_of_them.confidence > limit
    assert 0 < keep.sum() < len(all_of_them)
    assert np.array_equal(fewer.points0, all_of_them.points0[keep])
    assert np.allclose(fewer.points1, all_of_them.points1[keep], atol=1e-4)


def test_features_are_extracted_once_an_image(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ((96, 128), (96, 128), (131, 77), (96, 128), (60, 60))
    images = [photo(*size, seed=i) for i, size in enumerate(sizes)]
    pairs = list(combinations(range(len(images)), 2))
    expected = [matcher(images[i], images[j]) for i, j in pairs]
    passes: list[int] = []
    handle = matcher.model.backbone.register_forward_pre_hook(lambda _, shown: passes.append(len(shown[0])))
    extracted = [matcher.extract(image) for image in images]
    found = [matcher.match(extracted[i], extracted[j]) for i, j in pairs]
    handle.remove()
    assert passes == [1] * len(images)
    for one, other in zip(found, expected, strict=True):
        assert len(one) > 0
        for name in ("points0", "points1", "confidence", "score"):
            assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-3)


@pytest.mark.parametrize("descriptors", ["False", "True"])
def test_many_pairs_at_once_match_as_one_by_one(descriptors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    config = build_config([LITE], ["MODEL.DESCRIPTORS", descriptors])
    matcher = Matcher(S2LD(config.MODEL), threshold=0.0, max_side=128, device="cpu")
    sizes = ((96, 128), (192, 256), (131, 77), (96, 128), (60, 60), (120, 120))  # of which three and two are seen alike
    extracted = [matcher.extract(photo(*size, seed=i)) for i, size in enumerate(sizes)]
    pairs = [*combinations(extracted, 2), (extracted[0], extracted[0])]
    expected = [matcher.match(*pair) for pair in pairs]
    batches: list[int] = []
    handle = matcher.model.s2ld_coarse.register_forward_pre_hook(lambda _, shown: batches.append(len(shown[0])))
    found = matcher.match_many(pairs, batch=3)
    handle.remove()
    assert sum(batches) == len(pairs)
    assert sorted(set(batches)) == [1, 2, 3]
    assert len({len(one) for one in expected}) > 3
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other) > 0
        for name in vars(one):
            if getattr(other, name) is not None:
                assert np.allclose(getattr(one, name), getattr(other, name), atol=1e-3), name
    assert (found[0].descriptors1 is None) == (descriptors == "False")
    assert matcher.match_many([]) == []
    with pytest.raises(S2LDError, match="batch must be at least 1 pair, not 0"):
        matcher.match_many(pairs, batch=0)


def test_no_more_pairs_at_once_than_memory_holds(matcher: Matcher, monkeypatch: pytest.MonkeyPatch) -> None:
    side = matcher.extract(photo(96, 128))
    batches: list[int] = []
    handle = matcher.model.s2ld_coarse.register_forward_pre_hook(lambda _, shown: batches.append(len(shown[0])))
    leave_memory(monkeypatch, 2 * matcher._memory_needed([(128, 96)] * 2) + 1)
    matcher.match_many([(side, side)] * 5, batch=4)
    handle.remove()
    assert batches == [2, 2, 1]
    leave_memory(monkeypatch, 1000)
    with pytest.raises(S2LDError, match="128 x 96 px with 128 x 96 px takes"):
        matcher.match_many([(side, side)], batch=4)


def test_descriptors_when_the_config_asks() -> None:
    config = build_config([LITE], ["MODEL.DESCRIPTORS", "True"])
    torch.manual_seed(0)
    matches = Matcher(S2LD(config.MODEL), 0.0, 128, "cpu")(photo(96, 128), photo(96, 128))
    channels = config.MODEL.BACKBONE.DIMS[-1] + config.MODEL.BACKBONE.FINE_DIM
    assert matches.descriptors0 is not None
    assert matches.descriptors1 is not None
    assert matches.descriptors0.shape == matches.descriptors1.shape == (len(matches), channels)


def cut_short() -> Image.Image:
    """A Pillow image whose file is incomplete, which Pillow finds out when it needs the pixels."""
    file = io.BytesIO()
    Image.fromarray(photo(96, 128)).save(file, "PNG")
    return Image.open(io.BytesIO(file.getvalue()[:2000]))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("missing.png", "missing.png: cannot read"),
        (3, "a int is no image"),
        (None, "a NoneType is no image"),
        (np.zeros((4, 5, 2), np.uint8), r"shape \(4, 5, 2\)"),
        (np.zeros((4,), np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 5), np.uint8), r"shape \(0, 5\)"),
        (torch.zeros(5, 6, 3), r"shape \(5, 6, 3\) is no image; give \(H, W\) or \(C, H, W\)"),
        (np.full((4, 5), 200.0), r"float pixels must be in \[0, 1\]"),
        (np.full((4, 5), -0.5), r"in \[-0.5, -0.5\]"),
        (np.full((4, 5), np.nan), "NaN or infinite"),
        (np.zeros((4, 5), np.int64), "pixels of type int64"),
        (np.array([["a"]]), "pixels of type <U1"),
        (torch.zeros(4, 5, device="meta"), "a tensor without plain values"),
        (torch.zeros(4, 5).to_sparse(), "a tensor without plain values"),
        (torch.zeros(4, 5, dtype=torch.complex64), "pixels of type complex64"),
        (Image.new("RGB", (0, 5)), r"shape \(5, 0, 3\) is no image|cannot be read"),
        (cut_short(), "this Pillow image cannot be read"),
        ("a\0b.png", "null byte"),
    ],
)
def test_what_is_no_image_is_said_in_one_line(image: Any, words: str) -> None:
    with pytest.raises(S2LDError, match=words) as caught:
        fixed()(image, np.zeros((8, 8), np.uint8))
    assert "\n" not in str(caught.value)
    with pytest.raises(S2LDError, match=words):
        fixed().detect(image)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 1.0}, "threshold must be in"),
        ({"threshold": -0.1}, "threshold must be in"),
        ({"threshold": float("nan")}, "threshold must be in"),
        ({"max_side": 7}, "max_side must be at least 8"),
        ({"size": (640, 0)}, r"size must be \(width, height\), at least 8 x 8 px, not 640 x 0"),
        ({"size": (640, 480, 3)}, "not 640 x 480 x 3"),
        ({"max_side": float("nan")}, "max_side must be at least 8 px"),
        ({"size": (64, 64), "max_side": 64}, "exclude each other"),
        ({"precision": "fp8"}, "precision is 'fp8'; use fp32 or bf16"),
        ({"size": 640}, "size must be .*, not 640; give two whole numbers"),
        ({"size": "640"}, "size must be"),
        ({"size": (640.0, 480.0)}, r"not 640\.0 x 480\.0; give two whole numbers"),
        ({"max_side": "640"}, "max_side must be .*, not '640'"),
        ({"max_side": 640.5}, "max_side must be"),
        ({"threshold": "0.2"}, "threshold must be .*, not '0.2'"),
        ({"rotation": None}, "rotation is None"),
        ({"top_k": 0}, "top_k must be at least 1 match, whole, not 0"),
        ({"top_k": 2.0}, "top_k must be"),
        ({"fast": True}, r"fast compiles for one size; give size \(--resize WIDTH HEIGHT\)"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], words: str) -> None:
    with pytest.raises(S2LDError, match=words):
        fixed(**options)
    if not {"threshold", "top_k"}.isdisjoint(options):
        with pytest.raises(S2LDError, match=words):
            fixed()(np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8), **options)


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_what_pays(monkeypatch: pytest.MonkeyPatch, supported: bool, expected: str) -> None:
    monkeypatch.setattr("s2ld.models.precision.bfloat16_support", lambda device: (supported, device.type))
    assert fixed(precision="auto").precision == expected
    assert fixed().precision == "fp32"


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0 not much of a photograph")
    with pytest.raises(S2LDError, match=r"broken\.jpg: not an image"):
        fixed()(path, path)


def test_devices() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device(torch.device("cpu")).type == "cpu"
    with pytest.raises(S2LDError, match="device 'toaster' cannot be used"):
        choose_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(S2LDError, match="device 'cuda' cannot be used") as caught:
            choose_device("cuda")
        assert "\n" not in str(caught.value)


def leave_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("s2ld.matcher.available_memory", lambda: size)


def test_a_pair_that_would_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_memory(monkeypatch, 2**28)
    image = np.zeros((900, 1200), np.uint8)
    fixed(max_side=400)(image, image)
    with pytest.raises(S2LDError, match=r"1200 x 896 px with 1200 x 896 px takes .* into 0\.2 GiB of") as caught:
        fixed(max_side=-1)(image, image)
    assert "\n" not in str(caught.value)
    with pytest.raises(S2LDError, match=r"does not fit into 0\.2 GiB"):  # before it is resized
        fixed(max_side=10**8).detect(image)


@pytest.mark.parametrize("matching", ["dual_softmax", "sinkhorn"])
def test_the_size_that_is_named_fits_and_the_next_does_not(monkeypatch: pytest.MonkeyPatch, matching: str) -> None:
    images = np.zeros((900, 1200), np.uint8), np.zeros((1500, 700), np.uint8)
    leave_memory(monkeypatch, 2**28)

    def match(side: int) -> None:
        matcher = fixed(max_side=side)
        matcher.model.config = build_config([LITE], ["MODEL.MATCH.TYPE", matching]).MODEL
        matcher(*images)

    with pytest.raises(S2LDError, match="would fit") as caught:
        match(-1)
    found = re.search(r"max_side \(--resize\) (\d+) would fit$", str(caught.value))
    assert found
    match(int(found[1]))
    with pytest.raises(S2LDError, match=f"max_side \\(--resize\\) {found[1]} would fit"):
        match(int(found[1]) + 8)
    leave_memory(monkeypatch, 1000)
    with pytest.raises(S2LDError, match="end other programs"):
        match(-1)


def test_large_pairs_fit_where_no_confidence_matrix_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_memory(monkeypatch, 2**30)
    matcher, image = fixed(max_side=-1), np.zeros((1200, 1600), np.uint8)
    matcher(image, image)
    matcher.model.config = build_config([LITE], overrides=["MODEL.MATCH.TYPE", "sinkhorn"]).MODEL
    with pytest.raises(S2LDError, match=r"1600 x 1200 px with 1600 x 1200 px takes .* into 1\.0 GiB"):
        matcher(image, image)


def test_memory_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    matcher, image = fixed(max_side=64), np.zeros((64, 64), np.uint8)
    monkeypatch.setattr(FixedNetwork, "forward", full)
    with pytest.raises(S2LDError, match="64 x 64 px with 64 x 64 px does not fit into the memory of cpu"):
        matcher(image, image)
    monkeypatch.setattr(FixedNetwork, "encode_pair", full, raising=False)
    features = ImageFeatures(
        Features(*torch.zeros(2, 1, 1, 8, 8)), Keypoints(*torch.zeros(3, 1, 1)), torch.zeros(1, 64, 1)
    )
    side = Extracted(features, (64, 64), (1.0, 1.0))
    with pytest.raises(S2LDError, match="memory of cpu; make batch, 2 pairs at once, smaller"):
        matcher.match_many([(side, side)] * 2, batch=2)
    monkeypatch.setattr(FixedNetwork, "forward", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        matcher(image, image)


def test_what_is_no_network_or_no_features_is_said(matcher: Matcher) -> None:
    with pytest.raises(S2LDError, match=r"not a str; Matcher\.from_pretrained loads one"):
        Matcher("s2ld-lite")  # type: ignore[arg-type]
    with pytest.raises(S2LDError, match="match takes what extract returns, not a str"):
        matcher.match("a.jpg", "b.jpg")  # type: ignore[arg-type]
    with pytest.raises(S2LDError, match="batch must be at least 1 pair, not '8'"):
        matcher.match_many([], batch="8")  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["forward", "extract", "detect"])
def test_a_network_says_what_it_takes(lite: S2LD, call: str) -> None:
    run = lite if call == "forward" else getattr(lite, call)
    for image, words in (
        (ImageBatch(torch.zeros(1, 1, 100, 128)), r"sides multiples of 8, not \(1, 1, 100, 128\)"),
        (ImageBatch(torch.zeros(1, 3, 96, 128)), r"grey images \(N, 1, H, W\), .* not \(1, 3, 96, 128\)"),
        (ImageBatch(torch.zeros(96, 128)), r"not \(96, 128\)"),
        (ImageBatch(torch.zeros(1, 1, 96, 128, dtype=torch.uint8)), "grey values in .*, not torch.uint8"),
        (torch.zeros(1, 1, 96, 128), "ImageBatch"),
    ):
        with pytest.raises(S2LDError, match=words):
            run(image, image) if call == "forward" else run(image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_the_default_type_of_torch_does_not_matter(
    lite: S2LD, matcher: Matcher, dtype: torch.dtype, tmp_path: Path
) -> None:
    image0, image1 = photo(96, 128), photo(96, 128, seed=1)
    expected = matcher(image0, image1)
    config = build_config([LITE])
    save_weights(tmp_path / "a.safetensors", lite, config)
    torch.set_default_dtype(dtype)
    try:
        loaded = Matcher.from_pretrained(tmp_path / "a.safetensors", 0.0, 128, "cpu")
        others = [S2LD(config.MODEL)] if dtype == torch.float64 else []  # in float16 it loses its weights' last bits
        for own in others:
            own.load_state_dict(lite.state_dict())
        for one in (matcher, loaded, *(Matcher(own, 0.0, 128, "cpu") for own in others)):
            found = one(image0, image1)
            assert len(found) == len(expected)
            assert np.allclose(found.points1, expected.points1, atol=1e-3)
            assert found.points0.dtype == np.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_matchers_pickle_and_fast_ones_are_compiled_where_they_arrive(
    matcher: Matcher, lite: S2LD, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photo(96, 128)
    expected = matcher(image, image)
    assert np.array_equal(pickle.loads(pickle.dumps(matcher))(image, image).points1, expected.points1)
    compiled: list[str] = []

    def compile_nothing(function: Any, **_: Any) -> Any:
        compiled.append(function.__name__)
        return lambda *arguments: function(*arguments)  # pickles as little as compiled code

    monkeypatch.setattr(torch, "compile", compile_nothing)
    fast = Matcher(lite, 0.0, size=(128, 96), fast=True, device="cpu")
    assert compiled == ["extract", "encode_pair"]
    arrived = pickle.loads(pickle.dumps(fast))
    assert compiled == ["extract", "encode_pair"] * 2
    assert "extract" in vars(fast.model)
    assert np.allclose(arrived(image, image).points1, expected.points1, atol=1e-3)
