"""Training data in archives: the same pairs come out of them on the other side."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2ld.cli.pack_training import main, script
from s2ld.config import CN, build_config
from s2ld.data.sample import PairSample
from s2ld.data.sources import build_source
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError

SMALL = [
    *("DATA.PHOTOS", "../shared/photos", "DATA.PHOTOS_EXCLUDE", "['no_']", "DATA.TRAIN_SOURCES", "['megadepth']"),
    *("DATA.MEGADEPTH.ROOT", "../shared/scenes", "DATA.MEGADEPTH.INDEX", "../shared/scenes/index"),
    *("DATA.VAL_SOURCES", "['posed_pairs']", "DATA.POSED_PAIRS.ROOT", "../shared/posed/walls"),
    *("DATA.IMAGE_SIZE", "[48,32]", "DATA.PHOTOMETRIC.ENABLED", "False", "DATA.SYNTHETIC.TEXTURE_SIDE", "64"),
]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout to work in, with data beside it: three photographs, a rendered scene of 96x64 px, a list of pairs."""
    photos, posed = tmp_path / "shared/photos", tmp_path / "shared/posed/walls"
    photos.mkdir(parents=True)
    posed.mkdir(parents=True)
    posed.joinpath("pairs.json").write_text("[]")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "no_c"):
        noise = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), (120, 90), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(photos / f"{name}.jpg"), noise)
    rendered = build_config(overrides=["DATA.IMAGE_SIZE", "[96,64]", "DATA.SYNTHETIC.TEXTURE_SIDE", "64"]).DATA
    write_megadepth(tmp_path / "shared/scenes", rendered, 1, 1, 3)
    folder = tmp_path / "checkout"
    folder.mkdir()
    folder.joinpath("data.yaml").write_text("DATA: {}\n")
    monkeypatch.chdir(folder)
    return folder


def config() -> CN:
    return build_config(overrides=SMALL)


def pairs() -> list[PairSample]:
    source = build_source("megadepth", config(), "train")
    return [source[index] for index in range(4)]


def repacked(checkout: Path, *options: str) -> None:
    """Pack what is beside the checkout, take it away, and unpack the archives one by one."""
    assert isinstance(main(["data.yaml", *options, *SMALL]), Path)
    shutil.rmtree(checkout.parent / "shared")
    archives = sorted((checkout / ".packs").glob("*.tar"))
    for number, archive in enumerate(archives, 1):
        one = checkout / "one"
        one.mkdir()
        shutil.copy(archive, one)
        shutil.copy(checkout / ".packs/training.parts.json", one)
        missing = main(["--unpack", "one/training.parts.json"])
        assert missing == [path.name for path in archives[number:]]
        shutil.rmtree(one)


@pytest.mark.parametrize("side", [0, 96])
def test_what_is_small_enough_comes_out_as_it_went_in(checkout: Path, side: int) -> None:
    before, photo = pairs(), Path("../shared/photos/a.jpg").read_bytes()
    repacked(checkout, "--long_side", str(side), "--quality", "100")
    assert sorted(path.name for path in Path("../shared/photos").iterdir()) == ["a.jpg", "b.jpg"]
    assert (Path("../shared/photos/a.jpg").read_bytes() == photo) == (side == 0)
    assert Path("../shared/posed/walls/pairs.json").read_text() == "[]"
    for old, new in zip(before, pairs(), strict=True):
        assert torch.equal(old.T_0to1, new.T_0to1)
        for view, again in ((old.view0, new.view0), (old.view1, new.view1)):
            assert torch.equal(view.image, again.image)
            assert view.depth is not None
            assert again.depth is not None
            assert torch.equal(view.depth, again.depth)
            torch.testing.assert_close(view.K, again.K)


def test_what_validation_sets_test_is_packed(checkout: Path) -> None:
    scenes = "MEGADEPTH: {TEST_ROOT: ../shared/scenes, TEST_INDEX: ../shared/scenes/index, TEST_DEPTH: True}"
    checkout.joinpath("scenes.yaml").write_text(f"DATA: {{TEST_SOURCE: megadepth, {scenes}}}\n")
    posed = "POSED_PAIRS: {ROOT: ../shared/posed/walls}"
    checkout.joinpath("posed.yaml").write_text(f"DATA: {{TEST_SOURCE: posed_pairs, {posed}}}\n")
    sets = ["DATA.VAL_SETS", "['scenes.yaml', 'posed.yaml']", "DATA.VAL_SOURCES", "[]", "DATA.PHOTOS", ""]
    assert isinstance(main(["data.yaml", *sets, "DATA.TRAIN_SOURCES", "['synthetic']"]), Path)
    shutil.rmtree(checkout.parent / "shared")
    assert main(["--unpack", ".packs/training.parts.json"]) == []
    assert Path("../shared/posed/walls/pairs.json").read_text() == "[]"
    pair = build_source("megadepth", build_config(["scenes.yaml"]), "test")[0]
    assert pair.view0.depth is not None
    assert bool(pair.view0.depth.any())


@pytest.mark.parametrize("centre", ["integer", "half"])
def test_smaller_images_keep_their_cameras_and_depth(
    checkout: Path, centre: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SMALL", [*SMALL, "DATA.MEGADEPTH.PRINCIPAL_POINT", centre])
    before = pairs()
    main(["data.yaml", "--size", "0.032", *SMALL])  # more archives, which the next ones replace
    repacked(checkout, "--long_side", "48", "--size", "0.03")
    assert len(list((checkout / ".packs").glob("*.tar"))) > 1
    for old, new in zip(before, pairs(), strict=True):
        for view, again in ((old.view0, new.view0), (old.view1, new.view1)):
            torch.testing.assert_close(view.K, again.K)
            assert float((view.image - again.image).abs().mean()) < 0.03
            assert view.depth is not None
            assert again.depth is not None
            assert torch.equal(view.depth, again.depth)  # of the same pixel of the same map


def test_bad_input_is_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        [],
        ["data.yaml", "--unpack", "x"],
        ["data.yaml", "--quality", "0", *SMALL],
        ["data.yaml", "--size", "0.001", *SMALL],
        ["data.yaml", *SMALL, "DATA.PHOTOS", str(checkout.parent / "shared/photos")],
        ["data.yaml", *SMALL, "DATA.PHOTOS", "../shared/absent"],
        ["--unpack", "absent.parts.json"],
    ):
        assert script(arguments) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pack_training.py: ")]
        assert len(lines) == 1


def test_a_damaged_archive_is_not_unpacked(checkout: Path) -> None:
    main(["data.yaml", *SMALL])
    shutil.rmtree(checkout.parent / "shared")
    (archive,) = (checkout / ".packs").glob("*.tar")
    archive.write_bytes(archive.read_bytes()[:-1] + b"x")
    with pytest.raises(S2LDError, match="damaged"):
        main(["--unpack", ".packs/training.parts.json"])
    assert not (checkout.parent / "shared").exists()


def test_a_full_disk_is_one_line(checkout: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(S2LDError, match=r"a\.jpg: cannot write this file \(File too large\)") as refused:
            main(["data.yaml", *SMALL])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(refused.value)
