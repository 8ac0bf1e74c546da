"""`s2ld benchmark localize` on a rendered place, and its errors on poses made by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rendered_places import KEYS, SIDE

from s2ld.benchmarks.localisation import errors_of
from s2ld.cli.benchmarks.localize import main, script
from s2ld.config import build_config
from s2ld.data.index.files import SceneIndex
from s2ld.data.synthetic.export import write_megadepth
from s2ld.errors import S2LDError


def pose(centre: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """World to camera, (4, 4)."""
    made = np.eye(4)
    made[:3, :3] = turn
    made[:3, 3] = -turn @ centre
    return made


def test_errors_are_those_that_were_made() -> None:
    random = np.random.default_rng(0)
    centres = random.normal(size=(5, 3))
    turns = [cv2.Rodrigues(random.normal(size=3))[0] for _ in range(5)]
    truth = np.stack([pose(*pair) for pair in zip(centres, turns, strict=True)])
    names = np.array([f"s/images/{i}.jpg" for i in range(5)])
    scene = SceneIndex("s", names, names, np.tile(np.eye(3), (5, 1, 1)), truth, np.zeros((0, 2), int), np.zeros(0))
    scale, R, t = 2.5, cv2.Rodrigues(np.array([0.3, -1.0, 2.0]))[0], np.array([1.0, 2, 3])
    moved = [pose(scale * R @ centre + t, turn @ R.T) for centre, turn in zip(centres, turns, strict=True)]
    images = {i: _image(f"{i}.jpg", moved[i]) for i in range(4)}
    model = SimpleNamespace(images=images, reg_image_ids=lambda: list(images))
    exact = errors_of(model, scene, {"4.jpg": moved[4]}, 2)
    assert (exact.held_out, exact.degrees.shape) == (2, (1,))
    np.testing.assert_allclose([exact.degrees[0], exact.position[0]], 0, atol=1e-5)
    extent = np.linalg.norm(centres[:, None] - centres, axis=2).max()
    off = cv2.Rodrigues(np.array([0, np.radians(4), 0]))[0]
    wrong = pose(scale * R @ (centres[4] + [0, 0, 0.1 * extent]) + t, off @ turns[4] @ R.T)
    found = errors_of(model, scene, {"4.jpg": wrong}, 1)
    np.testing.assert_allclose([found.degrees[0], found.position[0]], [4, 0.1], atol=1e-5)
    assert len(errors_of(model, scene, {}, 1).degrees) == 0


def _image(name: str, matrix: np.ndarray) -> SimpleNamespace:
    return SimpleNamespace(name=name, cam_from_world=lambda: SimpleNamespace(matrix=lambda: matrix[:3]))


def test_a_place_is_localised_by_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycolmap")
    write_megadepth(tmp_path, build_config([], KEYS).DATA, seed=1, scenes=1, views=8)
    index = tmp_path / "index/synthetic_0000.npz"
    words = [
        str(tmp_path / "out"),
        str(index),
        "--leave",
        "2",
        "--resize",
        str(SIDE),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    table = main(words)
    assert table == (tmp_path / "out/table.md").read_text()
    assert capsys.readouterr().out.endswith(table)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert [row[:3] for row in rows] == [["synthetic_0000", "s2ld", "2 of 2"], ["synthetic_0000", "sift", "2 of 2"]]
    assert all(float(cell) > 0 for row in rows for cell in row[3:])
    held_out = sorted(path.name for path in (tmp_path / "out/synthetic_0000/held_out").iterdir())
    assert len(held_out) == 2
    assert not {*held_out} & {path.name for path in (tmp_path / "out/synthetic_0000/photos").iterdir()}


def test_bad_arguments(tmp_path: Path) -> None:
    write_megadepth(tmp_path, build_config([], KEYS).DATA, seed=1, scenes=1, views=3)
    index = str(tmp_path / "index/synthetic_0000.npz")
    with pytest.raises(S2LDError, match="--leave must be at least 1"):
        main([str(tmp_path / "out"), index, "--leave", "0"])
    with pytest.raises(S2LDError, match="3 photographs; 2 held out leave less than 3"):
        main([str(tmp_path / "out"), index, "--leave", "2"])
    assert script([str(tmp_path / "out"), str(tmp_path / "none.npz")]) == 2
