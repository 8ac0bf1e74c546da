"""Synthetic scenes on disk: what is read back is what was drawn."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from s2ld.cli.data import write_synthetic
from s2ld.config import CN, build_config
from s2ld.data.images.reading import read_image
from s2ld.data.index.files import read_index
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError
from s2ld.geometry.camera import project, unproject

KEYS = ["DATA.IMAGE_SIZE", "[96, 72]", "DATA.SYNTHETIC.TEXTURE_SIDE", "32", "DATA.SYNTHETIC.SUPERSAMPLE", "1"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_megadepth(folder, data_config(), seed=1, scenes=2, views=3)
    return folder


def data_config() -> CN:
    return build_config([], KEYS).DATA


def depth_of(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["depth"])


def test_files_are_what_the_index_says(written: Path) -> None:
    for name in ("synthetic_0000", "synthetic_0001"):
        index = read_index(written / "index" / f"{name}.npz")
        assert len(index) >= 1
        assert index.pairs.max() < len(index.image_paths) <= 3
        assert index.image_sizes is not None
        assert index.image_sizes.tolist() == [[96, 72]] * len(index.image_paths)
        assert ((index.overlap > 0) & (index.overlap <= 1)).all()
        assert index.angle_deg is not None
        assert ((index.angle_deg > 0) & (index.angle_deg < 120)).all()
        for image, depth in zip(index.image_paths, index.depth_paths, strict=True):
            assert read_image(written / image).shape == (72, 96, 3)
            z = depth_of(written / depth)
            assert z.dtype == np.float32
            assert z.shape == (72, 96)


def test_index_needs_no_unpickling(written: Path) -> None:
    with np.load(written / "index" / "synthetic_0000.npz", allow_pickle=False) as index:
        assert {index[key].dtype.hasobject for key in index.files} == {False}


def test_depth_cameras_and_overlap_belong_together(written: Path) -> None:
    """Points of one depth map land on the other's: as many as the stored overlap says, by the full maps."""
    index = read_index(written / "index" / "synthetic_0001.npz")
    for (i, j), stored in zip(index.pairs, index.overlap, strict=True):
        shares = [_share(written, index, a, b) for a, b in ((i, j), (j, i))]
        assert min(shares) == pytest.approx(stored, abs=0.08)


def _share(root: Path, index: object, i: int, j: int) -> float:
    z0, z1 = (depth_of(root / index.depth_paths[k]) for k in (i, j))
    y, x = np.nonzero(z0)
    points = torch.from_numpy(np.stack([x, y], 1)).double()
    K0, K1 = (torch.tensor(index.intrinsics[k]) for k in (i, j))
    relative = index.poses[j] @ np.linalg.inv(index.poses[i])
    local = unproject(points, torch.from_numpy(z0[y, x]).double(), K0) @ relative[:3, :3].T + relative[:3, 3]
    at, z = (part.numpy() for part in project(local, K1))
    pixel = np.rint(at).astype(int)
    inside = (z > 0) & (pixel >= 0).all(1) & (pixel < (96, 72)).all(1)
    column, row = np.where(inside[:, None], pixel, 0).T
    return float((inside & np.isclose(z1[row, column], z, rtol=0.03)).mean())


def test_same_seed_writes_the_same(written: Path, tmp_path: Path) -> None:
    write_megadepth(tmp_path, data_config(), seed=1, scenes=1, views=3)
    for file in sorted(p for p in tmp_path.rglob("*.jpg")):
        assert file.read_bytes() == (written / file.relative_to(tmp_path)).read_bytes()
    assert len(list(tmp_path.rglob("*.h5"))) == 3


def test_bad_requests_are_named(tmp_path: Path) -> None:
    with pytest.raises(S2LDError, match="two views"):
        write_megadepth(tmp_path, data_config(), seed=0, scenes=1, views=1)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(S2LDError, match="cannot write here"):
        write_megadepth(blocked, data_config(), seed=0, scenes=1, views=2)


def test_command_writes_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "data.yaml"
    config.write_text("DATA:\n  SEED: 4\n")
    command = [str(config), str(tmp_path / "out"), "--scenes", "1", "--views", "2", *KEYS]
    assert write_synthetic.script(command) == 0
    assert str(tmp_path / "out" / "index") in capsys.readouterr().out
    assert len(read_index(tmp_path / "out" / "index" / "synthetic_0000.npz")) == 1
    assert write_synthetic.script([str(tmp_path / "no.yaml"), str(tmp_path / "out")]) == 2
    assert "no.yaml" in capsys.readouterr().err
