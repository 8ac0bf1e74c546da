"""`demo_match.py`: pairs in, files out, exit statuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import combinations, groupby, permutations
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld import Matcher
from s2ld.cli.match.demo import script as main
from s2ld.cli.match.pairs import TILE, all_pairs
from s2ld.config import build_config
from s2ld.data.images.reading import read_image
from s2ld.models.backbones import LiteBackbone
from s2ld.models.checkpoint import save_weights
from s2ld.models.network import S2LD
from s2ld.pair_matching import PairMatching
from s2ld.types import Features

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Untrained weights that call everything a match."""
    torch.manual_seed(3)
    config = build_config([ROOT / "configs/s2ld/outdoor/s2ld_lite.yaml"], ["MODEL.MATCH.THRESHOLD", "0.0"])
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(path, S2LD(config.MODEL).state_dict(), config)
    return str(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders a (1.png .. 3.png) and b (1.jpg .. 3.jpg), of unlike sizes, and a text file among them."""
    for folder, size, suffix in (("a", (128, 96), "png"), ("b", (90, 120), "jpg")):
        (tmp_path / folder).mkdir()
        for i in (1, 2, 3):
            noise = np.random.default_rng(i).integers(0, 256, (16, 20, 3), np.uint8)
            picture = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(tmp_path / folder / f"{i}.{suffix}"), picture)
    (tmp_path / "a" / "notes.txt").write_text("a b")
    return tmp_path


def run(photos: Path, weights: str, *arguments: str) -> int:
    options = ["--weight", weights, "--resize", "128", "--device", "cpu", "--output", str(photos / "out")]
    return main([*arguments, *options])


def written(photos: Path) -> set[str]:
    return {path.name for path in (photos / "out").iterdir()}


def files_of(*names: str) -> set[str]:
    return {f"{name}.{suffix}" for name in names for suffix in ("jpg", "npz", "csv")}


def test_two_images(photos: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(photos, weights, str(photos / "a/1.png"), str(photos / "b/1.jpg")) == 0
    assert written(photos) == files_of("1-1")
    with np.load(photos / "out/1-1.npz") as data:
        arrays = dict(data)
    table = np.genfromtxt(photos / "out/1-1.csv", delimiter=",", names=True)
    count = len(arrays["points0"])
    assert count > 0
    assert f"1.png - 1.jpg: {count} matches" in capsys.readouterr().out
    assert set(arrays) == {"points0", "points1", "confidence", "score"}
    assert table.dtype.names == ("x0", "y0", "x1", "y1", "confidence", "score")
    assert np.allclose(np.stack([table["x1"], table["y1"]], 1), arrays["points1"], atol=1e-3)
    assert np.allclose(table["confidence"], arrays["confidence"], atol=1e-5)
    picture = cv2.imread(str(photos / "out/1-1.jpg"))
    assert picture is not None
    assert picture.shape[1] > 640 + 300


def test_turned_images_and_their_folder(photos: Path, weights: str) -> None:
    turned = cv2.rotate(cv2.imread(str(photos / "a/1.png")), cv2.ROTATE_90_CLOCKWISE)
    cv2.imwrite(str(photos / "a/2.png"), turned)
    assert run(photos, weights, "--image-dir", str(photos / "a"), "--rotation", "auto") == 0
    assert written(photos) == files_of("1-2", "1-3", "2-3")
    assert run(photos, weights, str(photos / "a/1.png"), str(photos / "a/1.png")) == 0
    with np.load(photos / "out/1-2.npz") as after, np.load(photos / "out/1-1.npz") as before:
        assert len(before["points1"]) > 50
        x, y = before["points1"].T
        assert np.allclose(after["points1"], np.stack([95 - y, x], 1), atol=1e-3)


def test_no_match_is_no_error(photos: Path, weights: str) -> None:
    assert run(photos, weights, str(photos / "a/1.png"), str(photos / "b/1.jpg"), "--threshold", "0.9999") == 0
    assert (photos / "out/1-1.csv").read_text().splitlines() == ["x0,y0,x1,y1,confidence,score"]


@pytest.mark.parametrize("kind", ["homography", "fundamental", "essential"])
def test_estimates(photos: Path, weights: str, kind: str) -> None:
    image = str(photos / "a/1.png")
    camera = ["--intrinsics", "120", "120", "63.5", "47.5"] if kind == "essential" else []
    assert run(photos, weights, image, image, "--estimate", kind, *camera) == 0
    with np.load(photos / "out/1-1.npz") as data:
        matrix, inliers, points = data[kind], data["inliers"], data["points0"]
    assert matrix.shape == (3, 3)
    assert inliers.shape == (len(points),)
    assert inliers.dtype == bool
    table = np.genfromtxt(photos / "out/1-1.csv", delimiter=",", names=True)
    assert np.array_equal(table["inlier"] == 1, inliers)


def test_two_folders_by_name(photos: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(photos, weights, "--image-dir0", str(photos / "a"), "--image-dir1", str(photos / "b")) == 0
    assert written(photos) == files_of("1-1", "2-2", "3-3")
    assert "3 pairs, 0 images or pairs skipped" in capsys.readouterr().out


def test_a_broken_and_a_lonely_image_are_skipped_and_counted(
    photos: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b/2.jpg").write_bytes(b"broken")
    (photos / "b/3.jpg").rename(photos / "b/4.jpg")
    assert run(photos, weights, "--image-dir0", str(photos / "a"), "--image-dir1", str(photos / "b")) == 1
    assert written(photos) == files_of("1-1")
    out, err = capsys.readouterr()
    skipped = [line for line in err.splitlines() if "warning: skipped " in line]
    assert [Path(line.partition(" skipped ")[2].split(": ")[0]).name for line in skipped] == ["3.png", "4.jpg", "2.jpg"]
    assert "2 pairs, 3 images or pairs skipped" in out


def test_a_list_of_pairs(photos: Path, weights: str) -> None:
    text = "# pairs\n\na/1.png b/1.jpg\na/1.png\tb/2.jpg\na/3.png, b/3.jpg\na/3.png, b/3.jpg\n"
    (photos / "pairs.txt").write_text(text)
    assert run(photos, weights, "--pairs", str(photos / "pairs.txt")) == 0
    assert written(photos) == files_of("1-1", "1-2", "3-3", "3-3-2")


def count_images(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of images of each pass through the backbone."""
    passes: list[int] = []
    original = LiteBackbone.forward

    def counted(self: LiteBackbone, image: torch.Tensor) -> Features:
        passes.append(len(image))
        return original(self, image)

    monkeypatch.setattr(LiteBackbone, "forward", counted)
    return passes


def test_all_pairs_of_a_folder_cost_one_extraction_an_image(
    photos: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in (4, 5):
        shutil.copy(photos / f"b/{i - 2}.jpg", photos / f"a/{i}.jpg")
    passes = count_images(monkeypatch)
    assert run(photos, weights, "--image-dir", str(photos / "a")) == 0
    assert passes == [1] * 5
    assert written(photos) == files_of(*(f"{i}-{j}" for i, j in combinations(range(1, 6), 2)))
    with np.load(photos / "out/1-2.npz") as data:
        many = dict(data)
    assert run(photos, weights, str(photos / "a/1.png"), str(photos / "a/2.png")) == 0
    assert passes == [1] * (5 + 2)
    with np.load(photos / "out/1-2.npz") as data:
        assert len(data["points0"]) > 0
        assert all(np.allclose(many[name], data[name], atol=1e-3) for name in many)


def test_what_the_limit_gives_up_is_extracted_again(
    photos: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matcher = Matcher.from_pretrained(weights, max_side=128, device="cpu")
    paths = sorted((photos / "a").glob("*.png"))
    images = dict(zip(paths, map(read_image, paths), strict=True))
    size = matcher.extract(paths[0]).features.nbytes  # of every image here
    pairs = list(permutations(paths, 2))
    for kept, expected in ((3, 3), (2, 8), (0, 12)):
        passes = count_images(monkeypatch)
        matching = PairMatching(matcher, pairs, kept * size)
        for pair in pairs:
            matching(pair, images[pair[0]], images[pair[1]])
        assert len(passes) == expected
        monkeypatch.undo()


def test_tiles_hold_every_pair_once(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}.png").touch()
    pairs = [(int(a.stem), int(b.stem)) for a, b in all_pairs(tmp_path)]
    assert sorted(pairs) == list(combinations(range(20), 2))
    tiles = [tile for tile, _ in groupby((i // TILE, j // TILE) for i, j in pairs)]
    assert 1 < len(tiles) == len(set(tiles))  # none is left and come back to


@pytest.mark.parametrize(
    ("resize", "last"), [(["64"], (64, 48)), (["64", "64"], (64, 64)), (["-1"], (128, 96)), ([], (640, 480))]
)
def test_resize(
    photos: Path, weights: str, resize: list[str], last: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, int]] = []
    original = S2LD.forward
    monkeypatch.setattr(
        S2LD, "forward", lambda self, a, b: (shown.append(a.image.shape[:1:-1]), original(self, a, b))[1]
    )
    option = ["--resize", *resize] if resize else []
    image = str(photos / "a/1.png")
    assert main([image, image, *option, "--weight", weights, "--device", "cpu", "--output", str(photos / "out")]) == 0
    assert shown == [last]


BAD = [
    (["a/1.png"], "two images"),
    (["a/1.png", "a/2.png", "a/3.png"], "two images"),
    (["a/1.png", "b/9.jpg"], "b/9.jpg: cannot read this image"),
    (["a/1.png", "a/notes.txt"], "not an image"),
    (["a/1.png", "b/1.jpg", "--pairs", "x"], "exclude each other"),
    (["--image-dir0", "a"], "belong together"),
    (["--image-dir", "a", "--image-dir0", "a"], "exclude each other"),
    (["--image-dir", "one"], "one image makes no pair"),
    (["--image-dir0", "a", "--image-dir1", "none"], "no such folder"),
    (["--image-dir0", "a", "--image-dir1", "."], "no images in this folder"),
    (["--pairs", "none.txt"], "cannot read this list"),
    (["--pairs", "a/1.png"], "not a text file"),
    (["--pairs", "empty.txt"], "no pairs"),
    (["--pairs", "a/notes.txt"], "a/a: cannot read this image"),
    (["--pairs", "three.txt"], "three.txt:1: a line must hold two image paths, not 3"),
    (["a/1.png", "b/1.jpg", "--estimate", "essential"], "needs --intrinsics"),
    (["a/1.png", "b/1.jpg", "--intrinsics", "1", "1", "1", "1"], "only used by --estimate essential"),
    (["a/1.png", "b/1.jpg", "--estimate", "essential", "--intrinsics", "1", "2"], "4 or 8 numbers"),
    (["a/1.png", "b/1.jpg", "--estimate", "essential", "--intrinsics", "0", "2", "3", "4"], "must be positive"),
    (["a/1.png", "b/1.jpg", "--inlier-threshold", "0"], "must be positive"),
    (["a/1.png", "b/1.jpg", "--lines", "-1"], "at least 0"),
    (["a/1.png", "b/1.jpg", "--inlier-threshold", "nan"], "must be positive"),
    (["a/1.png", "b/1.jpg", "--estimate", "essential", "--intrinsics", "9", "9", "nan", "4"], "finite numbers"),
    (["a/1.png", "b/1.jpg", "--resize", "99999999"], "does not fit into"),
    (["a/1.png", "a"], "a: cannot read this image"),
    (["a/1.png", "b/1.jpg", "--threshold", "7"], "threshold must be in"),
    (["a/1.png", "b/1.jpg", "--device", "toaster"], "device 'toaster'"),
    (["a/1.png", "b/1.jpg", "--resize", "1", "2", "3"], "one or two numbers"),
    (["a/1.png", "b/1.jpg", "--resize", "0"], "at least 8"),
    (["a/1.png", "b/1.jpg", "--resize", "64", "--fast"], "give size (--resize WIDTH HEIGHT)"),
    (["a/1.png", "b/1.jpg", "--resize", "64", "64", "--fast", "--rotation", "auto"], "leave out one of them"),
    (["a/1.png", "b/1.jpg", "--output", "a/notes.txt"], "cannot create this output folder"),
    (["a/1.png", "b/1.jpg", "--weight", "./weights/s2ld-e2e-inference.pt"], "drive.google.com"),
    (["a/1.png", "b/1.jpg", "--weight", "a/notes.txt"], "notes.txt"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_bad_input_is_one_line_and_status_2(
    photos: Path,
    weights: str,
    arguments: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(photos)
    (photos / "one").mkdir()
    (photos / "one/1.png").touch()
    (photos / "empty.txt").write_text("# nothing\n")
    (photos / "three.txt").write_text("a b c\n")
    option = [] if "--weight" in arguments else ["--weight", weights]
    assert main([*arguments, *option]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("s2ld match: ")
    assert err.count("\n") == 1
    assert words in err
    assert out == ""


def test_an_interrupt_keeps_what_is_done_and_leaves_nothing_half(
    photos: Path, weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = np.savetxt
    calls = []

    def stop_in_the_second(*args: object, **options: object) -> None:
        calls.append(args)
        original(*args, **options)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(np, "savetxt", stop_in_the_second)
    assert run(photos, weights, "--image-dir0", str(photos / "a"), "--image-dir1", str(photos / "b")) == 130
    assert written(photos) == files_of("1-1") | {"2-2.npz"}
    with np.load(photos / "out/2-2.npz") as data:
        assert len(data["points0"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s2ld match: ")]
    assert lines == [f"s2ld match: interrupted; 1 of 3 pairs are done, see {photos / 'out'}"]


def test_names_that_matplotlib_would_read_as_formulas(photos: Path, weights: str) -> None:
    (photos / "a/1.png").rename(photos / "a/$^$_{x.png")
    assert run(photos, weights, str(photos / "a/$^$_{x.png"), str(photos / "b/1.jpg")) == 0
    assert written(photos) == files_of("$^$_{x-1")


def test_names_that_are_not_utf8(photos: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    os.replace(photos / "a/1.png", os.fsencode(photos) + b"/a/fa\xe7ade.png")
    (photos / "a/clip.gif").touch()
    assert run(photos, weights, "--image-dir", str(photos / "a")) == 1
    out, err = capsys.readouterr()
    pictures = {os.fsencode(path.name) for path in (photos / "out").glob("*.jpg")}
    assert pictures == {b"2-3.jpg", b"2-fa\xe7ade.jpg", b"3-fa\xe7ade.jpg"}
    assert "2.png - fa\\udce7ade.png: " in out
    assert f"skipped {photos / 'a/clip.gif'}: pictures of this kind are not read" in err


def test_images_behind_resize(photos: Path, weights: str) -> None:
    images = [str(photos / "a/1.png"), str(photos / "b/1.jpg")]
    assert main(["--weight", weights, "--output", str(photos / "out"), "--resize", "128", *images]) == 0
    assert written(photos) == files_of("1-1")


def test_folders_of_unlike_names_and_counts(photos: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    for i in (1, 2, 3):
        (photos / f"b/{i}.jpg").rename(photos / f"b/x{i}.jpg")
    assert run(photos, weights, "--image-dir0", str(photos / "a"), "--image-dir1", str(photos / "b")) == 0
    assert written(photos) == files_of("1-x1", "2-x2", "3-x3")
    (photos / "b/x3.jpg").unlink()
    assert run(photos, weights, "--image-dir0", str(photos / "a"), "--image-dir1", str(photos / "b")) == 2
    assert "has 3 images" in capsys.readouterr().err


def test_without_arguments_it_checks_against_the_true_disparity(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("skimage")
    options = ["--weight", weights, "--device", "cpu", "--resize", "160", "--output", str(tmp_path)]
    assert main([*options, "--estimate", "essential"]) == 0
    out = capsys.readouterr().out
    assert "right within 1 px:" in out
    assert "px at 640 px long side" in out
    assert {path.name for path in tmp_path.iterdir()} == files_of("motorcycle")


def test_without_scikit_image_the_remedy_is_named(
    weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    assert main(["--weight", weights]) == 2
    assert 'pip install "s2ld[demo]"' in capsys.readouterr().err


def test_the_script_helps_without_loading_the_network() -> None:
    code = (
        "import json, runpy, sys; sys.argv = ['demo_match.py', '--help']\n"
        "try: runpy.run_path('demo_match.py', run_name='__main__')\n"
        "except SystemExit as end: print(json.dumps([end.code, 'torch' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert "--image-dir0" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == [0, False]
