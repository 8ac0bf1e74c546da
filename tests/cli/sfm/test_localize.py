"""A rendered photograph that is not in the model is posed in it, and one of another place is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rendered_places import KEYS, SIDE

from s2ld.cli.sfm import localize, reconstruct
from s2ld.config import build_config
from s2ld.data.images.photo_files import depth_map
from s2ld.data.index.files import SceneIndex, read_index
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError
from s2ld.sfm.dataset.compare import camera_centres

pycolmap = pytest.importorskip("pycolmap")
HELD_OUT = 3


@dataclass(frozen=True)
class Mapped:
    """A place without one of its photographs."""

    truth: SceneIndex
    photos: Path
    output: Path
    query: Path
    elsewhere: Path


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Mapped:
    folder = tmp_path_factory.mktemp("localize")
    write_megadepth(folder, build_config([], KEYS).DATA, seed=1, scenes=2, views=7)
    truth = read_index(folder / "index/synthetic_0000.npz")
    photos = folder / "photos"
    photos.mkdir()
    for row, path in enumerate(truth.image_paths.tolist()):
        shutil.copy(folder / path, (folder / "query.png") if row == HELD_OUT else photos / Path(path).name)
    suffix = Path(truth.image_paths[0]).suffix
    query = (folder / "query.png").rename(folder / f"query{suffix}")
    elsewhere = sorted((folder / "synthetic_0001/images").iterdir())[0]
    output = folder / "out"
    assert reconstruct.script([str(photos), str(output), "--resize", str(SIDE), "--device", "cpu"]) == 0
    return Mapped(truth, photos, output, query, elsewhere)


def test_a_held_out_view_and_one_of_another_place(mapped: Mapped, capsys: pytest.CaptureFixture[str]) -> None:
    broken = mapped.output.parent / "broken.jpg"
    broken.write_bytes(b"no image")
    words = [str(mapped.output), str(broken), str(mapped.query), str(mapped.elsewhere)]
    assert localize.script(words) == 1
    said = capsys.readouterr()
    assert "1 of 3 photographs localised" in said.out
    assert "broken.jpg: not an image" in said.err
    assert f"{mapped.elsewhere.name}: does not belong to this place: " in said.err
    results = mapped.output / "localized"
    poses = json.loads((results / "poses.json").read_text())
    assert list(poses) == [mapped.query.name, mapped.elsewhere.name]
    found, other = poses.values()
    assert (found["localised"], other["localised"]) == (True, False)
    assert "cam_from_world" not in other
    assert found["inliers"] > 100
    camera = pycolmap.Camera(**found["camera"])
    _is_true(np.array(found["cam_from_world"]), camera, mapped)
    np.testing.assert_allclose(found["centre"], camera_centres(np.array([found["cam_from_world"]]))[0], atol=1e-9)
    for path in (mapped.query, mapped.elsewhere):
        picture = cv2.imread(str(results / f"{path.stem}.jpg"))
        assert picture.shape[:2] == cv2.imread(str(path)).shape[:2]
    assert not (results / "features.cache").exists()


def test_colmaps_text_form_is_what_pycolmap_reads(mapped: Mapped, tmp_path: Path) -> None:
    assert localize.script([str(mapped.output), str(mapped.query), "--output", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out/0"
    (folder / "points3D.txt").write_text("")
    rows = [line.split() for line in (folder / "images.txt").read_text().splitlines() if not line.startswith("#")]
    observed = np.array(rows[1], float).reshape(-1, 3)
    rows[1] = []
    (folder / "images.txt").write_text("\n".join(" ".join(row) for row in rows) + "\n")
    model = pycolmap.Reconstruction(folder)
    (image,) = model.images.values()
    assert image.name == mapped.query.name
    own = pycolmap.Reconstruction(mapped.output / "sparse/0")
    errors = [np.linalg.norm(image.project_point(own.points3D[int(number)].xyz) - [u, v]) for u, v, number in observed]
    assert len(errors) > 100
    assert np.median(errors) < 1.0
    assert max(errors) < 5.0


def test_intrinsics_of_the_user(mapped: Mapped, tmp_path: Path) -> None:
    K = mapped.truth.intrinsics[HELD_OUT]
    numbers = [f"{value:g}" for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])]
    words = [
        str(mapped.output),
        str(mapped.query),
        "--output",
        str(tmp_path),
        "--partners",
        "3",
        "--intrinsics",
        *numbers,
    ]
    done = localize.main(words)
    (found,) = done.found
    assert len(found.references) == 3
    assert found.pose is not None
    assert found.pose.camera.params == pytest.approx(
        np.array([K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5]), rel=1e-4
    )
    _is_true(found.pose.matrix, found.pose.camera, mapped)


def test_bad_input_is_one_line(mapped: Mapped, tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match=r"settings\.json: .*s2ld reconstruct"):
        localize.main([str(tmp_path), str(mapped.query)])
    with pytest.raises(S2LDError, match="missing; say where they are by --photos"):
        localize.main([str(mapped.output), str(mapped.query), "--photos", str(tmp_path)])
    (tmp_path / "other").mkdir()
    shutil.copy(mapped.query, tmp_path / "other")
    with pytest.raises(S2LDError, match="rename one"):
        localize.main([str(mapped.output), str(mapped.query), str(tmp_path / "other")])
    with pytest.raises(S2LDError, match="at least one partner, not 0"):
        localize.main([str(mapped.output), str(mapped.query), "--partners", "0"])
    moved = tmp_path / "moved"
    shutil.copytree(mapped.photos, moved)
    first, second, *_ = sorted(moved.iterdir())
    shutil.copy(second, first)
    with pytest.raises(S2LDError, match="not the photograph that was mapped"):
        localize.main([str(mapped.output), str(mapped.query), "--photos", str(moved)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(S2LDError, match="empty"):
        localize.main([str(mapped.output), str(tmp_path / "empty")])


def _is_true(pose: np.ndarray, camera: Any, mapped: Mapped) -> None:
    """Check that a pose sees the model's points where the rendered depth says that they are.

    Poses themselves tell less: six views of 320 px leave the focal length and thereby the shape of the model open.
    """
    model, truth = pycolmap.Reconstruction(mapped.output / "sparse/0"), mapped.truth
    names = [Path(path).name for path in truth.image_paths.tolist()]
    errors = []
    for number in model.reg_image_ids():
        row = names.index(model.images[number].name)
        depth = depth_map(mapped.photos.parent / truth.depth_paths[row])
        seen = [p for p in model.images[number].points2D if p.has_point3D()]
        pixels = np.array([p.xy for p in seen]) - 0.5
        column, line = np.rint(pixels).astype(int).T
        rays = np.hstack([pixels, np.ones((len(pixels), 1))]) @ np.linalg.inv(truth.intrinsics[row]).T
        local = np.hstack([rays * depth[line, column, None], np.ones((len(pixels), 1))])
        there = local @ np.linalg.inv(truth.poses[row]).T @ truth.poses[HELD_OUT].T
        true = there[:, :3] @ truth.intrinsics[HELD_OUT].T
        own = np.array([model.points3D[p.point3D_id].xyz for p in seen]) @ pose[:3, :3].T + pose[:3, 3]
        kept = (depth[line, column] > 0) & (own[:, 2] > 0)
        found = camera.img_from_cam(own[kept]) - 0.5
        errors += np.linalg.norm(found - true[kept, :2] / true[kept, 2:], axis=1).tolist()
    assert np.median(errors) < 1.5
