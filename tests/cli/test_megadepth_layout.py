"""The README's training on MegaDepth, on real scenes that are laid out as MegaDepth by symbolic links."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2ld.cli.train.train import main

ROOT = Path(__file__).resolve().parents[2]
SCENES = ROOT.parent / "shared/real_scenes"
COMMAND = ["configs/data/megadepth_trainval_640.yaml", "configs/s2ld/outdoor/s2ld_kp_ds_dense.yaml"]


def lay_out(folder: Path) -> None:
    """Link data and index files as data/README.md says; which scenes train and which validate, as the mixture does."""
    (folder / "configs").symlink_to(ROOT / "configs")
    data = folder / "data/megadepth"
    for scene in (path for path in SCENES.iterdir() if (path / "images").is_dir()):
        for part in ("train", "test"):
            (data / part).mkdir(parents=True, exist_ok=True)
            (data / part / scene.name).symlink_to(scene)
    lists = data / "index/trainvaltest_list"
    lists.mkdir(parents=True)
    for name, index in (("train", "scene_info_0.1_0.7"), ("val", "scene_info_val_1500")):
        names = (ROOT / f"configs/data/real_scenes_{name}.txt").read_text()
        (lists / f"{name}_list.txt").write_text(names)
        (data / "index" / index).mkdir()
        for scene in names.split():
            (data / "index" / index / f"{scene}.npz").symlink_to(SCENES / "index" / f"{scene}.npz")


@pytest.mark.skipif(not SCENES.is_dir(), reason="needs ../shared")
def test_the_command_of_the_readme_trains_on_real_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    small = ["DATA.IMAGE_SIZE", "[160,160]", "DATA.WORKERS", "0"]
    result = main([*COMMAND, "--accelerator", "cpu", "--fast-dev-run", *small])
    assert result.steps == 1
    assert result.metrics["train/true_matches"] > 0
    assert result.metrics["train/gradient_norm"] > 0
    assert "val_megadepth/matches" in result.metrics
